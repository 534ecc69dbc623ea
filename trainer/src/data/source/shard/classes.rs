//! Maps labels to positions in one list of classes.

use std::collections::{BTreeSet, HashMap};

use crate::data::source::class_names::{not_among, spelled};
use crate::data::source::shard::label::{ShardLabel, numeral, whole};
use crate::util::printable::printable;

/// Larger numbers are mistakes and not classes. This bounds the list that is made from numbers
/// alone.
const MAX_CLASSES: u32 = 1 << 20;

/// A label and its origin.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Label<'a> {
    /// Stated by a file or a column.
    Stated(&'a ShardLabel),
    /// The class folder of the image.
    Folder(&'a str),
}

/// Reason why labels do not define a list of classes, and the position of the label in question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ungathered {
    pub(crate) at: usize,
    pub(crate) what: String,
}

/// Makes a list of classes from labels alone: the names in order, or the numbers up to the largest.
/// Texts such as `1999` are names, unless other labels are numbers.
///
/// # Errors
/// Returns an error if some labels are names and others numbers, or a number is not a class.
pub(crate) fn gathered<'a>(labels: impl Iterator<Item = Label<'a>>) -> Result<Vec<String>, Ungathered> {
    let mut found = Found::default();
    for (at, label) in labels.enumerate() {
        found.add(at, label).map_err(|what| Ungathered { at, what })?;
    }
    found.classes()
}

/// Names and numbers among the labels of a set, each with the position of the first label of its
/// kind.
#[derive(Debug, Default)]
struct Found<'a> {
    names: BTreeSet<&'a str>,
    first_name: usize,
    /// Texts that could be a name or a number.
    numerals: BTreeSet<&'a str>,
    /// Largest number.
    largest: Option<u32>,
    first_number: usize,
}

impl<'a> Found<'a> {
    fn add(&mut self, at: usize, label: Label<'a>) -> Result<(), String> {
        match label {
            Label::Stated(ShardLabel::Number(number)) => {
                self.add_number(at, f64::from(*number), &number.to_string())
            }
            Label::Stated(ShardLabel::Name(name)) => match numeral(name) {
                Some(_) if name.bytes().all(|b| b.is_ascii_digit()) && name.parse::<u32>().is_ok() => {
                    self.numerals.insert(name);
                    Ok(())
                }
                Some(number) => self.add_number(at, number, name),
                None => self.add_name(at, name),
            },
            Label::Folder(name) => self.add_name(at, name),
        }
    }

    fn add_name(&mut self, at: usize, name: &'a str) -> Result<(), String> {
        if self.names.is_empty() {
            self.first_name = at;
        }
        self.names.insert(name);
        Ok(())
    }

    fn add_number(&mut self, at: usize, number: f64, said: &str) -> Result<(), String> {
        let number = whole(number).filter(|n| *n < MAX_CLASSES).ok_or_else(|| no_class(said))?;
        if self.largest.is_none() {
            self.first_number = at;
        }
        self.largest = self.largest.max(Some(number));
        Ok(())
    }

    fn classes(mut self) -> Result<Vec<String>, Ungathered> {
        let Some(mut largest) = self.largest else {
            self.names.extend(self.numerals);
            return Ok(self.names.into_iter().map(String::from).collect());
        };
        let at = self.first_number.max(self.first_name);
        if let Some(name) = self.names.first() {
            let what = format!(
                "some labels are names ({}), others are numbers ({largest}); list the classes in classes.txt, one per line",
                spelled(name)
            );
            return Err(Ungathered { at, what });
        }
        for text in self.numerals {
            let number = text.parse().ok().filter(|n| *n < MAX_CLASSES);
            largest = largest.max(number.ok_or_else(|| Ungathered { at, what: no_class(text) })?);
        }
        Ok((0..=largest).map(|n| n.to_string()).collect())
    }
}

fn no_class(label: &str) -> String {
    format!(
        "label {label} is not a class; expected whole numbers from 0 to {}, or names; if it is a name, list the \
         classes in classes.txt, one per line",
        MAX_CLASSES - 1
    )
}

/// Lookup table of classes.
#[derive(Debug)]
pub(crate) struct ClassList<'a> {
    names: &'a [String],
    /// Position of each name; none for a name of several classes.
    positions: HashMap<&'a str, Option<u32>>,
    /// List that numbers are positions in, if it is another one.
    own: Option<&'a [String]>,
}

impl<'a> ClassList<'a> {
    /// Creates a table of `names`. Numbers are positions in `own`, the list of the data set itself,
    /// if it has one.
    pub(crate) fn new(names: &'a [String], own: Option<&'a [String]>) -> Self {
        let mut positions = HashMap::new();
        for (name, position) in names.iter().zip(0..) {
            positions.entry(name.as_str()).and_modify(|p| *p = None).or_insert(Some(position));
        }
        Self { names, positions, own: own.filter(|own| *own != names) }
    }

    /// Returns the position of the class of a label.
    ///
    /// # Errors
    /// Returns an error with the label and what was expected if there is no class, or more than
    /// one.
    pub(crate) fn position(&self, label: Label) -> Result<u32, String> {
        match label {
            Label::Folder(name) => self.of_name("class folder", name),
            Label::Stated(ShardLabel::Number(number)) => self.of_number(*number),
            Label::Stated(ShardLabel::Name(name)) if self.positions.contains_key(name.as_str()) => {
                self.of_name("label", name)
            }
            Label::Stated(ShardLabel::Name(name)) => match numeral(name) {
                // If the names of classes are numerals, a text is one of them or wrong.
                Some(number) if !self.names.iter().any(|class| numeral(class).is_some()) => {
                    whole(number).ok_or_else(|| no_class(name)).and_then(|number| self.of_number(number))
                }
                // A number with a fraction, such as `1.0`, is the same number.
                Some(number) => {
                    let text = whole(number).map(|number| number.to_string());
                    let known = text.filter(|text| self.positions.contains_key(text.as_str()));
                    self.of_name("label", known.as_deref().unwrap_or(name))
                }
                None => self.of_name("label", name),
            },
        }
    }

    fn of_name(&self, kind: &str, name: &str) -> Result<u32, String> {
        match self.positions.get(name) {
            Some(Some(position)) => Ok(*position),
            Some(None) => Err(format!(
                "{kind} {} is the name of several classes; give each class a unique name, or write positions in \
                 the list, counted from 0",
                spelled(name)
            )),
            None => Err(format!("{kind} {}; both splits need the same classes", not_among(name, self.names))),
        }
    }

    fn of_number(&self, number: u32) -> Result<u32, String> {
        let list = self.own.unwrap_or(self.names);
        match (list.get(number as usize), self.own) {
            (Some(name), Some(_)) => self.of_name("label", name),
            (Some(_), None) => Ok(number),
            (None, _) => Err(self.out_of_range(number, list)),
        }
    }

    fn out_of_range(&self, number: u32, list: &[String]) -> String {
        let count = list.len();
        let name = number.to_string();
        let hint = match list.iter().position(|class| *class == name) {
            Some(position) => format!(
                "; a number is a position in the list and not a name: for the class `{}`, which is at position \
                 {position}, write {position}",
                printable(&name)
            ),
            None => "; both splits need the same classes".into(),
        };
        format!(
            "label `{number}` is not among the {count} classes: expected a position from 0 to {}{hint}",
            count.saturating_sub(1)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    fn name(text: &str) -> ShardLabel {
        ShardLabel::Name(text.into())
    }

    #[test]
    fn numbers_are_positions_and_texts_are_names() {
        let names = list(&["3", "5", "7"]);
        let classes = ClassList::new(&names, None);
        let position = |label: ShardLabel| classes.position(Label::Stated(&label));
        assert_eq!(position(ShardLabel::Number(2)), Ok(2));
        assert_eq!(position(name("7")), Ok(2));
        assert!(position(name("2")).is_err(), "a text is a name where names are numerals");
        assert_eq!([name("5.0"), name("7e0")].map(position), [Ok(1), Ok(2)]);
        let message = position(ShardLabel::Number(7)).unwrap_err();
        assert!(message.contains("position 2, write 2") && message.contains("from 0 to 2"), "{message}");
        let names = list(&["cat", "dog"]);
        let classes = ClassList::new(&names, None);
        let position = |label: ShardLabel| classes.position(Label::Stated(&label));
        assert_eq!([name("1"), name("1.0"), name("dog")].map(position), [Ok(1), Ok(1), Ok(1)]);
        for (label, part) in [("-1", "-1"), ("1.5", "1.5"), ("dig", "nearest is `dog`"), ("2", "from 0 to 1")]
        {
            let message = position(name(label)).unwrap_err();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_name_of_several_classes_is_no_label() {
        let names = list(&["crane", "dog", "crane"]);
        let classes = ClassList::new(&names, None);
        assert!(classes.position(Label::Folder("crane")).unwrap_err().contains("several classes"));
        assert_eq!(classes.position(Label::Folder("dog")), Ok(1));
        assert_eq!(classes.position(Label::Stated(&ShardLabel::Number(2))), Ok(2));
    }

    #[test]
    fn numbers_are_positions_in_the_list_of_their_own_set() {
        let (names, own) = (list(&["a", "b", "c"]), list(&["c", "a"]));
        let classes = ClassList::new(&names, Some(&own));
        let position = |number| classes.position(Label::Stated(&ShardLabel::Number(number)));
        assert_eq!([position(0), position(1)], [Ok(2), Ok(0)]);
        assert!(position(2).unwrap_err().contains("from 0 to 1"));
    }

    #[test]
    fn lists_are_gathered_from_numbers_or_from_names() {
        let of = |labels: &[ShardLabel]| gathered(labels.iter().map(Label::Stated));
        assert_eq!(of(&[ShardLabel::Number(1), name("1.0"), name("2")]), Ok(list(&["0", "1", "2"])));
        assert_eq!(of(&[name("b"), name("a")]), Ok(list(&["a", "b"])));
        assert_eq!(of(&[name("2001"), name("1999"), name("old")]), Ok(list(&["1999", "2001", "old"])));
        for (label, part) in [("-1", "-1"), ("0.5", "0.5"), ("99999999999.0", "99999999999.0")] {
            let refused = of(&[name("0"), name(label)]).unwrap_err();
            assert!(refused.what.contains(part) && refused.at == 1, "{refused:?}");
        }
        let refused = of(&[name("a"), name("b"), ShardLabel::Number(1)]).unwrap_err();
        assert!(refused.what.contains("classes.txt") && refused.at == 2, "{refused:?}");
        // Folder names are class names, whatever they look like.
        assert_eq!(gathered(["-1", "1.5"].map(Label::Folder).into_iter()), Ok(list(&["-1", "1.5"])));
    }
}
