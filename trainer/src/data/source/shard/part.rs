//! Groups the entries of a tar file into samples: an image and its label.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;

use tar::{Entry, EntryType};

use crate::data::source::hidden::is_hidden_name;
use crate::data::source::shard::label::ShardLabel;
use crate::data::source::shard::shard_image::ShardImage;
use crate::data::source::skipped::{SkipReason, Skipped};
use crate::util::endings::{ending, file_name, has_image_ending};
use crate::util::printable::printable;

/// Largest size of a label, or of a description with a label in it.
const MAX_LABEL_BYTES: u64 = 1 << 20;

/// Entries up to the blocks of zeros that end a tar file; after joining tar files, names are unique
/// within each of them.
#[derive(Debug, Default)]
pub(crate) struct Part {
    images: Vec<Image>,
    /// Position in `images` of each name.
    by_name: HashMap<String, usize>,
    /// Label files by their stem, which is the path without extension.
    labels: BTreeMap<String, Vec<LabelFile>>,
}

#[derive(Debug)]
struct Image {
    name: String,
    offset: u64,
    length: u64,
}

/// A file beside images that may contain a label.
#[derive(Clone, Debug)]
struct LabelFile {
    name: String,
    label: Result<ShardLabel, String>,
}

/// What the name of a label file says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LabelName<'a> {
    /// Path without the extensions, which is shared with the image.
    stem: &'a str,
    /// True if the file contains only the label; others may just describe the image.
    is_plain: bool,
    is_json: bool,
}

impl<'a> LabelName<'a> {
    /// Parses `NAME.cls` and `NAME.json`. Some writers add the encoding: `NAME.cls.txt` and
    /// `NAME.cls.json`.
    fn parse(name: &'a str) -> Option<Self> {
        let has = |name: &str, wanted: &str| ending(name).eq_ignore_ascii_case(wanted);
        let is_json = has(name, "json");
        if has(name, "cls") {
            return Some(Self { stem: stem(name), is_plain: true, is_json });
        }
        if (is_json || has(name, "txt")) && has(stem(name), "cls") {
            return Some(Self { stem: stem(stem(name)), is_plain: true, is_json });
        }
        is_json.then(|| Self { stem: stem(name), is_plain: false, is_json })
    }
}

impl LabelFile {
    fn is_plain(&self) -> bool {
        LabelName::parse(&self.name).is_some_and(|name| name.is_plain)
    }

    fn stem(&self) -> &str {
        label_stem(&self.name)
    }
}

/// Returns the stem that a label file shares with its image.
fn label_stem(name: &str) -> &str {
    LabelName::parse(name).map_or(name, |name| name.stem)
}

impl Part {
    /// Adds an entry with its content at `place` (offset and length).
    ///
    /// # Errors
    /// Returns an error if it cannot be read, or two labels of one name differ.
    pub(crate) fn add<R: Read>(
        &mut self,
        name: &str,
        place: (u64, u64),
        entry: &mut Entry<R>,
        skipped: &mut Skipped,
    ) -> Result<(), String> {
        let kind = entry.header().entry_type();
        if kind.is_dir() || kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let label = LabelName::parse(name);
        let is_label = label.is_some();
        if name.split('/').any(is_hidden_name) {
            skipped.add(SkipReason::Hidden, name);
        } else if !is_label && !has_image_ending(ending(name)) {
            skipped.add_ending(name);
        } else if kind == EntryType::Link {
            self.add_link(
                name,
                &String::from_utf8_lossy(&entry.link_name_bytes().unwrap_or_default()),
                skipped,
            );
        } else if kind == EntryType::GNUSparse && !is_label {
            let name = printable(name);
            return Err(format!("`{name}` is stored as a sparse file, which cannot be read in place"));
        } else if !(kind.is_file() || kind == EntryType::GNUSparse) {
            skipped.add(SkipReason::NotRegular, name);
        } else if let Some(LabelName { is_json, .. }) = label {
            let label = read_label(entry, is_json, place.1)?;
            return self.add_label(LabelFile { name: name.into(), label });
        } else {
            self.add_image(Image { name: name.into(), offset: place.0, length: place.1 }, skipped);
        }
        Ok(())
    }

    /// Adds an image; a later entry replaces an earlier one of the same name, like when the tar
    /// file is unpacked.
    fn add_image(&mut self, image: Image, skipped: &mut Skipped) {
        match self.by_name.get(&image.name) {
            Some(&at) => {
                skipped.add(SkipReason::Replaced, &image.name);
                self.images[at] = image;
            }
            None => {
                self.by_name.insert(image.name.clone(), self.images.len());
                self.images.push(image);
            }
        }
    }

    /// Adds a hard link, which is a second name of an earlier entry.
    fn add_link(&mut self, name: &str, target: &str, skipped: &mut Skipped) {
        let linked = self.by_name.get(target).map(|&at| (self.images[at].offset, self.images[at].length));
        let label =
            self.labels.get(label_stem(target)).and_then(|files| files.iter().find(|f| f.name == target));
        match (linked, label.map(|file| file.label.clone())) {
            (Some((offset, length)), _) => {
                self.add_image(Image { name: name.into(), offset, length }, skipped);
            }
            (None, Some(label)) => {
                let file = LabelFile { name: name.into(), label };
                self.labels.entry(label_stem(name).into()).or_default().push(file);
            }
            (None, None) => skipped.add(SkipReason::NotRegular, name),
        }
    }

    fn add_label(&mut self, file: LabelFile) -> Result<(), String> {
        let files = self.labels.entry(file.stem().into()).or_default();
        match files.iter().find(|other| other.name == file.name) {
            Some(other) if other.label != file.label => {
                let name = printable(&file.name);
                Err(format!(
                    "two entries `{name}` have different labels ({} and {}); give each sample a unique name",
                    shown(&other.label),
                    shown(&file.label)
                ))
            }
            Some(_) => Ok(()),
            None => {
                files.push(file);
                Ok(())
            }
        }
    }

    /// Returns the images with their labels, one image per label.
    ///
    /// # Errors
    /// Returns an error if a label is invalid, two labels of an image differ, or some images have
    /// labels and one has none.
    pub(crate) fn samples(mut self, skipped: &mut Skipped) -> Result<Vec<ShardImage>, String> {
        let stems: Vec<Option<String>> =
            self.images.iter().map(|image| self.label_stem(&image.name)).collect();
        let chosen = self.chosen(&stems, skipped);
        let is_labeled = chosen.iter().any(|&at| stems[at].is_some());
        if !is_labeled && !chosen.is_empty() {
            self.check_lone_labels()?;
        }
        let mut samples = Vec::with_capacity(chosen.len());
        for at in chosen {
            let Image { name, offset, length } = &self.images[at];
            let (label, other_label) = match &stems[at] {
                Some(stem) => labels_of(&self.labels[stem])?,
                // If other images have labels, the folder is not a label.
                None if is_labeled => return Err(unlabeled(name)),
                None => (None, None),
            };
            samples.push(ShardImage {
                name: name.clone(),
                offset: *offset,
                length: *length,
                label,
                other_label,
            });
        }
        stems.iter().flatten().for_each(|stem| _ = self.labels.remove(stem));
        self.labels.values().flatten().for_each(|file| skipped.add(SkipReason::LabelAlone, &file.name));
        Ok(samples)
    }

    /// Checks that images without labels are without label files: otherwise their names do not
    /// match, and folders would be taken for classes.
    fn check_lone_labels(&self) -> Result<(), String> {
        let Some(file) = self.labels.values().flatten().find(|file| file.is_plain()) else { return Ok(()) };
        let (name, stem) = (printable(&file.name), printable(file.stem()));
        Err(format!(
            "label `{name}` belongs to no image, and no image has a label; expected an image `{stem}.jpg`, or with \
             another extension that starts with a dot"
        ))
    }

    /// Returns the stem of the label files of an image: its own, or the part before one of the dots
    /// of its name.
    fn label_stem(&self, image: &str) -> Option<String> {
        let mut stem = stem(image);
        while !self.labels.contains_key(stem) {
            stem = shorter(stem)?;
        }
        Some(stem.into())
    }

    /// Returns the positions of the images to use: of those that share a label, the one without a
    /// second extension.
    fn chosen(&self, stems: &[Option<String>], skipped: &mut Skipped) -> Vec<usize> {
        let mut best: HashMap<&str, usize> = HashMap::new();
        let is_plain = |at: usize| stems[at].as_deref() == Some(stem(&self.images[at].name));
        for (at, stem) in stems.iter().enumerate() {
            let Some(stem) = stem.as_deref() else { continue };
            let first = best.entry(stem).or_insert(at);
            if is_plain(at) && !is_plain(*first) {
                *first = at;
            }
        }
        let is_best = |at: &usize| stems[*at].as_deref().is_none_or(|stem| best[stem] == *at);
        let (chosen, others): (Vec<_>, Vec<_>) = (0..stems.len()).partition(is_best);
        others.iter().for_each(|&at| skipped.add(SkipReason::ExtraImage, &self.images[at].name));
        chosen
    }
}

fn read_label<R: Read>(
    entry: &mut Entry<R>,
    is_json: bool,
    length: u64,
) -> Result<Result<ShardLabel, String>, String> {
    if length > MAX_LABEL_BYTES {
        return Ok(Err(format!("has {length} bytes; expected a label of at most {MAX_LABEL_BYTES}")));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    Ok(if is_json { ShardLabel::from_json(&bytes) } else { ShardLabel::from_text(&bytes) })
}

/// Returns the label of a sample and a second one, a name and a number; the list of classes shows
/// if they agree.
fn labels_of(files: &[LabelFile]) -> Result<(Option<ShardLabel>, Option<ShardLabel>), String> {
    let refused = |file: &LabelFile| match &file.label {
        Err(what) => Some(format!("label `{}` {what}", printable(&file.name))),
        Ok(_) => None,
    };
    // A description needs no label if another file has one.
    if let Some(what) = files.iter().filter(|file| file.is_plain()).find_map(refused) {
        return Err(what);
    }
    let stated = |file: &&LabelFile| file.label.is_ok();
    let (plain, described) = (files.iter().filter(stated), files.iter().filter(stated));
    let mut stated = plain.filter(|f| f.is_plain()).chain(described.filter(|f| !f.is_plain()));
    let Some(first) = stated.next() else {
        return Err(files.iter().find_map(refused).unwrap_or_default());
    };
    let kind = |file: &LabelFile| matches!(file.label, Ok(ShardLabel::Number(_)));
    let mut other = None;
    for file in stated.filter(|file| file.label != first.label) {
        if kind(file) == kind(first) {
            return Err(format!(
                "`{}` has label {}, `{}` {}; remove one of them",
                printable(&first.name),
                shown(&first.label),
                printable(&file.name),
                shown(&file.label)
            ));
        }
        other = file.label.clone().ok();
    }
    Ok((first.label.clone().ok(), other))
}

/// Describes an image without a label.
pub(crate) fn unlabeled(name: &str) -> String {
    let (name, stem) = (printable(name), printable(stem(name)));
    format!(
        "image `{name}` has no label; expected `{stem}.cls`, `{stem}.json` with a `label`, or names CLASS/IMAGE for all \
         images"
    )
}

fn shown(label: &Result<ShardLabel, String>) -> String {
    match label {
        Ok(ShardLabel::Number(number)) => format!("`{number}`"),
        Ok(ShardLabel::Name(name)) => format!("`{}`", printable(name)),
        Err(_) => "none that is valid".into(),
    }
}

/// Returns the path without its last extension.
fn stem(name: &str) -> &str {
    shorter(name).unwrap_or(name)
}

/// Returns the part before the last dot of the last path component; none if there is no dot, or
/// nothing before it.
fn shorter(name: &str) -> Option<&str> {
    let start = name.len() - file_name(name).len();
    name[start..].rfind('.').filter(|dot| *dot > 0).map(|dot| &name[..start + dot])
}
