//! A weight file, safetensors or `.pth`, with and without its moving average.

use std::io::Cursor;
use std::path::Path;

use efficienttrain_models::weights::{ReadOptions, read_from};

pub(super) fn run(data: &[u8]) {
    for prefer_ema in [false, true] {
        let options = ReadOptions { prefer_ema };
        let _ = read_from(Cursor::new(data), Path::new("fuzz.pth"), &options);
    }
}
