//! Opens a Parquet file, then reads every image of it.
#![no_main]

use efficienttrain::data::{ParquetFiles, Source};
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    // Panics of the `parquet` crate are caught and become errors; only one that escapes is a
    // finding, and ends the process without the hook.
    init: std::panic::set_hook(Box::new(|_| {})),
    |data: &[u8]| {
        let path = std::env::temp_dir().join(format!("fuzz-{}.parquet", std::process::id()));
        std::fs::write(&path, data).expect("the temporary folder can be written to");
        if let Ok(set) = ParquetFiles::open(&[path], None, 1 << 20) {
            (0..set.len().min(1000)).for_each(|index| _ = set.load(index));
        }
    }
);
