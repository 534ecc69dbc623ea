//! The arithmetic of AugMix: chains of operations, mixed with each other and with the image.

use image::RgbImage;

use super::drawn_op::DrawnOp;
use crate::apply::OpConfig;
use crate::enhance;
use crate::error::Result;
use crate::scratch::Scratch;
use crate::simd::{byte_of_f32, vectorized};

/// Random numbers of AugMix for one image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DrawnAugMix {
    /// Weight of the mixed chains in the output; the rest is the original image.
    pub mix_weight: f32,
    /// Weight of each chain.
    pub weights: Vec<f32>,
    /// Number of operations of each chain.
    pub depths: Vec<usize>,
    /// The operations of all chains, one chain after the other.
    pub ops: Vec<DrawnOp>,
}

impl DrawnAugMix {
    pub(super) fn clear(&mut self) {
        self.weights.clear();
        self.depths.clear();
        self.ops.clear();
    }
}

/// Buffers of [`mix`].
#[derive(Debug, Default)]
pub(super) struct ChainBuffers {
    /// The image before the chains.
    original: Vec<u8>,
    /// The image while one chain after the other is blended into it.
    mixed: Vec<u8>,
    /// Weighted sum of the chains.
    sums: Vec<f32>,
}

/// Applies the chains to an image and mixes them, at once or one after the other.
pub(super) fn mix(
    img: &mut RgbImage,
    drawn: &DrawnAugMix,
    sequential_blend: bool,
    config: &OpConfig,
    buffers: &mut ChainBuffers,
    scratch: &mut Scratch,
) -> Result<()> {
    buffers.original.clear();
    buffers.original.extend_from_slice(img);
    let mix = if sequential_blend { blend_chains } else { sum_chains };
    mix(img, drawn, config, buffers, scratch)
}

/// Calls `done` with the index of each chain and the image after it.
fn for_chains(
    img: &mut RgbImage,
    original: &[u8],
    drawn: &DrawnAugMix,
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

/// Sums all chains by their weights in f32, then blends the sum with the image once.
fn sum_chains(
    img: &mut RgbImage,
    drawn: &DrawnAugMix,
    config: &OpConfig,
    ChainBuffers { original, sums, .. }: &mut ChainBuffers,
    scratch: &mut Scratch,
) -> Result<()> {
    sums.clear();
    sums.resize(original.len(), 0.0);
    let summed = for_chains(img, original, drawn, config, scratch, |chain, image| {
        add_weighted(sums, image, drawn.weights[chain]);
    });
    blend_sums(img, sums, original, drawn.mix_weight);
    summed
}

/// Blends one chain after the other into the image. Without rounding, the output would be that of
/// [`sum_chains`].
fn blend_chains(
    img: &mut RgbImage,
    drawn: &DrawnAugMix,
    config: &OpConfig,
    ChainBuffers { original, mixed, .. }: &mut ChainBuffers,
    scratch: &mut Scratch,
) -> Result<()> {
    mixed.clear();
    mixed.extend_from_slice(original);
    let blended = for_chains(img, original, drawn, config, scratch, |chain, image| {
        blend_into(mixed, image, blend_weight(drawn, chain));
    });
    img.copy_from_slice(mixed);
    blended
}

/// Weight with which a chain is blended in when its turn comes, so that it has its own weight after
/// the later chains.
fn blend_weight(drawn: &DrawnAugMix, chain: usize) -> f32 {
    let mut left = 1.0;
    let mut alpha = 0.0;
    for &weight in drawn.weights[chain..].iter().rev() {
        alpha = weight * drawn.mix_weight / left;
        left *= 1.0 - alpha;
    }
    // 0/0 if a later chain has all the weight.
    if alpha.is_nan() { 0.0 } else { alpha }
}

vectorized! {
fn add_weighted<'a>(sums: &'a mut [f32], image: &'a [u8], weight: f32) {
    for (sum, &value) in sums.iter_mut().zip(image) {
        *sum += weight * f32::from(value);
    }
}
}

vectorized! {
/// The sums, clipped and truncated, blended with the original.
fn blend_sums<'a>(out: &'a mut [u8], sums: &'a [f32], original: &'a [u8], mix_weight: f32) {
    for ((value, &sum), &old) in out.iter_mut().zip(sums).zip(original) {
        *value = enhance::blend(old, byte_of_f32(sum), mix_weight);
    }
}
}

vectorized! {
fn blend_into<'a>(mixed: &'a mut [u8], image: &'a [u8], weight: f32) {
    for (value, &new) in mixed.iter_mut().zip(image) {
        *value = enhance::blend(*value, new, weight);
    }
}
}
