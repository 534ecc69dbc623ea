#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/fuzz/decode.rs"]
mod target;

fuzz_target!(
    // Panics of decoders are caught and become errors; only one that escapes is a finding, and ends
    // the process without the hook.
    init: std::panic::set_hook(Box::new(|_| ())),
    |data: &[u8]| target::run(data)
);
