//! The arithmetic of mixing a batch with its mirror image.

use std::ops::Range;

use super::{BatchShape, Mix, MixBox};
use crate::tensor::Layout;

/// Calls `f` with each pair of samples (i, N-1-i), i < N-1-i.
fn for_pairs(x: &mut [f32], shape: &BatchShape, mut f: impl FnMut(&mut [f32], &mut [f32])) {
    let sample = shape.channels * shape.height * shape.width;
    if sample == 0 {
        return;
    }
    let middle = x.len() - shape.batch / 2 * sample;
    let (first, second) = x.split_at_mut(middle);
    for (a, b) in first.chunks_exact_mut(sample).zip(second.chunks_exact_mut(sample).rev()) {
        f(a, b);
    }
}

/// Replaces both samples of a pair by lam times themselves plus 1 - lam times the other.
pub(super) fn mixup(x: &mut [f32], shape: &BatchShape, lam: f32) {
    let rest = 1.0 - lam;
    for_pairs(x, shape, |first, second| {
        for (a, b) in first.iter_mut().zip(second) {
            (*a, *b) = (*a * lam + *b * rest, *b * lam + *a * rest);
        }
    });
}

/// Mixes every sample by its own operation, with the original of its partner.
pub(super) fn each(x: &mut [f32], shape: &BatchShape, mixes: &[Mix], buffer: &mut Vec<f32>) {
    let mix = |i: usize| mixes.get(i).copied().unwrap_or(Mix::None);
    let mut i = 0;
    for_pairs(x, shape, |first, second| {
        let (one, other) = (mix(i), mix(shape.batch - 1 - i));
        buffer.clear();
        buffer.extend_from_slice(first);
        blend_one(first, second, shape, one);
        blend_one(second, buffer, shape, other);
        i += 1;
    });
}

fn blend_one(own: &mut [f32], partner: &[f32], shape: &BatchShape, mix: Mix) {
    match mix {
        Mix::None => {}
        Mix::Mixup { lam } => {
            let (lam, rest) = (lam as f32, 1.0 - lam as f32);
            for (value, &other) in own.iter_mut().zip(partner) {
                *value = *value * lam + other * rest;
            }
        }
        Mix::Cutmix { area, .. } => {
            for range in rows(shape, area) {
                own[range.clone()].copy_from_slice(&partner[range]);
            }
        }
    }
}

/// Returns the index ranges of the rows of a box in a sample.
fn rows(shape: &BatchShape, area: MixBox) -> impl Iterator<Item = Range<usize>> {
    // An image of channels first is `channels` images of one channel.
    let (planes, depth) = match shape.layout {
        Layout::Chw => (shape.channels, 1),
        Layout::Hwc => (1, shape.channels),
    };
    let (height, stride) = (shape.height, shape.width * depth);
    let (left, right) = (area.x0 * depth, area.x1 * depth);
    (0..planes).flat_map(move |plane| {
        (area.y0..area.y1).map(move |y| {
            let row = (plane * height + y) * stride;
            row + left..row + right
        })
    })
}

/// Swaps the box between both samples of a pair.
pub(super) fn cutmix(x: &mut [f32], shape: &BatchShape, area: MixBox) {
    for_pairs(x, shape, |first, second| {
        for range in rows(shape, area) {
            first[range.clone()].swap_with_slice(&mut second[range]);
        }
    });
}
