//! Mean and deviation of the colors of a set.

use rayon::prelude::*;
use serde::Serialize;

use crate::data::source::{BadImage, Source};
use crate::error::DataError;

/// Colors of a set, red, green and blue, in shares of the full level.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// Images that were looked at.
    pub images: usize,
    /// Mean level.
    pub mean: [f64; 3],
    /// Standard deviation over all pixels.
    pub std: [f64; 3],
    /// Images that could not be read, and are left out.
    pub broken: Vec<BadImage>,
}

/// Mean and deviation over `images` images spread evenly over the set, or all of them. Every image counts the same,
/// whatever its size.
///
/// # Errors
/// When not one of the images can be read.
pub fn stats(source: &dyn Source, images: Option<usize>) -> Result<Stats, DataError> {
    let count = images.unwrap_or(source.len()).clamp(1, source.len().max(1));
    // In 128 bits: the product can be larger than what 64 hold.
    let at = |i: usize| (i as u128 * source.len() as u128 / count as u128) as usize;
    let seen: Vec<_> = (0..count)
        .into_par_iter()
        .map(|i| (at(i), source.load(at(i))))
        .map(|(i, image)| (i, image.map(|p| moments(p.as_raw()))))
        .collect();
    let (mut sum, mut squares, mut used, mut broken) = ([0.0; 3], [0.0; 3], 0, Vec::new());
    for (index, moments) in seen {
        match moments {
            Ok((mean, square)) => {
                used += 1;
                (0..3).for_each(|c| sum[c] += mean[c]);
                (0..3).for_each(|c| squares[c] += square[c]);
            }
            Err(error) => broken.push(BadImage::of(source, index, &error)),
        }
    }
    if used == 0 {
        let reason = broken.first().map_or("the set is empty".into(), |b| b.reason.clone());
        return Err(DataError::Setting(format!("not one of {count} images could be read: {reason}")));
    }
    let mean = sum.map(|s| s / used as f64);
    let std = std::array::from_fn(|c| (squares[c] / used as f64 - mean[c] * mean[c]).max(0.0).sqrt());
    Ok(Stats { images: used, mean, std, broken })
}

/// Mean and mean square of each color of one image.
fn moments(pixels: &[u8]) -> ([f64; 3], [f64; 3]) {
    // Whole numbers, so that the sums are exact.
    let (mut sum, mut squares) = ([0u64; 3], [0u64; 3]);
    for pixel in pixels.chunks_exact(3) {
        for c in 0..3 {
            let level = u64::from(pixel[c]);
            sum[c] += level;
            squares[c] += level * level;
        }
    }
    let count = (pixels.len() / 3).max(1) as f64;
    (sum.map(|s| s as f64 / count / 255.0), squares.map(|s| s as f64 / count / (255.0 * 255.0)))
}
