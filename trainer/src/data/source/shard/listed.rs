//! Files that list classes.

use std::path::Path;

use serde::Deserialize;

use crate::error::DataError;
use crate::util::regular::read_regular;

/// The part of `dataset.json` that is read.
#[derive(Deserialize)]
struct DatasetFile {
    classes: Vec<String>,
}

/// Returns the classes in `dataset.json` or, one per line, in `classes.txt` of the first folder
/// that has one of them.
///
/// # Errors
/// Returns an error if the file cannot be read, or does not list names.
pub(crate) fn listed(folders: &[&Path]) -> Result<Option<Vec<String>>, DataError> {
    for folder in folders {
        let json = folder.join("dataset.json");
        if json.exists() {
            let bytes = read_regular(&json).map_err(DataError::io(&json))?;
            let file: DatasetFile = serde_json::from_slice(&bytes).map_err(|e| {
                DataError::layout(
                    &json,
                    format!("{e}; expected {{\"classes\": [\"NAME\", ...]}}, or remove the file"),
                )
            })?;
            return Ok(Some(file.classes));
        }
        let text = folder.join("classes.txt");
        if text.exists() {
            let bytes = read_regular(&text).map_err(DataError::io(&text))?;
            return lines(&bytes).map(Some).map_err(|what| DataError::layout(&text, what));
        }
    }
    Ok(None)
}

/// Returns the lines of a file, without empty ones at its end. An empty line in between is an
/// error, since it would shift all that follow.
fn lines(bytes: &[u8]) -> Result<Vec<String>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8 text; save it as UTF-8")?;
    let text = text.trim_start_matches('\u{feff}').trim_end();
    let names: Vec<String> = text.lines().map(|line| line.trim().to_string()).collect();
    match names.iter().position(String::is_empty) {
        Some(line) => Err(format!("line {} is empty; expected the name of class {line}", line + 1)),
        None => Ok(names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_line_of_a_list_is_named() {
        assert_eq!(lines(b"\xef\xbb\xbfcat\r\n dog \n\n"), Ok(vec!["cat".into(), "dog".into()]));
        assert!(lines(b"cat\n\ndog\n").unwrap_err().contains("line 2"));
        assert!(lines(b"caf\xe9").unwrap_err().contains("UTF-8"));
    }
}
