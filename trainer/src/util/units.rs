//! Units of numbers in messages.

/// Returns whole mebibytes.
pub(crate) fn mib(bytes: u64) -> u64 {
    bytes >> 20
}
