//! Text of files in messages.

/// Number of characters to show.
pub(crate) const MAX_SHOWN: usize = 200;

/// Returns a printable text: control characters escaped, shortened if it is too long.
pub(crate) fn printable(text: &str) -> String {
    let shown = |c: char| match c {
        _ if c.is_control() => c.escape_default().collect(),
        _ => String::from(c),
    };
    let cut = if text.chars().nth(MAX_SHOWN).is_some() { "..." } else { "" };
    text.chars().take(MAX_SHOWN).map(shown).collect::<String>() + cut
}
