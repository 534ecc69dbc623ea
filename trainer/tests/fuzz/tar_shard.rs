//! A tar shard: its headers are walked, then each image is decoded where the index says it is.

use std::io::Cursor;
use std::path::Path;

use efficienttrain::data::{ShardIndex, decode};

pub(super) fn run(data: &[u8]) {
    let Ok(index) = ShardIndex::scan(Cursor::new(data), data.len() as u64, Path::new("fuzz.tar")) else {
        return;
    };
    for image in &index.images {
        // An index that points outside the shard is a finding.
        let bytes = &data[image.offset as usize..(image.offset + image.length) as usize];
        let _ = decode(bytes, &image.name, 1 << 20);
    }
}
