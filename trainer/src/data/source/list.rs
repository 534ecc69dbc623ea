//! Lists of images and their classes: CSV files with rows `path,label`, or with several labels a
//! row, as in `path,cat|dog`.

use std::path::{Path, PathBuf};

use crate::data::source::shard::classes::{ClassList, Label};
use crate::data::source::shard::label::ShardLabel;
use crate::data::source::synthetic::Split;
use crate::error::DataError;

/// Name of a list of images without splits.
const PLAIN: &str = "images.csv";
/// Names of the column of paths in a heading.
const HEADINGS: [&str; 8] =
    ["path", "file", "filename", "file_name", "image", "image_path", "filepath", "name"];

/// Separators of the labels of a row in a multi-label list.
pub(crate) const SEPARATORS: [char; 2] = ['|', ';'];

/// Images of a list.
#[derive(Debug)]
pub(crate) struct Listed {
    /// Classes that labels are positions in.
    pub(crate) classes: Vec<String>,
    /// Paths and labels; of several labels of an image, the first, and 0 if it has none.
    pub(crate) files: Vec<(PathBuf, u32)>,
    /// All labels of each image, in ascending order, in a multi-label list.
    pub(crate) label_sets: Option<Vec<Box<[u32]>>>,
}

/// Returns the list of a split in `dir`, `train.csv` or one of the other names of splits, if there
/// is one; without a split `images.csv`.
pub(crate) fn list_of(dir: &Path, split: Option<Split>) -> Option<PathBuf> {
    let names: Vec<String> = match split {
        Some(split) => split.names().iter().map(|name| format!("{name}.csv")).collect(),
        None => vec![PLAIN.into()],
    };
    names.into_iter().map(|name| dir.join(name)).find(|path| path.is_file())
}

/// Reads a list whose paths are relative to its folder, or to the folder of its split there. Labels
/// are names; classes are sorted by name, or by value if all are numbers. With `classes`, labels are
/// positions in that list. In a multi-label list, a row may have several labels with `|` or `;`
/// between them, or none.
///
/// # Errors
/// Returns an error that names the list and the line if a row is not a path and a label, an image is
/// missing, or a label is not among `classes`; also if a multi-label list has no label at all.
pub(crate) fn read_list(
    list: &Path,
    classes: Option<&[String]>,
    multi_label: bool,
) -> Result<Listed, DataError> {
    let text = std::fs::read_to_string(list)
        .map_err(|e| DataError::layout(list, format!("cannot be read as UTF-8 text: {e}")))?;
    let rows = rows(list, &text, multi_label)?;
    let names = match classes {
        Some(classes) => classes.to_vec(),
        None => classes_of(&rows),
    };
    if names.is_empty() {
        return Err(DataError::layout(list, "has no label in any row; expected rows PATH,LABEL|LABEL"));
    }
    let known = ClassList::new(&names, None);
    let mut files = Vec::with_capacity(rows.len());
    let mut label_sets = multi_label.then(Vec::new);
    for Row { line, path, labels } in rows {
        let position = |label| known.position(Label::Stated(&ShardLabel::Name(label)));
        let labels: Result<Vec<u32>, String> = labels.into_iter().map(position).collect();
        let mut labels = labels.map_err(|what| at(list, line, &what))?;
        labels.sort_unstable();
        labels.dedup();
        files.push((path, labels.first().copied().unwrap_or_default()));
        label_sets.iter_mut().for_each(|sets| sets.push(labels.clone().into()));
    }
    drop(known);
    Ok(Listed { classes: names, files, label_sets })
}

struct Row {
    line: u64,
    path: PathBuf,
    /// One, or any number in a multi-label list.
    labels: Vec<String>,
}

/// Parses the labels of a row.
fn labels(cell: &str, multi_label: bool) -> Result<Vec<String>, &'static str> {
    match (cell.is_empty(), multi_label) {
        (true, true) => Ok(Vec::new()),
        (true, false) => {
            Err("has no label; expected PATH,LABEL (with option `multi-label`, an image may have none)")
        }
        (false, false) => Ok(vec![cell.into()]),
        (false, true) => {
            let labels: Vec<String> = cell.split(SEPARATORS).map(|label| label.trim().into()).collect();
            match labels.iter().any(String::is_empty) {
                true => Err("has an empty label beside a separator (`|` or `;`); remove the separator"),
                false => Ok(labels),
            }
        }
    }
}

fn at(list: &Path, line: u64, what: &str) -> DataError {
    DataError::layout(list, format!("line {line}: {what}"))
}

fn rows(list: &Path, text: &str, multi_label: bool) -> Result<Vec<Row>, DataError> {
    let folder = list.parent().unwrap_or(Path::new(""));
    let own = folder.join(list.file_stem().unwrap_or_default());
    let text = text.trim_start_matches('\u{feff}');
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut rows = Vec::new();
    for (index, record) in reader.records().enumerate() {
        let record = record.map_err(|e| at(list, index as u64 + 1, &e.to_string()))?;
        let line = record.position().map_or(index as u64 + 1, csv::Position::line);
        let (Some(path), Some(label), None) = (record.get(0), record.get(1), record.get(2)) else {
            let what = format!("has {} columns; expected two, PATH,LABEL", record.len());
            return Err(at(list, line, &what));
        };
        if index == 0 && HEADINGS.contains(&path.to_lowercase().as_str()) {
            continue;
        }
        let labels = labels(label, multi_label).map_err(|what| at(list, line, what))?;
        let places = [folder.join(path), own.join(path)];
        let Some(path) = places.iter().find(|place| place.is_file()) else {
            let what =
                format!("there is no file `{path}` in {}; paths are relative to the list", folder.display());
            return Err(at(list, line, &what));
        };
        rows.push(Row { line, path: path.clone(), labels });
    }
    if rows.is_empty() {
        return Err(DataError::layout(list, "has no images; expected rows PATH,LABEL"));
    }
    Ok(rows)
}

fn classes_of(rows: &[Row]) -> Vec<String> {
    let mut names: Vec<String> = rows.iter().flat_map(|row| row.labels.iter().cloned()).collect();
    names.sort();
    names.dedup();
    let value = |name: &String| name.parse::<u64>().ok().filter(|value| value.to_string() == *name);
    if names.iter().all(|name| value(name).is_some()) {
        names.sort_by_key(value);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a list of three images.
    fn read(text: &str, classes: Option<&[String]>, multi_label: bool) -> Result<Listed, String> {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.png", "b.png", "c.png"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let list = dir.path().join("images.csv");
        std::fs::write(&list, text).unwrap();
        read_list(&list, classes, multi_label).map_err(|error| error.to_string())
    }

    #[test]
    fn a_row_may_have_several_labels_or_none() {
        let text = "path,labels\na.png,dog | cat\nb.png,\nc.png,cat;bird;cat\n";
        let listed = read(text, None, true).unwrap();
        assert_eq!(listed.classes, ["bird", "cat", "dog"]);
        let sets: Vec<Vec<u32>> = listed.label_sets.unwrap().iter().map(|set| set.to_vec()).collect();
        assert_eq!(sets, [vec![1, 2], vec![], vec![0, 1]]);
    }

    #[test]
    fn without_the_option_a_separator_is_part_of_a_name() {
        let listed = read("a.png,dog|cat\nb.png,cat;bird\n", None, false).unwrap();
        assert_eq!(listed.classes, ["cat;bird", "dog|cat"]);
        assert!(listed.label_sets.is_none());
        assert!(read("a.png,\n", None, false).unwrap_err().contains("line 1: has no label"));
    }

    #[test]
    fn labels_that_cannot_be_meant_are_refused() {
        let classes = ["cat".to_string(), "dog".to_string()];
        for (text, expected) in [
            ("a.png,cat|\n", "line 1: has an empty label"),
            ("a.png,cat\nb.png,cat||dog\n", "line 2: has an empty label"),
            ("a.png,cat\nb.png,dog|fish\n", "line 2: label `fish`"),
            ("a.png,cat,dog\n", "line 1: has 3 columns"),
        ] {
            let error = read(text, Some(&classes), true).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
        assert!(read("a.png,\nb.png,\n", None, true).unwrap_err().contains("no label in any row"));
        // Evaluation images may all be of no class.
        assert_eq!(read("a.png,\nb.png,\n", Some(&classes), true).unwrap().files.len(), 2);
    }
}
