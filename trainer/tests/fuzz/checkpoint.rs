//! A checkpoint: its tensors, and the record of its run.

use efficienttrain::checkpoint::Checkpoint;

pub(super) fn run(data: &[u8]) {
    let path = std::env::temp_dir().join(format!("fuzz-{}.safetensors", std::process::id()));
    std::fs::write(&path, data).expect("the temporary folder can be written to");
    let _ = Checkpoint::open(&path);
    let _ = std::fs::remove_file(&path);
}
