//! Records of event files: length, its checksum, payload, its checksum.

use std::ops::Range;

/// Encodes a payload as a record.
pub(crate) fn encode(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    let mut bytes = Vec::with_capacity(payload.len() + 16);
    bytes.extend(length);
    bytes.extend(checksum(&length));
    bytes.extend(payload);
    bytes.extend(checksum(payload));
    bytes
}

/// Returns the complete records of a file with their positions, up to the first that is damaged or
/// incomplete.
pub(crate) fn records(bytes: &[u8]) -> impl Iterator<Item = (Range<usize>, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (length, rest) = bytes.get(at..)?.split_at_checked(8)?;
        let (sum, rest) = rest.split_at_checked(4)?;
        let size = usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
        let (payload, rest) = rest.split_at_checked(size)?;
        if sum != checksum(length) || rest.get(..4)? != checksum(payload) {
            return None;
        }
        let range = at..at + size + 16;
        at = range.end;
        Some((range, payload))
    })
}

/// Returns the masked CRC-32C of the format: rotated and shifted, since a checksum of data that
/// contains its own checksum is weak.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_or_unfinished_record_ends_the_file() {
        let mut file = [encode(b"one"), encode(b""), encode(b"three")].concat();
        let texts = |file: &[u8]| records(file).map(|(_, payload)| payload.to_vec()).collect::<Vec<_>>();
        assert_eq!(texts(&file), [&b"one"[..], b"", b"three"]);
        for cut in file.len() - 20..file.len() {
            assert_eq!(texts(&file[..cut]).len(), 2, "{cut}");
        }
        // A length beyond all memory, with a valid checksum.
        let huge = [&u64::MAX.to_le_bytes()[..], &checksum(&u64::MAX.to_le_bytes())].concat();
        assert_eq!(texts(&[&file[..], &huge].concat()).len(), 3);
        file[13] ^= 1;
        assert!(texts(&file).is_empty());
    }
}
