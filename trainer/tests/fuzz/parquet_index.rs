//! Opens a Parquet file, then reads every image of it.

use efficienttrain::data::{ParquetFiles, Source};

pub(super) fn run(data: &[u8]) {
    let path = std::env::temp_dir().join(format!("fuzz-{}.parquet", std::process::id()));
    std::fs::write(&path, data).expect("the temporary folder can be written to");
    if let Ok(set) = ParquetFiles::open(std::slice::from_ref(&path), None, 1 << 20) {
        (0..set.len().min(1000)).for_each(|index| _ = set.load(index));
    }
    let _ = std::fs::remove_file(&path);
}
