//! Names of classes in messages and outputs, made distinct if they are equal or look equal.

use std::collections::{HashMap, HashSet};

use crate::data::source::{Source, labels_of};
use crate::util::printable::{MAX_SHOWN, printable};

/// Number of names to list in a message.
const SHOWN: usize = 5;

/// Returns a unique name for each class: a name that several classes have gets its position in the
/// list, counted from 0, as in `crane (0)` and `crane (2)`. All others are unchanged.
pub fn unique_names(classes: &[String]) -> Vec<String> {
    let mut taken: HashMap<&str, usize> = HashMap::new();
    classes.iter().for_each(|name| *taken.entry(name).or_default() += 1);
    let unique = |(position, name): (usize, &String)| {
        let mut own = name.clone();
        while taken.get(own.as_str()).is_some_and(|count| *count > usize::from(own == *name)) {
            own = format!("{own} ({position})");
        }
        own
    };
    classes.iter().enumerate().map(unique).collect()
}

/// Returns the names of the classes without an image in a set.
pub fn empty_classes(source: &dyn Source) -> Vec<String> {
    let mut seen = vec![false; source.classes().len()];
    let labels = (0..source.len()).flat_map(|index| labels_of(source, index));
    labels.for_each(|label| seen[label as usize] = true);
    let names = unique_names(source.classes()).into_iter().zip(seen);
    names.filter(|(_, seen)| !seen).map(|(name, _)| name).collect()
}

/// Returns a name in backticks, followed by its code points if another name could look the same.
pub(crate) fn spelled(name: &str) -> String {
    if is_plain(name) { format!("`{}`", printable(name)) } else { escaped(name) }
}

fn is_plain(name: &str) -> bool {
    name.is_ascii() && name.trim() == name && !name.contains("  ")
}

fn escaped(name: &str) -> String {
    format!("`{}` ({})", printable(name), code_points(name))
}

fn code_points(name: &str) -> String {
    let shown = |c: char| match c {
        ' ' => String::from("\\u{20}"),
        _ => c.escape_default().to_string(),
    };
    name.chars().take(MAX_SHOWN).map(shown).collect()
}

/// Returns the most similar class to a name that is not a class, if there is one.
fn nearest<'a>(name: &str, classes: &'a [String]) -> Option<&'a String> {
    let near = classes.iter().map(|class| (strsim::levenshtein(&folded(class), &folded(name)), class));
    let limit = (name.chars().count() / 3).max(2);
    near.min_by_key(|(distance, _)| *distance).filter(|(distance, _)| *distance <= limit).map(|(_, c)| c)
}

/// Removes what names that look the same may differ in: case, surrounding spaces and combining
/// marks.
fn folded(name: &str) -> String {
    let is_mark = |c: &char| ('\u{300}'..='\u{36f}').contains(c);
    name.trim().to_lowercase().chars().filter(|c| !is_mark(c)).collect()
}

/// Describes a name that is not among the classes: its spelling, and the class that it may stand
/// for.
pub(crate) fn not_among(name: &str, classes: &[String]) -> String {
    // If one of the two is spelled with code points, so is the other: they may look the same.
    let alike = |class: &String| if is_plain(name) { spelled(class) } else { escaped(class) };
    let nearest = nearest(name, classes).map(|class| format!("; the nearest is {}", alike(class)));
    let count = classes.len();
    format!("{} is not among the {count} classes{}", spelled(name), nearest.unwrap_or_default())
}

/// Describes how two lists of classes differ; none if they are equal.
pub(crate) fn difference(was: &[String], is: &[String]) -> Option<String> {
    let missing_in = |list: &[String], of: &[String]| {
        let there: HashSet<&String> = list.iter().collect();
        of.iter().filter(|name| !there.contains(name)).cloned().collect::<Vec<_>>()
    };
    let (gone, new) = (missing_in(is, was), missing_in(was, is));
    let counted = match was.len() == is.len() {
        true => String::new(),
        false => format!("{} classes became {}; ", was.len(), is.len()),
    };
    match (gone.is_empty(), new.is_empty()) {
        (true, true) => {
            let first = was.iter().zip(is).enumerate().find(|(_, (a, b))| a != b);
            let order = first.map(|(at, (a, b))| {
                format!("{counted}their order differs: class {at} was {}, is {}", spelled(a), spelled(b))
            });
            order.or(Some(counted).filter(|text| !text.is_empty()))
        }
        (false, true) => Some(format!("{counted}gone: {}", some(&gone))),
        (true, false) => Some(format!("{counted}new: {}", some(&new))),
        (false, false) => Some(format!("{counted}gone: {}; new: {}", some(&gone), some(&new))),
    }
}

/// Lists the first few names and the number of the others.
pub(crate) fn some(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| spelled(name)).collect();
    let more = match names.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    shown.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn a_name_of_two_classes_gets_its_position() {
        assert_eq!(unique_names(&list(&["a", "b"])), ["a", "b"]);
        assert_eq!(unique_names(&list(&["crane", "dog", "crane"])), ["crane (0)", "dog", "crane (2)"]);
        let unique = unique_names(&list(&["x", "x (0)", "x"]));
        assert_eq!(unique, ["x (0) (0)", "x (0)", "x (2)"]);
    }

    #[test]
    fn names_that_look_the_same_are_spelled_out() {
        let message = not_among("cafe\u{301}", &list(&["caf\u{e9}", "bar"]));
        assert!(message.contains("(cafe\\u{301})") && message.contains("(caf\\u{e9})"), "{message}");
        let message = not_among("cat ", &list(&["cat"]));
        assert!(message.contains("cat\\u{20}") && message.contains("nearest is `cat` (cat)"), "{message}");
        let message = not_among("\u{1f}\u{8b}", &list(&["cat"]));
        assert!(!message.chars().any(char::is_control) && !message.contains("nearest"), "{message}");
    }

    #[test]
    fn lists_say_how_they_differ() {
        let was = list(&["cat", "dog"]);
        assert_eq!(difference(&was, &was), None);
        let to = |names: &[&str]| difference(&was, &list(names)).unwrap();
        assert_eq!(to(&["dog", "kat"]), "gone: `cat`; new: `kat`");
        assert_eq!(to(&["dog", "cat"]), "their order differs: class 0 was `cat`, is `dog`");
        assert_eq!(to(&["cat", "cow", "dog"]), "2 classes became 3; new: `cow`");
        assert_eq!(to(&["dog"]), "2 classes became 1; gone: `cat`");
    }
}
