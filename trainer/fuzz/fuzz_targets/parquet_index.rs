//! A Parquet file: opened, then every image of it read.
#![no_main]

use efficienttrain::data::{ParquetFiles, Source};
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    // Panics of the `parquet` crate are caught and made errors; only one that comes out here is a finding, and ends the
    // process without the hook's help.
    init: std::panic::set_hook(Box::new(|_| {})),
    |data: &[u8]| {
        let path = std::env::temp_dir().join(format!("fuzz-{}.parquet", std::process::id()));
        std::fs::write(&path, data).expect("the temporary folder can be written to");
        if let Ok(set) = ParquetFiles::open(&[path], None, 1 << 20) {
            (0..set.len().min(1000)).for_each(|index| _ = set.load(index));
        }
    }
);
