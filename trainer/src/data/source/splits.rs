//! Splits in the names of folders and files.

use crate::data::source::synthetic::Split;
use crate::util::endings::file_name;

/// Names of the training split, the most common one first.
const TRAIN: [&str; 2] = ["train", "training"];
/// Names of the evaluation split, the most common one first; if there are several, the first is
/// used.
const VAL: [&str; 9] =
    ["val", "validation", "valid", "dev", "eval", "evaluation", "test", "testing", "holdout"];
/// Names for folders; the others could also be classes.
const VAL_FOLDERS: [&str; 4] = ["val", "validation", "valid", "test"];

impl Split {
    /// Returns the name in messages.
    pub(crate) fn name(self) -> &'static str {
        self.names()[0]
    }

    /// Returns the words for the split in file names.
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Train => &TRAIN,
            Self::Val => &VAL,
        }
    }

    /// Returns the names of its folder.
    pub(crate) fn folder_names(self) -> &'static [&'static str] {
        match self {
            Self::Train => &TRAIN[..1],
            Self::Val => &VAL_FOLDERS,
        }
    }

    /// Returns the other split.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Train => Self::Val,
            Self::Val => Self::Train,
        }
    }

    /// Returns the split with a folder of this name.
    pub(crate) fn of_folder(name: &str) -> Option<Self> {
        let name = name.to_lowercase();
        [Self::Train, Self::Val].into_iter().find(|split| split.folder_names().contains(&name.as_str()))
    }
}

/// Split according to a file name, and the word for it.
pub(crate) type NamedSplit = (Split, &'static str);

/// Returns the split according to a file name such as `train-00000.tar`,
/// `imagenet1k-validation-0000.tar` or `part_val.parquet`: the word at its beginning, or the one
/// anywhere in it.
///
/// # Errors
/// Returns an error if the name contains words for both splits.
pub(crate) fn split_of(name: &str) -> Result<Option<NamedSplit>, String> {
    let named = |word: &str| {
        let known =
            |split: Split| split.names().iter().find(|name| **name == word).map(|name| (split, *name));
        known(Split::Train).or_else(|| known(Split::Val))
    };
    let words = words(name);
    if let Some(first) = words.first().and_then(|word| named(word)) {
        return Ok(Some(first));
    }
    let found: Vec<_> = words.iter().filter_map(|word| named(word)).collect();
    match found.first() {
        Some(first) if found.iter().any(|(split, _)| *split != first.0) => Err(format!(
            "the name contains words for both splits (`{}` and others); rename the file to begin with its split, as in \
             `train-{}`",
            first.1,
            file_name(name)
        )),
        first => Ok(first.copied()),
    }
}

/// Splits a file name into words in lower case, without its extension and trailing digits.
fn words(name: &str) -> Vec<String> {
    let name = file_name(name);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let words = stem.split(|c: char| !c.is_alphanumeric()).flat_map(humps);
    let bare = |word: String| {
        let word = word.trim_end_matches(|c: char| c.is_ascii_digit());
        word.strip_suffix("set").filter(|rest| !rest.is_empty()).unwrap_or(word).to_string()
    };
    words.map(bare).collect()
}

/// Splits a name such as `imagenetTrain` into its parts, in lower case.
fn humps(word: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut was_lower = false;
    for c in word.chars() {
        if was_lower && c.is_uppercase() {
            parts.push(String::new());
        }
        was_lower = c.is_lowercase();
        parts.last_mut().into_iter().for_each(|part| part.extend(c.to_lowercase()));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_words_of_a_name() {
        let of = |name: &str| split_of(name).unwrap().map(|(split, _)| split);
        let train = [
            "train.tar",
            "train-00000-of-00002-a1b2c3.parquet",
            "imagenet1k-train-0000.tar",
            "train_000.tar",
        ];
        for name in
            train.iter().chain(&["x_TRAIN_1.tar", "train2017-1.tar", "train-test-0.tar", "a.b/train.0.tar"])
        {
            assert_eq!(of(name), Some(Split::Train), "{name}");
        }
        for name in [
            "imagenet1k-validation-0000.tar",
            "cifar10-test-3.tar",
            "part_val.parquet",
            "val0.tar",
            "mnist.test.0.tar",
            "testset.tar",
            "imagenetVal-0.tar",
        ] {
            assert_eq!(of(name), Some(Split::Val), "{name}");
        }
        for name in [
            "000.tar",
            "training_set".trim_end_matches("_set").trim_start_matches("training"),
            "strain-1.tar",
        ] {
            assert_eq!(of(name), None, "{name}");
        }
        assert!(split_of("set-train-val-0.tar").unwrap_err().contains("both splits"));
    }
}
