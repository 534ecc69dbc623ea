//! The grammar of a policy string: a scheme's name, then keys with values, all joined by dashes.

use std::str::FromStr;

use crate::error::{Error, Result};

/// A parsed policy string.
pub(super) struct PolicyText<'a> {
    text: &'a str,
    /// The first section.
    pub(super) name: &'a str,
    /// Key and value of the others.
    options: Vec<(&'a str, &'a str)>,
}

impl<'a> PolicyText<'a> {
    /// Splits a text. Its options must be among `known`, in any order and at most once each.
    pub(super) fn split(text: &'a str, known: &[&'static str]) -> Result<Self> {
        let mut parts = text.split('-');
        let mut parsed = Self { text, name: parts.next().unwrap_or_default(), options: Vec::new() };
        for part in parts {
            let (key, value) = split_key(part);
            if !known.contains(&key) {
                return Err(parsed.unknown(key, known));
            }
            if value.is_empty() {
                return Err(
                    parsed.error(format!("option {key:?} has no value, write for instance \"{key}1\""))
                );
            }
            if parsed.options.iter().any(|&(other, _)| other == key) {
                return Err(parsed.error(format!("option {key:?} is given twice, leave one of them out")));
            }
            parsed.options.push((key, value));
        }
        Ok(parsed)
    }

    fn unknown(&self, key: &str, known: &[&'static str]) -> Error {
        let name = self.name;
        let Some(nearest) = nearest(key, known) else {
            return self.error(format!("{name:?} takes no options, found {key:?}"));
        };
        let all = known.join(", ");
        self.error(format!("there is no option {key:?}, did you mean {nearest:?}? {name:?} takes {all}"))
    }

    /// An error about this text.
    pub(super) fn error(&self, problem: String) -> Error {
        Error::Policy { text: self.text.to_owned(), problem }
    }

    /// Returns the text of a key's value.
    pub(super) fn value(&self, key: &str) -> Option<&'a str> {
        self.options.iter().find(|&&(other, _)| other == key).map(|&(_, value)| value)
    }

    /// Returns the value of a key as a number, or the default.
    pub(super) fn number<T: FromStr>(&self, key: &str, default: T, expected: &str) -> Result<T> {
        let Some(value) = self.value(key) else { return Ok(default) };
        value.parse().map_err(|_| self.expected(key, expected))
    }

    /// The error of a value that is not what its key takes.
    pub(super) fn expected(&self, key: &str, expected: &str) -> Error {
        let value = self.value(key).unwrap_or_default();
        self.error(format!("option {key:?} takes {expected}, found {value:?}"))
    }

    /// Returns the value of a key that is 0 or 1.
    pub(super) fn switch(&self, key: &str) -> Result<bool> {
        match self.value(key) {
            None | Some("0") => Ok(false),
            Some("1") => Ok(true),
            Some(_) => Err(self.expected(key, "0 or 1")),
        }
    }

    /// Returns the text with its options in the order of `known`.
    pub(super) fn canonical(&self, known: &[&'static str]) -> String {
        let mut text = self.name.to_owned();
        for key in known {
            if let Some(value) = self.value(key) {
                text.extend(["-", key, value]);
            }
        }
        text
    }
}

/// Splits an option before its first digit; the value of `t`, a set of operations, is a word.
fn split_key(section: &str) -> (&str, &str) {
    if section.starts_with('t') {
        return section.split_at(1);
    }
    section.split_at(section.find(|c: char| c.is_ascii_digit()).unwrap_or(section.len()))
}

/// Returns the known word that is closest to another.
pub(super) fn nearest(word: &str, known: &[&'static str]) -> Option<&'static str> {
    known.iter().copied().min_by_key(|other| strsim::damerau_levenshtein(word, other))
}
