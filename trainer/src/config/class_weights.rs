//! Weights of the classes in the training loss.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::util::string_serde::stored_as_text;

const BALANCED: &str = "balanced";
const OPTION: &str = "class-weights";

/// Weights of the classes: `balanced`, a CSV file of classes and weights, or the JSON of both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ClassWeights {
    /// In inverse proportion to the number of training images: images / (classes * images of the
    /// class), as scikit-learn counts.
    Balanced,
    /// A file. [`ConfigLayers::resolve`](crate::config::ConfigLayers::resolve) replaces it by its
    /// content.
    File(PathBuf),
    /// The weight of each class, by name.
    Table(BTreeMap<String, f64>),
}

impl FromStr for ClassWeights {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim_start().starts_with('{') {
            return serde_json::from_str(text)
                .map(Self::Table)
                .map_err(|e| format!("not a table of weights: {e}"));
        }
        match text.trim() {
            "" => Err("expected `balanced`, or a CSV file of classes and weights".into()),
            BALANCED => Ok(Self::Balanced),
            path => Ok(Self::File(path.into())),
        }
    }
}

impl fmt::Display for ClassWeights {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Balanced => f.write_str(BALANCED),
            Self::File(path) => path.display().fmt(f),
            Self::Table(table) => f.write_str(&serde_json::to_string(table).map_err(|_| fmt::Error)?),
        }
    }
}

stored_as_text!(ClassWeights);

impl ClassWeights {
    /// Replaces a file by its content.
    ///
    /// # Errors
    /// Returns an error that names the file and the line if it is no table of classes and weights.
    pub(crate) fn embed(&mut self) -> Result<()> {
        if let Self::File(path) = self {
            *self = Self::Table(read(path)?);
        }
        Ok(())
    }

    /// Returns the weights of `classes`, which have `counts` training images.
    ///
    /// # Errors
    /// Returns an error if a class has no weight, or a weight no class.
    pub(crate) fn of(&self, classes: &[String], counts: &[usize]) -> Result<Vec<f32>> {
        let mut own = self.clone();
        own.embed()?;
        let Self::Table(table) = own else {
            let images: usize = counts.iter().sum();
            let weight = |&count: &usize| images as f32 / (classes.len() * count.max(1)) as f32;
            return Ok(counts.iter().map(weight).collect());
        };
        if let Some(unknown) = table.keys().find(|name| !classes.contains(name)) {
            let what = format!("has a weight for `{unknown}`, which is no class of the data set; remove it");
            return Err(Error::config(OPTION, what));
        }
        let weight = |class: &String| {
            let missing = || Error::config(OPTION, format!("has no weight for the class `{class}`; add it"));
            table.get(class).map(|&weight| weight as f32).ok_or_else(missing)
        };
        classes.iter().map(weight).collect()
    }
}

/// Reads rows `class,weight`; a first row whose weight is no number is a head.
fn read(path: &Path) -> Result<BTreeMap<String, f64>> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let failed = |line: u64, what: String| {
        Error::config(OPTION, format!("{}: line {line}: {what}; expected CLASS,WEIGHT", path.display()))
    };
    let mut rows = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut table = BTreeMap::new();
    for (index, row) in rows.records().enumerate() {
        let row = row.map_err(|e| failed(index as u64 + 1, e.to_string()))?;
        let line = row.position().map_or(index as u64 + 1, csv::Position::line);
        let (Some(class), Some(number), None) = (row.get(0), row.get(1), row.get(2)) else {
            return Err(failed(line, format!("{} columns", row.len())));
        };
        let weight = match number.trim().parse::<f64>() {
            Ok(weight) if weight.is_finite() && weight >= 0.0 => weight,
            Err(_) if index == 0 => continue,
            _ => return Err(failed(line, format!("`{number}` is no weight of 0 or more"))),
        };
        if table.insert(class.trim().to_string(), weight).is_some() {
            return Err(failed(line, format!("the class `{class}` occurs twice")));
        }
    }
    if table.values().all(|&weight| weight == 0.0) {
        return Err(Error::config(OPTION, format!("{}: no class has a weight above 0", path.display())));
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn balanced_weights_by_hand() {
        // 12 images of 3 classes: 4 a class on average.
        let weights = ClassWeights::Balanced.of(&names(&["a", "b", "c"]), &[8, 2, 2]).unwrap();
        assert_eq!(weights, [0.5, 2.0, 2.0]);
    }

    #[test]
    fn a_file_becomes_its_content_with_and_without_a_head() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights.csv");
        for text in ["class,weight\nb,2\n\"a, x\",0.5\n", "b,2\n\"a, x\",0.5\n"] {
            std::fs::write(&path, text).unwrap();
            let mut weights: ClassWeights = path.to_str().unwrap().parse().unwrap();
            weights.embed().unwrap();
            assert_eq!(weights.to_string().parse(), Ok(weights.clone()));
            assert_eq!(weights.of(&names(&["a, x", "b"]), &[1, 1]).unwrap(), [0.5, 2.0]);
            assert!(weights.of(&names(&["b"]), &[1]).unwrap_err().to_string().contains("a, x"));
            let missing = weights.of(&names(&["a, x", "b", "c"]), &[1; 3]).unwrap_err().to_string();
            assert!(missing.contains("no weight for the class `c`"), "{missing}");
        }
    }

    #[test]
    fn a_file_that_is_no_table_is_refused_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights.csv");
        for (text, expected) in [
            ("a,1\nb,-1\n", "line 2"),
            ("a,1\nb,nan\n", "line 2"),
            ("a,1\nb\n", "line 2: 1 columns"),
            ("a,1\nb,2,3\n", "line 2: 3 columns"),
            ("a,1\na,2\n", "occurs twice"),
            ("a,0\n", "above 0"),
            ("", "above 0"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = ClassWeights::File(path.clone()).embed().unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("weights.csv"), "{text:?}: {error}");
        }
    }
}
