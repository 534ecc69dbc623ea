//! Options in messages, as the flags of the command line.

/// Opens the name of an option in a message of this library.
const OPEN: &str = "option `";

/// Rewrites the options that a message names, ``option `lr` ``, as flags, `--lr`.
///
/// ```
/// use efficienttrain::config::with_flags;
///
/// assert_eq!(with_flags("option `lr`: lower it, or give option `clip-grad` 1"), "--lr: lower it, or give --clip-grad 1");
/// ```
pub fn with_flags(message: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(message.len()), message);
    while let Some(start) = rest.find(OPEN) {
        let (before, name) = (&rest[..start], &rest[start + OPEN.len()..]);
        let is_key = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        out += before;
        match name.split_once('`') {
            Some((key, after)) if !key.is_empty() && key.chars().all(is_key) => {
                out += "--";
                out += key;
                rest = after;
            }
            _ => {
                out += OPEN;
                rest = name;
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::with_flags;

    #[test]
    fn only_options_become_flags() {
        for (message, flags) in [
            ("", ""),
            ("option `batch`: give option `accumulation`", "--batch: give --accumulation"),
            ("an option `", "an option `"),
            (
                "option `not one`, option `Ünicode`, option ``",
                "option `not one`, option `Ünicode`, option ``",
            ),
            ("class `data`", "class `data`"),
        ] {
            assert_eq!(with_flags(message), flags);
        }
    }
}
