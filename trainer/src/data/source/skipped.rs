//! Skipped files of a data set, counted by reason.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};

use serde::{Deserialize, Serialize};

use crate::util::endings::ending;
use crate::util::printable::printable;

/// Longest file extension; a longer one is part of the name.
const MAX_ENDING: usize = 10;
/// Number of reasons to list in a line.
const SHOWN: usize = 8;

/// Reason why a file is skipped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SkipReason {
    /// The extension does not belong to an image or to another file of the data set.
    Ending {
        /// File extension in lower case, without its dot; empty if the name has none.
        ending: String,
    },
    /// A file or folder that is hidden or created by an operating system; or one in such a folder
    /// of an archive.
    Hidden,
    /// A FIFO, a socket or a device; in an archive also a link.
    NotRegular,
    /// A link to a folder, inside a class folder.
    LinkedFolder,
    /// An image outside the class folders.
    OutsideClass,
    /// A second image of a sample, in a shard.
    ExtraImage,
    /// A label or description without an image, in a shard.
    LabelAlone,
    /// An archive entry that is replaced by a later one of the same name.
    Replaced,
    /// A shard whose name contains another split, or none beside others that contain one.
    OtherSplit,
    /// A folder with runs, features, weights or shards of this program, among class folders.
    Run,
    /// A file or folder of another kind of data set.
    OtherKind,
}

/// Files that are skipped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedFiles {
    /// The reason.
    #[serde(flatten)]
    pub reason: SkipReason,
    /// Number of files; a folder that is not searched counts as one.
    pub files: usize,
    /// The first of these files.
    pub example: String,
}

/// Skipped files of a data set, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<SkippedFiles>", into = "Vec<SkippedFiles>")]
pub struct Skipped(BTreeMap<SkipReason, (usize, String)>);

impl Skipped {
    /// Counts a file; `name` is its path.
    pub(crate) fn add(&mut self, reason: SkipReason, name: &str) {
        self.count(reason, 1, name);
    }

    /// Counts a file with an unsupported extension.
    pub(crate) fn add_ending(&mut self, name: &str) {
        let known = |ending: &&str| {
            ending.len() <= MAX_ENDING && ending.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        let ending = Some(ending(name)).filter(known).unwrap_or_default().to_lowercase();
        self.add(SkipReason::Ending { ending }, name);
    }

    /// Adds the counts of another part of the data set.
    pub(crate) fn merge(&mut self, other: &Self) {
        for SkippedFiles { reason, files, example } in other.iter() {
            self.count(reason, files, &example);
        }
    }

    fn count(&mut self, reason: SkipReason, files: usize, example: &str) {
        self.0.entry(reason).or_insert_with(|| (0, example.into())).0 += files;
    }

    /// Returns true if no file was skipped.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of skipped files.
    pub fn files(&self) -> usize {
        self.0.values().map(|(files, _)| files).sum()
    }

    /// Returns the reasons in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = SkippedFiles> + '_ {
        self.0.iter().map(|(reason, (files, example))| SkippedFiles {
            reason: reason.clone(),
            files: *files,
            example: example.clone(),
        })
    }
}

impl From<Vec<SkippedFiles>> for Skipped {
    fn from(list: Vec<SkippedFiles>) -> Self {
        Self(list.into_iter().map(|s| (s.reason, (s.files, s.example))).collect())
    }
}

impl From<Skipped> for Vec<SkippedFiles> {
    fn from(skipped: Skipped) -> Self {
        skipped.iter().collect()
    }
}

impl Display for SkipReason {
    fn fmt(&self, f: &mut Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ending { ending } if ending.is_empty() => "without a known ending",
            Self::Ending { ending } => return write!(f, ".{ending}"),
            Self::Hidden => "hidden or of the system",
            Self::NotRegular => "not regular files",
            Self::LinkedFolder => "links to folders",
            Self::OutsideClass => "in no class folder",
            Self::ExtraImage => "further images of a sample",
            Self::LabelAlone => "labels without an image",
            Self::Replaced => "replaced by later entries of the same name",
            Self::OtherSplit => "of another split or none by name",
            Self::Run => "folders that this program wrote",
            Self::OtherKind => "of another kind of data set",
        })
    }
}

/// Formats one line: the number of files, and the reasons with an example each, the most frequent
/// first.
impl Display for Skipped {
    fn fmt(&self, f: &mut Formatter) -> std::fmt::Result {
        let mut list: Vec<SkippedFiles> = self.iter().collect();
        list.sort_by_key(|of| std::cmp::Reverse(of.files));
        let files = self.files();
        write!(f, "{files} file{}: ", if files == 1 { "" } else { "s" })?;
        for (number, SkippedFiles { reason, files, example }) in list.iter().take(SHOWN).enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{files} {reason} (such as {})", printable(example))?;
        }
        let rest: usize = list.iter().skip(SHOWN).map(|of| of.files).sum();
        if rest > 0 { write!(f, ", {rest} of other endings or reasons") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_one_line_and_come_back_from_json() {
        let mut skipped = Skipped::default();
        for name in ["a/1.HEIC", "a/2.heic", "a/notes", "a/Mr. John Smith"] {
            skipped.add_ending(name);
        }
        skipped.add(SkipReason::Hidden, "a/.x");
        let line = skipped.to_string();
        let expected = "5 files: 2 without a known ending (such as a/notes), 2 .heic (such as a/1.HEIC), \
                        1 hidden or of the system (such as a/.x)";
        assert_eq!(line, expected);
        let json = serde_json::to_value(&skipped).unwrap();
        assert_eq!(json[1]["reason"], "ending");
        assert_eq!((json[1]["ending"].as_str(), json[1]["files"].as_u64()), (Some("heic"), Some(2)));
        assert_eq!(serde_json::from_value::<Skipped>(json).unwrap(), skipped);
        let mut twice = skipped.clone();
        twice.merge(&skipped);
        assert_eq!(twice.files(), 10);
    }
}
