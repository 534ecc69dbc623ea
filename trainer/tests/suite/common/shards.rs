//! Tar files and CIFAR batches for tests.

use std::path::Path;

use image::{Rgb, RgbImage};

/// Returns a JPEG of one color, identified by its level.
pub(crate) fn jpeg(level: u8, width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let image = RgbImage::from_pixel(width, height, Rgb([level, 100, 200]));
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95).encode_image(&image).unwrap();
    bytes
}

/// Returns a tar file of these entries.
pub(crate) fn tar_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Writes a shard in WebDataset layout: image `i` has level `20 * i` and the given label.
pub(crate) fn webdataset(path: &Path, labels: &[&str]) -> Vec<u8> {
    let images: Vec<_> = (0..labels.len()).map(|i| jpeg(20 * i as u8, 16, 12)).collect();
    let names: Vec<_> = (0..labels.len()).map(|i| (format!("{i:06}.jpg"), format!("{i:06}.cls"))).collect();
    let mut entries: Vec<(&str, &[u8])> = Vec::new();
    for (i, label) in labels.iter().enumerate() {
        entries.push((&names[i].0, &images[i]));
        entries.push((&names[i].1, label.as_bytes()));
    }
    let bytes = tar_of(&entries);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, &bytes).unwrap();
    bytes
}

/// Returns a CIFAR batch: image `i` has red `i`, green by row, blue by column.
pub(crate) fn cifar(labels: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (i, label) in labels.iter().enumerate() {
        bytes.extend_from_slice(label);
        bytes.extend(std::iter::repeat_n(i as u8, 1024));
        bytes.extend((0..1024).map(|p| (p / 32) as u8));
        bytes.extend((0..1024).map(|p| (p % 32) as u8));
    }
    bytes
}
