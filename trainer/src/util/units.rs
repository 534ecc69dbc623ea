//! Units in messages.

/// Converts bytes to whole mebibytes.
pub(crate) fn mib(bytes: u64) -> u64 {
    bytes >> 20
}
