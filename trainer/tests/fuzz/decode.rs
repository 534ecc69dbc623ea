//! The bytes of an image file, whole and at a reduced scale.

use efficienttrain::data::{decode, decode_reduced};

const LIMIT: u64 = 1 << 20;

pub(super) fn run(data: &[u8]) {
    if let Ok(image) = decode(data, "fuzz", LIMIT) {
        assert!(image.as_raw().len() as u64 <= 3 * LIMIT);
        for divisor in [2, 4, 8] {
            let _ = decode_reduced(data, "fuzz", LIMIT, &|_| divisor);
        }
    }
}
