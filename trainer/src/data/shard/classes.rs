//! From the labels of shards to one list of classes.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use serde::Deserialize;

use super::index::ShardLabel;
use crate::data::folder::layout;
use crate::error::DataError;

/// A number above this is not a class but a mistake; it bounds the list that is made from numbers alone.
const MAX_CLASSES: u32 = 1 << 20;

/// The part of `dataset.json` that is read.
#[derive(Deserialize)]
struct DatasetFile {
    classes: Vec<String>,
}

/// The classes listed in `dataset.json` or, one a line, in `classes.txt` of the first folder that has one.
pub(crate) fn listed(folders: &[&Path]) -> Result<Option<Vec<String>>, DataError> {
    for folder in folders {
        let json = folder.join("dataset.json");
        if json.is_file() {
            let bytes = std::fs::read(&json).map_err(DataError::io(&json))?;
            let file: DatasetFile = serde_json::from_slice(&bytes).map_err(|e| {
                layout(&json, format!("{e}; expected {{\"classes\": [\"NAME\", ...]}}, or remove the file"))
            })?;
            return Ok(Some(file.classes));
        }
        let text = folder.join("classes.txt");
        if text.is_file() {
            let lines = std::fs::read_to_string(&text).map_err(DataError::io(&text))?;
            let names = lines.lines().map(str::trim).filter(|l| !l.is_empty());
            return Ok(Some(names.map(String::from).collect()));
        }
    }
    Ok(None)
}

/// A list of classes made from labels alone: the names in order, or the numbers up to the largest.
pub(crate) fn gathered<'a>(labels: impl Iterator<Item = &'a ShardLabel>) -> Result<Vec<String>, String> {
    let (mut names, mut largest) = (BTreeSet::new(), None);
    for label in labels {
        match label {
            ShardLabel::Name(name) => _ = names.insert(name.as_str()),
            ShardLabel::Number(number) => largest = largest.max(Some(*number)),
        }
    }
    match (names.first(), largest) {
        (Some(name), Some(number)) => Err(format!(
            "some labels are names (`{name}`), others numbers ({number}); list the classes in classes.txt, one a line"
        )),
        (None, Some(number)) if number >= MAX_CLASSES => {
            Err(format!("label {number} is no class; expected numbers below {MAX_CLASSES}"))
        }
        (None, Some(number)) => Ok((0..=number).map(|n| n.to_string()).collect()),
        _ => Ok(names.into_iter().map(String::from).collect()),
    }
}

/// Place of a label in a list of `classes` names, of which `numbers` are the places.
pub(crate) fn place(label: &ShardLabel, numbers: &HashMap<&str, u32>, classes: usize) -> Option<u32> {
    match label {
        ShardLabel::Number(n) => Some(*n).filter(|n| (*n as usize) < classes),
        ShardLabel::Name(name) => numbers.get(name.as_str()).copied(),
    }
}

/// What to say of a label that has no place; `image` is what to call its image.
pub(crate) fn unknown(image: &str, label: &ShardLabel, classes: usize) -> String {
    let label = match label {
        ShardLabel::Number(n) => n.to_string(),
        ShardLabel::Name(name) => name.clone(),
    };
    format!(
        "{image} has label `{label}`, which is not among the {classes} classes; both splits need the same classes"
    )
}
