//! The arithmetic of mixing a batch with its mirror image.

use super::{BatchShape, MixBox};
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

/// Both of a pair become lam times themselves plus 1 - lam times the other.
pub(super) fn mixup(x: &mut [f32], shape: &BatchShape, lam: f32) {
    let rest = 1.0 - lam;
    for_pairs(x, shape, |first, second| {
        for (a, b) in first.iter_mut().zip(second) {
            (*a, *b) = (*a * lam + *b * rest, *b * lam + *a * rest);
        }
    });
}

/// Both of a pair swap the box.
pub(super) fn cutmix(x: &mut [f32], shape: &BatchShape, area: MixBox) {
    // A picture of channels first is `channels` pictures of one channel.
    let (planes, depth) = match shape.layout {
        Layout::Chw => (shape.channels, 1),
        Layout::Hwc => (1, shape.channels),
    };
    let stride = shape.width * depth;
    let (left, right) = (area.x0 * depth, area.x1 * depth);
    for_pairs(x, shape, |first, second| {
        for plane in 0..planes {
            for y in area.y0..area.y1 {
                let row = (plane * shape.height + y) * stride;
                first[row + left..row + right].swap_with_slice(&mut second[row + left..row + right]);
            }
        }
    });
}
