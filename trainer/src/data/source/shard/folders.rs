//! Class folders in tar files, equivalent to the same files in image folders.

use std::collections::BTreeSet;

use crate::data::source::shard::classes::{ClassList, Label};
use crate::data::source::shard::part::unlabeled;
use crate::data::source::shard::shard_image::ShardImage;
use crate::data::source::synthetic::Split;
use crate::util::printable::printable;

/// Position of the class folders among the folders of a set: the first level below wrapper folders.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClassFolders {
    /// Number of folders around the class folders.
    depth: usize,
    /// True if no image is in a folder.
    is_empty: bool,
}

impl ClassFolders {
    /// Finds the level of the class folders among the names of all images without a label. With
    /// `known`, it is the first level at which all folders are classes.
    ///
    /// # Errors
    /// Returns an error if the folders are splits.
    pub(crate) fn find(names: &[&str], known: Option<&ClassList>) -> Result<Self, String> {
        let folders: Vec<Vec<&str>> = names.iter().map(|name| folders(name)).collect();
        let deepest = folders.iter().map(Vec::len).max().unwrap_or(0);
        if let Some(known) = known {
            let fits = |depth: &usize| {
                let mut level = folders.iter().filter_map(|of| of.get(*depth)).peekable();
                level.peek().is_some() && level.all(|name| known.position(Label::Folder(name)).is_ok())
            };
            if let Some(depth) = (0..deepest).find(fits) {
                return Ok(Self { depth, is_empty: false });
            }
        }
        let depth = wrappers(&folders);
        let level: BTreeSet<&str> = folders.iter().filter_map(|of| of.get(depth).copied()).collect();
        let splits: Option<BTreeSet<Split>> = level.iter().map(|name| Split::of_folder(name)).collect();
        match splits {
            Some(splits) if splits.len() > 1 => Err(format!(
                "contains the folders of two splits ({}); put each split into a separate tar file",
                level.into_iter().collect::<Vec<_>>().join(", ")
            )),
            _ => Ok(Self { depth, is_empty: level.is_empty() }),
        }
    }

    /// Returns the label of an image: its own or its class folder; none for an image outside the
    /// class folders.
    pub(crate) fn label(self, image: &ShardImage) -> Option<Label<'_>> {
        match &image.label {
            Some(label) => Some(Label::Stated(label)),
            None => self.class(&image.name).map(Label::Folder),
        }
    }

    /// Returns the position of an image's class in a list; none for an image outside the class
    /// folders.
    ///
    /// # Errors
    /// Returns an error if a label is not in the list, two labels differ, or there is no class
    /// folder at all.
    pub(crate) fn position(self, image: &ShardImage, list: &ClassList) -> Result<Option<u32>, String> {
        let name = || printable(&image.name);
        let Some(label) = self.label(image) else {
            return if self.is_empty { Err(unlabeled(&image.name)) } else { Ok(None) };
        };
        let position = list.position(label).map_err(|what| format!("image `{}`: {what}", name()))?;
        let other = image.other_label.as_ref().and_then(|other| list.position(Label::Stated(other)).ok());
        match other.filter(|other| *other != position) {
            Some(other) => Err(format!(
                "image `{}` has two label files, one for class {position} and one for class {other}; remove one of them",
                name()
            )),
            None => Ok(Some(position)),
        }
    }

    fn class(self, name: &str) -> Option<&str> {
        folders(name).get(self.depth).copied()
    }
}

/// Returns the number of nested folders around the class folders.
fn wrappers(folders: &[Vec<&str>]) -> usize {
    let level =
        |depth: usize| -> BTreeSet<&str> { folders.iter().filter_map(|of| of.get(depth).copied()).collect() };
    let is_split = |depth: usize| level(depth).into_iter().all(|name| Split::of_folder(name).is_some());
    let splits =
        (0..).take_while(|&depth| level(depth).len() == 1 && is_split(depth) && !level(depth + 1).is_empty());
    let start = splits.count();
    let shared = start + (start..).take_while(|&depth| level(depth).len() == 1).count();
    // A folder is a class and not a wrapper if it has images or is the only one with subfolders.
    let branches = level(shared).len() > 1 && folders.iter().all(|of| of.len() <= start || of.len() > shared);
    if branches { shared } else { start }
}

/// Returns the folders in the name of a tar entry, the outermost first.
fn folders(name: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    parts.pop();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes<'a>(names: &[&'a str]) -> Vec<Option<&'a str>> {
        let found = ClassFolders::find(names, None).unwrap();
        names.iter().map(|name| found.class(name)).collect()
    }

    #[test]
    fn classes_are_the_first_level_below_what_holds_everything() {
        let nested = ["animal/cat/1.jpg", "animal/dog/1.jpg", "thing/car/1.jpg"];
        assert_eq!(classes(&nested), [Some("animal"), Some("animal"), Some("thing")]);
        for around in ["./", "/", "train/", "./train/", "set/", "a/b/"] {
            let names: Vec<String> = nested.iter().map(|name| format!("{around}{name}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            assert_eq!(classes(&names), [Some("animal"), Some("animal"), Some("thing")], "{around}");
        }
        assert_eq!(classes(&["cat/1.jpg", "dog/a/b/2.jpg", "3.jpg"]), [Some("cat"), Some("dog"), None]);
        assert_eq!(classes(&["train/cat/1.jpg", "train/2.jpg"]), [Some("cat"), None]);
        // With one class, a folder inside it is not a class.
        assert_eq!(classes(&["cat/1.jpg", "cat/a/2.jpg", "cat/b/3.jpg"]), [Some("cat"); 3]);
        assert_eq!(classes(&["cat/a/1.jpg"]), [Some("cat")]);
        assert_eq!(classes(&["1.jpg"]), [None]);
    }

    #[test]
    fn known_classes_tell_the_level() {
        let names = ["animal", "thing"].map(String::from);
        let known = ClassList::new(&names, None);
        let image = "val/animal/cat/1.jpg";
        let found = ClassFolders::find(&[image, "val/animal/dog/1.jpg"], Some(&known)).unwrap();
        assert_eq!(found.class(image), Some("animal"));
    }

    #[test]
    fn two_splits_in_one_tar_file_are_refused() {
        let message = ClassFolders::find(&["train/cat/1.jpg", "val/cat/1.jpg"], None).unwrap_err();
        assert!(message.contains("train, val"), "{message}");
    }
}
