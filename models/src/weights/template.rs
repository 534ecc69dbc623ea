//! Rules that rename parameters.
//!
//! A rule is two templates. In the first, `{i}` stands for a number that makes up one part of the
//! name, and a last `*` for all parts that remain; the second uses them, a number also as `{2i+1}`
//! and the like.

/// The new name, if the rule's first template fits the old one.
pub(super) fn rename((from, to): (&str, &str), name: &str) -> Option<String> {
    let (numbers, rest) = matched(from, name)?;
    let mut out = String::with_capacity(name.len() + 16);
    let mut template = to;
    while let Some((literal, hole)) = template.split_once('{') {
        let (term, after) = hole.split_once('}')?;
        out.push_str(literal);
        out.push_str(&evaluate(term, &numbers)?.to_string());
        template = after;
    }
    match template.strip_suffix('*') {
        Some(literal) => out.extend([literal, rest]),
        None => out.push_str(template),
    }
    Some(out)
}

/// The numbers that the holes of a template stand for, and the text of its `*`.
fn matched<'a>(template: &'a str, name: &'a str) -> Option<(Vec<(&'a str, usize)>, &'a str)> {
    let (mut numbers, mut name) = (Vec::new(), Some(name));
    for part in template.split('.') {
        if part == "*" {
            return Some((numbers, name?));
        }
        let (head, tail) = name?.split_once('.').map_or((name?, None), |(head, tail)| (head, Some(tail)));
        match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            Some(letter) => numbers.push((letter, head.parse().ok()?)),
            None if part == head => {}
            None => return None,
        }
        name = tail;
    }
    name.is_none().then_some((numbers, ""))
}

/// `i`, `i+1`, `2i` or `2i+1` with the number for `i`.
fn evaluate(term: &str, numbers: &[(&str, usize)]) -> Option<usize> {
    let (product, offset) = term.split_once('+').map_or((term, Some(0)), |(p, o)| (p, o.parse().ok()));
    let (factor, letter) = product.split_at(product.find(|c: char| !c.is_ascii_digit())?);
    let factor = if factor.is_empty() { 1 } else { factor.parse().ok()? };
    let (_, number) = numbers.iter().find(|(known, _)| *known == letter)?;
    number.checked_mul(factor)?.checked_add(offset?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_capture_and_compute() {
        let rule = ("a.{i}.{j}.b.*", "x.{2i+1}.y_{j}.{i+1}.*");
        assert_eq!(rename(rule, "a.3.10.b.c.weight").unwrap(), "x.7.y_10.4.c.weight");
        for other in ["a.3.10.b", "a.3.10.c.weight", "a.x.10.b.weight", "a.3.b.weight", "aa.3.10.b.w"] {
            assert_eq!(rename(rule, other), None, "{other}");
        }
        assert_eq!(rename(("cls_token", "class_token"), "cls_token").unwrap(), "class_token");
        assert_eq!(rename(("cls_token", "class_token"), "cls_token.x"), None);
        assert_eq!(rename(("l.{i}.*", "l.{2i}.*"), "l.99999999999999999999.w"), None);
    }
}
