//! Mean and standard deviation of the colors of a data set.

use image::RgbImage;
use randaug::luma;
use rayon::prelude::*;
use serde::Serialize;

use crate::config::channels::InputChannels;
use crate::data::source::{BadImage, Source};
use crate::error::DataError;

/// Color statistics of a data set: red, green and blue, from 0 to 1, or three times those of the
/// gray images.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// Number of images measured.
    pub images: usize,
    /// Mean of each channel.
    pub mean: [f64; 3],
    /// Standard deviation of each channel over all pixels.
    pub std: [f64; 3],
    /// Images that were skipped because they cannot be read.
    pub broken: Vec<BadImage>,
}

/// Computes mean and standard deviation of `channels` over `images` images spread evenly over the set, or all of
/// them. Every image has the same weight, whatever its size.
///
/// # Errors
/// Returns an error if none of the images can be read.
pub fn stats(
    source: &dyn Source,
    channels: InputChannels,
    images: Option<usize>,
) -> Result<Stats, DataError> {
    let count = images.unwrap_or(source.len()).clamp(1, source.len().max(1));
    // Uses 128 bits, because the product may overflow 64.
    let at = |i: usize| (i as u128 * source.len() as u128 / count as u128) as usize;
    let seen: Vec<_> = (0..count)
        .into_par_iter()
        .map(|i| (at(i), source.load(at(i))))
        .map(|(i, image)| (i, image.map(|p| moments(&p, channels))))
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
        return Err(DataError::Setting(format!("none of {count} images could be read: {reason}")));
    }
    let mean = sum.map(|s| s / used as f64);
    let std = std::array::from_fn(|c| (squares[c] / used as f64 - mean[c] * mean[c]).max(0.0).sqrt());
    Ok(Stats { images: used, mean, std, broken })
}

/// Returns mean and mean square of each channel of an image.
fn moments(image: &RgbImage, channels: InputChannels) -> ([f64; 3], [f64; 3]) {
    let pixels = image.as_chunks::<3>().0;
    // Integers make the sums exact.
    let (mut sum, mut squares) = ([0u64; 3], [0u64; 3]);
    for &rgb in pixels {
        let pixel = match channels {
            InputChannels::Rgb => rgb,
            InputChannels::Gray => [luma(rgb); 3],
        };
        for c in 0..3 {
            let level = u64::from(pixel[c]);
            sum[c] += level;
            squares[c] += level * level;
        }
    }
    let count = pixels.len().max(1) as f64;
    (sum.map(|s| s as f64 / count / 255.0), squares.map(|s| s as f64 / count / (255.0 * 255.0)))
}
