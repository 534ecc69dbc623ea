//! A file of CIFAR records, then each of its images.

use efficienttrain::data::{Cifar, Source};

pub(super) fn run(data: &[u8]) {
    let path = std::env::temp_dir().join(format!("fuzz-{}-data_batch_1.bin", std::process::id()));
    std::fs::write(&path, data).expect("the temporary folder can be written to");
    if let Ok(set) = Cifar::open(std::slice::from_ref(&path)) {
        (0..set.len().min(1000)).for_each(|index| _ = set.load(index));
    }
    let _ = std::fs::remove_file(&path);
}
