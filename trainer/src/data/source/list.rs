//! Lists of images and their classes: CSV files with rows `path,label`.

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

/// Images of a list: paths and labels, and the classes that labels are positions in.
pub(crate) type Listed = (Vec<String>, Vec<(PathBuf, u32)>);

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
/// positions in that list.
///
/// # Errors
/// Returns an error that names the list and the line if a row is not a path and a label, an image is
/// missing, or a label is not among `classes`.
pub(crate) fn read_list(list: &Path, classes: Option<&[String]>) -> Result<Listed, DataError> {
    let text = std::fs::read_to_string(list)
        .map_err(|e| DataError::layout(list, format!("cannot be read as UTF-8 text: {e}")))?;
    let rows = rows(list, &text)?;
    let names = match classes {
        Some(classes) => classes.to_vec(),
        None => classes_of(&rows),
    };
    let known = ClassList::new(&names, None);
    let mut images = Vec::with_capacity(rows.len());
    for Row { line, path, label } in rows {
        let label = ShardLabel::Name(label);
        let position = known.position(Label::Stated(&label));
        images.push((path, position.map_err(|what| at(list, line, &what))?));
    }
    Ok((names, images))
}

struct Row {
    line: u64,
    path: PathBuf,
    label: String,
}

fn at(list: &Path, line: u64, what: &str) -> DataError {
    DataError::layout(list, format!("line {line}: {what}"))
}

fn rows(list: &Path, text: &str) -> Result<Vec<Row>, DataError> {
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
        if label.is_empty() {
            return Err(at(list, line, "has no label; expected PATH,LABEL"));
        }
        let places = [folder.join(path), own.join(path)];
        let Some(path) = places.iter().find(|place| place.is_file()) else {
            let what =
                format!("there is no file `{path}` in {}; paths are relative to the list", folder.display());
            return Err(at(list, line, &what));
        };
        rows.push(Row { line, path: path.clone(), label: label.into() });
    }
    if rows.is_empty() {
        return Err(DataError::layout(list, "has no images; expected rows PATH,LABEL"));
    }
    Ok(rows)
}

fn classes_of(rows: &[Row]) -> Vec<String> {
    let mut names: Vec<String> = rows.iter().map(|row| row.label.clone()).collect();
    names.sort();
    names.dedup();
    let value = |name: &String| name.parse::<u64>().ok().filter(|value| value.to_string() == *name);
    if names.iter().all(|name| value(name).is_some()) {
        names.sort_by_key(value);
    }
    names
}
