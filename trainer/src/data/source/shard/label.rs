//! Labels in shards and Parquet files.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::util::printable::printable;

/// Keys of a label in a JSON file and names of label columns in a Parquet file, the most common
/// first.
pub(crate) const LABEL_KEYS: [&str; 10] = [
    "label",
    "labels",
    "fine_label",
    "cls",
    "class",
    "class_label",
    "class_id",
    "target",
    "category",
    "class_name",
];

/// Number of characters of a file to show in messages.
const MAX_SHOWN: usize = 80;

/// Label of an image as stated by its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ShardLabel {
    /// Position in the list of classes.
    Number(u32),
    /// Name of a class.
    Name(String),
}

impl ShardLabel {
    /// Parses a label from a text file: a whole number or a name, on one line.
    pub(crate) fn from_text(bytes: &[u8]) -> Result<Self, String> {
        let quoted = || format!("`{}`", shown(bytes));
        let text = std::str::from_utf8(bytes)
            .map_err(|_| format!("is not UTF-8 text ({}); expected a number or a name", quoted()))?;
        let text = text.trim_start_matches('\u{feff}').trim();
        match text {
            "" => Err("is empty; expected a number or a name".into()),
            _ if text.contains(char::is_control) => {
                Err(format!("contains {}; expected a number or a name, on one line", quoted()))
            }
            _ => Ok(text.parse().map_or_else(|_| Self::Name(text.into()), Self::Number)),
        }
    }

    /// Parses a label from a JSON file: a number or a text, alone or under one of [`LABEL_KEYS`].
    pub(crate) fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        let expected = format!("expected a whole number or a name, under one of {}", LABEL_KEYS.join(", "));
        let value: Value = serde_json::from_slice(bytes)
            .map_err(|e| format!("is not JSON ({e}): `{}`; {expected}", shown(bytes)))?;
        let label = match &value {
            Value::Object(members) => LABEL_KEYS.iter().find_map(|key| members.get(*key)),
            other => Some(other),
        };
        let Some(label) = label else {
            return Err(format!("has no label: {}; {expected}", printable(&value.to_string())));
        };
        let said = || format!("contains label {}; {expected}", printable(&label.to_string()));
        match label {
            Value::String(name) if !name.trim().is_empty() => Ok(Self::Name(name.trim().into())),
            Value::Number(number) => number.as_f64().and_then(whole).map(Self::Number).ok_or_else(said),
            _ => Err(said()),
        }
    }
}

/// Returns the printable beginning of a file.
fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().chars().take(MAX_SHOWN).collect()
}

/// Returns a number that can be a position in a list: whole, and neither negative nor too large.
pub(crate) fn whole(number: f64) -> Option<u32> {
    (number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number)).then_some(number as u32)
}

/// Parses a text that is a number; words such as `nan` are not.
pub(crate) fn numeral(text: &str) -> Option<f64> {
    let begins = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
    text.parse().ok().filter(|number: &f64| begins && number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_numbers_or_names() {
        let of = |bytes: &[u8]| ShardLabel::from_text(bytes);
        assert_eq!(of(b" 7\n"), Ok(ShardLabel::Number(7)));
        assert_eq!(of("\u{feff}7".as_bytes()), Ok(ShardLabel::Number(7)));
        assert_eq!(of(b"golden retriever"), Ok(ShardLabel::Name("golden retriever".into())));
        for refused in [&b""[..], b" \n", b"\x03\0\0\0", b"1\n2", b"\x80\x04\x95", b"caf\xe9"] {
            let message = of(refused).unwrap_err();
            assert!(!message.contains(char::is_control) && message.contains("expected"), "{message}");
        }
    }

    #[test]
    fn json_numbers_are_numbers() {
        let of = |text: &str| ShardLabel::from_json(text.as_bytes());
        for text in ["3", "3.0", "{\"label\": 3}", "{\"a\": 1, \"target\": 3.0, \"class_name\": \"x\"}"] {
            assert_eq!(of(text), Ok(ShardLabel::Number(3)), "{text}");
        }
        assert_eq!(of("{\"cls\": \"cat\"}"), Ok(ShardLabel::Name("cat".into())));
        let refused = ["{", "{\"x\": 3}", "{\"label\": null}", "{\"label\": -1}", "{\"label\": 1.5}", "[3]"];
        for text in
            refused.iter().chain(&["{\"label\": {\"id\": 3}}", "{\"label\": 1e10}", "{\"label\": \"\"}"])
        {
            assert!(of(text).is_err(), "{text}");
        }
        assert!(of("{\"label\": -1}").unwrap_err().contains("-1"));
        assert!(of("{\"x\": 3}").unwrap_err().contains("{\"x\":3}"));
    }
}
