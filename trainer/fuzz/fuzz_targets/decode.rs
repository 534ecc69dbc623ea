//! The bytes of an image file, whole and at a reduced scale.
#![no_main]

use std::sync::Once;

use efficienttrain::data::{decode, decode_reduced};
use libfuzzer_sys::fuzz_target;

const LIMIT: u64 = 1 << 20;

/// The fuzzer's hook ends the process at any panic. Panics of decoders are caught and become
/// errors, so only others count.
fn let_decoders_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|_| ())));
}

fuzz_target!(|data: &[u8]| {
    let_decoders_panic();
    if let Ok(image) = decode(data, "fuzz", LIMIT) {
        assert!(image.as_raw().len() as u64 <= 3 * LIMIT);
        for divisor in [2, 4, 8] {
            let _ = decode_reduced(data, "fuzz", LIMIT, &|_| divisor);
        }
    }
});
