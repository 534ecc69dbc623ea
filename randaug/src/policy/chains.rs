//! The arithmetic of AugMix: chains of operations, mixed with each other and with the picture.

use image::RgbImage;

use super::draw::DrawnOp;
use crate::apply::OpConfig;
use crate::enhance;
use crate::error::Result;
use crate::scratch::Scratch;
use crate::simd::{byte_of_f32, vectorized};

/// What is drawn for one picture.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DrawnMix {
    /// Share of the mixed chains in the outcome; the rest is the picture as it was.
    pub share: f32,
    /// Weight of each chain.
    pub weights: Vec<f32>,
    /// Number of operations of each chain.
    pub depths: Vec<usize>,
    /// The operations of all chains, one chain after the other.
    pub ops: Vec<DrawnOp>,
}

impl DrawnMix {
    pub(super) fn clear(&mut self) {
        self.weights.clear();
        self.depths.clear();
        self.ops.clear();
    }
}

/// Applies the chains to a picture and mixes them, at once or one by one.
pub(super) fn mix(
    img: &mut RgbImage,
    drawn: &DrawnMix,
    blended: bool,
    config: &OpConfig,
    scratch: &mut Scratch,
) -> Result<()> {
    let mut original = std::mem::take(&mut scratch.drawn.original);
    original.clear();
    original.extend_from_slice(img);
    let blend = if blended { blend_chains } else { sum_chains };
    let done = blend(img, &original, drawn, config, scratch);
    scratch.drawn.original = original;
    done
}

/// Calls `done` with the picture after each chain.
fn for_chains(
    img: &mut RgbImage,
    original: &[u8],
    drawn: &DrawnMix,
    config: &OpConfig,
    scratch: &mut Scratch,
    mut done: impl FnMut(usize, &[u8]),
) -> Result<()> {
    let mut ops = drawn.ops.iter();
    for (chain, &depth) in drawn.depths.iter().enumerate() {
        img.copy_from_slice(original);
        for op in ops.by_ref().take(depth) {
            op.apply(img, config, scratch)?;
        }
        done(chain, img);
    }
    Ok(())
}

/// The weighted sum of all chains in f32, then one blend with the picture.
fn sum_chains(
    img: &mut RgbImage,
    original: &[u8],
    drawn: &DrawnMix,
    config: &OpConfig,
    scratch: &mut Scratch,
) -> Result<()> {
    let mut sums = std::mem::take(&mut scratch.drawn.sums);
    sums.clear();
    sums.resize(original.len(), 0.0);
    let summed = for_chains(img, original, drawn, config, scratch, |chain, picture| {
        add_weighted(&mut sums, picture, drawn.weights[chain]);
    });
    blend_sums(img, &sums, original, drawn.share);
    scratch.drawn.sums = sums;
    summed
}

/// Blends one chain after the other into the picture; the shares are such that without rounding the outcome would be
/// that of [`sum_chains`].
fn blend_chains(
    img: &mut RgbImage,
    original: &[u8],
    drawn: &DrawnMix,
    config: &OpConfig,
    scratch: &mut Scratch,
) -> Result<()> {
    let mut mixed = std::mem::take(&mut scratch.drawn.mixed);
    mixed.clear();
    mixed.extend_from_slice(original);
    let blended = for_chains(img, original, drawn, config, scratch, |chain, picture| {
        blend_into(&mut mixed, picture, blend_share(drawn, chain));
    });
    img.copy_from_slice(&mixed);
    scratch.drawn.mixed = mixed;
    blended
}

/// Share of a chain at its turn: its weight over what the later chains leave.
fn blend_share(drawn: &DrawnMix, chain: usize) -> f32 {
    let mut left = 1.0;
    let mut alpha = 0.0;
    for &weight in drawn.weights[chain..].iter().rev() {
        alpha = weight * drawn.share / left;
        left *= 1.0 - alpha;
    }
    // 0/0 where a later chain takes everything.
    if alpha.is_nan() { 0.0 } else { alpha }
}

vectorized! {
fn add_weighted<'a>(sums: &'a mut [f32], picture: &'a [u8], weight: f32) {
    for (sum, &value) in sums.iter_mut().zip(picture) {
        *sum += weight * f32::from(value);
    }
}
}

vectorized! {
/// The sums, clipped and truncated, blended with the original.
fn blend_sums<'a>(out: &'a mut [u8], sums: &'a [f32], original: &'a [u8], share: f32) {
    for ((value, &sum), &old) in out.iter_mut().zip(sums).zip(original) {
        *value = enhance::blend(old, byte_of_f32(sum), share);
    }
}
}

vectorized! {
fn blend_into<'a>(mixed: &'a mut [u8], picture: &'a [u8], share: f32) {
    for (value, &new) in mixed.iter_mut().zip(picture) {
        *value = enhance::blend(*value, new, share);
    }
}
}
