//! The bytes of an image file, whole and at a reduced scale.
#![no_main]

use efficienttrain_trainer::data::{decode, decode_reduced};
use libfuzzer_sys::fuzz_target;

const LIMIT: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    if let Ok(image) = decode(data, "fuzz", LIMIT) {
        assert!(image.as_raw().len() as u64 <= 3 * LIMIT);
        for divisor in [2, 4, 8] {
            let _ = decode_reduced(data, "fuzz", LIMIT, &|_| divisor);
        }
    }
});
