//! Unknown keys in stored recipes: the nearest known one is named.

use crate::recipe::OBSOLETE_KEYS;

/// Adds the nearest known key to serde's message about an unknown one; returns any other message
/// unchanged.
///
/// Every type of this crate that is read from a recipe refuses unknown keys, in any format of
/// serde. serde lists all known keys, in their order.
///
/// ```
/// use efficienttrain_schedule::suggest_key;
///
/// let error = "unknown field `shar`, expected one of `share`, `size` at line 7 column 12";
/// let better = "unknown field `shar` (did you mean `share`?), expected one of `share`, `size` at line 7 column 12";
/// assert_eq!(suggest_key(error), better);
/// assert_eq!(suggest_key("trailing comma at line 1 column 9"), "trailing comma at line 1 column 9");
/// ```
#[must_use]
pub fn suggest_key(message: &str) -> String {
    insert_nearest(message).unwrap_or_else(|| message.to_owned())
}

/// Similarity of two keys. A common beginning counts more than the number of edits: `ema` means
/// `ema_decay`.
fn similarity(a: &str, b: &str) -> f64 {
    strsim::jaro_winkler(a, b)
}

fn insert_nearest(message: &str) -> Option<String> {
    const START: &str = "unknown field `";
    let (before, rest) = message.split_once(START)?;
    let (unknown, after) = rest.split_once('`')?;
    let listed = after.lines().next()?.strip_prefix(", expected ")?;
    let known = listed.split('`').skip(1).step_by(2).filter(|key| !OBSOLETE_KEYS.contains(key));
    let nearest = known.max_by(|a, b| similarity(unknown, a).total_cmp(&similarity(unknown, b)))?;
    Some(format!("{before}{START}{unknown}` (did you mean `{nearest}`?){after}"))
}
