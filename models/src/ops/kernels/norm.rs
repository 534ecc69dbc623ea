//! Batch norm and layer norm over rows of channels.

use super::rows::{block_sums, by_row};
use super::{Element, vectorised};
use rayon::prelude::*;

/// Rows per partial statistic of a batch norm: small enough to stay in cache between the two passes over it.
const STAT_ROWS: usize = 256;

/// Mean and biased variance of every channel over `rows` rows, in double precision.
///
/// Each block is centred on its own mean before squaring, then blocks are joined (Chan et al., 1979): no cancellation,
/// one pass over memory.
pub(crate) fn channel_statistics<T: Element>(x: &[T], c: usize) -> (Vec<f64>, Vec<f64>) {
    let parts: Vec<(f64, Vec<T>, Vec<T>)> = x
        .par_chunks(c * STAT_ROWS)
        .map(|block| {
            let rows = block.len() / c;
            let (mut mean, mut m2) = (vec![T::ZERO; c], vec![T::ZERO; c]);
            // Sums of differences to the first row keep their digits where the mean is far from zero.
            let first = &block[..c];
            vectorised(|| {
                for row in block.chunks_exact(c) {
                    mean.iter_mut().zip(row).zip(first).for_each(|((m, &x), &f)| *m += x - f);
                }
                let scale = T::ONE / T::of(rows as f64);
                mean.iter_mut().zip(first).for_each(|(m, &f)| *m = *m * scale + f);
                for row in block.chunks_exact(c) {
                    for ((m2, &mean), &x) in m2.iter_mut().zip(&mean).zip(row) {
                        *m2 += (x - mean) * (x - mean);
                    }
                }
            });
            (rows as f64, mean, m2)
        })
        .collect();
    let (mut count, mut mean, mut m2) = (0.0, vec![0.0; c], vec![0.0; c]);
    for (n, block_mean, block_m2) in parts {
        let total = count + n;
        for i in 0..c {
            let delta = block_mean[i].wide() - mean[i];
            mean[i] += delta * n / total;
            m2[i] += block_m2[i].wide() + delta * delta * count * n / total;
        }
        count = total;
    }
    let variance = m2.into_iter().map(|v| v / count).collect();
    (mean, variance)
}

/// Per-channel constants of `y = x * scale + shift` for a normalisation with the given statistics.
pub(crate) fn affine<T: Element>(
    mean: &[f64],
    inv_std: &[f64],
    weight: &[T],
    bias: &[T],
) -> (Vec<T>, Vec<T>) {
    let scale: Vec<f64> = inv_std.iter().zip(weight).map(|(s, w)| s * w.wide()).collect();
    let shift = scale.iter().zip(mean).zip(bias).map(|((s, m), b)| T::of(b.wide() - m * s)).collect();
    (scale.into_iter().map(T::of).collect(), shift)
}

/// What follows a batch norm in the same pass over memory.
#[derive(Clone, Copy)]
pub(crate) struct After<'a, T> {
    /// A tensor of the same shape that is added.
    pub(crate) residual: Option<&'a [T]>,
    /// Whether negative results become zero.
    pub(crate) relu: bool,
}

/// `y = relu(x * scale + shift + residual)`, the last two as `after` says.
pub(crate) fn scale_shift<T: Element>(x: &[T], scale: &[T], shift: &[T], after: After<T>) -> Vec<T> {
    let c = scale.len();
    // What is not a number stays so, as in PyTorch: a run that goes wrong must show.
    let rectified = |y: T| if after.relu && y <= T::ZERO { T::ZERO } else { y };
    match after.residual {
        Some(residual) => by_row(x.len() / c, c, |row| {
            let (x, residual) = (&x[row * c..][..c], &residual[row * c..][..c]);
            move |j| rectified(x[j] * scale[j] + shift[j] + residual[j])
        }),
        None => by_row(x.len() / c, c, |row| {
            let x = &x[row * c..][..c];
            move |j| rectified(x[j] * scale[j] + shift[j])
        }),
    }
}

/// Gradients of a batch norm in training: `(dx, dweight, dbias)`.
///
/// `dx = weight * inv_std * (dy - mean(dy) - x_hat * mean(dy * x_hat))`; with fixed statistics (`batch` false) the
/// two means vanish.
pub(crate) fn batch_norm_backward<T: Element>(
    x: &[T],
    dy: &[T],
    weight: &[T],
    (mean, inv_std): (&[f64], &[f64]),
    batch: bool,
) -> (Vec<T>, Vec<T>, Vec<T>) {
    let c = weight.len();
    let rows = x.len() / c;
    let centre: Vec<T> = mean.iter().map(|&m| T::of(m)).collect();
    // Sums of dy, then of dy * (x - mean).
    let sums = block_sums(rows, 2 * c, |range, sums: &mut [T]| {
        let (plain, product) = sums.split_at_mut(c);
        for row in range {
            let (x, dy) = (&x[row * c..][..c], &dy[row * c..][..c]);
            for ((((s, p), &x), &dy), &m) in
                plain.iter_mut().zip(product.iter_mut()).zip(x).zip(dy).zip(&centre)
            {
                *s += dy;
                *p += dy * (x - m);
            }
        }
    });
    let (sum_dy, sum_dy_x) = sums.split_at(c);
    let n = rows as f64;
    // dx = a * dy + b * x + d, channel by channel.
    let (mut a, mut b, mut d) = (Vec::with_capacity(c), Vec::with_capacity(c), Vec::with_capacity(c));
    for i in 0..c {
        let scale = weight[i].wide() * inv_std[i];
        let slope = if batch { -scale * inv_std[i] * inv_std[i] * sum_dy_x[i] / n } else { 0.0 };
        let offset = if batch { -scale * sum_dy[i] / n } else { 0.0 };
        a.push(T::of(scale));
        b.push(T::of(slope));
        d.push(T::of(offset));
    }
    let (a, b, d, centre) = (&a[..c], &b[..c], &d[..c], &centre[..c]);
    let dx = by_row(rows, c, |row| {
        let (x, dy) = (&x[row * c..][..c], &dy[row * c..][..c]);
        move |j| a[j] * dy[j] + (b[j] * (x[j] - centre[j]) + d[j])
    });
    let dweight = sum_dy_x.iter().zip(inv_std).map(|(s, i)| T::of(s * i)).collect();
    let dbias = sum_dy.iter().map(|&s| T::of(s)).collect();
    (dx, dweight, dbias)
}

/// Layer norm of every row of `c` channels; also gives mean and `1 / std` of each row for the backward pass.
pub(crate) fn layer_norm<T: Element>(x: &[T], weight: &[T], bias: &[T], eps: f64) -> (Vec<T>, Vec<[T; 2]>) {
    let c = weight.len();
    let mut y = vec![T::ZERO; x.len()];
    let mut stats = vec![[T::ZERO; 2]; x.len() / c];
    let scale = T::ONE / T::of(c as f64);
    y.par_chunks_mut(c).zip(x.par_chunks(c)).zip(stats.par_iter_mut()).with_min_len(32).for_each(
        |((y, x), stat)| {
            vectorised(|| {
                let mean = lane_sum(x, |x| x) * scale;
                let variance = lane_sum(x, |x| (x - mean) * (x - mean)) * scale;
                let inv_std = T::ONE / (variance + T::of(eps)).sqrt();
                for (((y, &x), &w), &b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                    *y = (x - mean) * inv_std * w + b;
                }
                *stat = [mean, inv_std];
            });
        },
    );
    (y, stats)
}

/// Gradients of a layer norm: `(dx, dweight, dbias)`.
pub(crate) fn layer_norm_backward<T: Element>(
    x: &[T],
    dy: &[T],
    weight: &[T],
    stats: &[[T; 2]],
) -> (Vec<T>, Vec<T>, Vec<T>) {
    let c = weight.len();
    let scale = T::ONE / T::of(c as f64);
    let dx = by_row(x.len() / c, c, |row| {
        let (x, dy, weight) = (&x[row * c..][..c], &dy[row * c..][..c], &weight[..c]);
        let [mean, inv_std] = stats[row];
        let g = lane_sum_zip(dy, weight, |g, w| g * w) * scale;
        let gx = lane_sum_three(dy, weight, x, |g, w, x| g * w * (x - mean)) * scale * inv_std * inv_std;
        move |j| (dy[j] * weight[j] - g - (x[j] - mean) * gx) * inv_std
    });
    let sums = block_sums(x.len() / c, 2 * c, |range, sums: &mut [T]| {
        let (dw, db) = sums.split_at_mut(c);
        for row in range {
            let ([mean, inv_std], start) = (stats[row], row * c);
            for (((dw, db), &x), &dy) in
                dw.iter_mut().zip(db.iter_mut()).zip(&x[start..][..c]).zip(&dy[start..][..c])
            {
                *dw += dy * (x - mean) * inv_std;
                *db += dy;
            }
        }
    });
    let (dw, db) = sums.split_at(c);
    (dx, dw.iter().map(|&v| T::of(v)).collect(), db.iter().map(|&v| T::of(v)).collect())
}

/// Sum of `f(x)` in sixteen interleaved lanes, which the compiler keeps in vector registers.
#[inline(always)]
pub(crate) fn lane_sum<T: Element>(x: &[T], f: impl Fn(T) -> T) -> T {
    let mut lanes = [T::ZERO; 16];
    let chunks = x.chunks_exact(16);
    let tail: T = chunks.remainder().iter().map(|&x| f(x)).sum();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f(x);
        }
    }
    lanes.into_iter().sum::<T>() + tail
}

/// Sum of `f(x, y)`, as [`lane_sum`].
#[inline(always)]
pub(crate) fn lane_sum_zip<T: Element>(x: &[T], y: &[T], f: impl Fn(T, T) -> T) -> T {
    let mut lanes = [T::ZERO; 16];
    let (xs, ys) = (x.chunks_exact(16), y.chunks_exact(16));
    let tail: T = xs.remainder().iter().zip(ys.remainder()).map(|(&x, &y)| f(x, y)).sum();
    for (x, y) in xs.zip(ys) {
        for ((lane, &x), &y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += f(x, y);
        }
    }
    lanes.into_iter().sum::<T>() + tail
}

/// Sum of `f(x, y, z)`, as [`lane_sum`].
#[inline(always)]
fn lane_sum_three<T: Element>(x: &[T], y: &[T], z: &[T], f: impl Fn(T, T, T) -> T) -> T {
    let mut lanes = [T::ZERO; 16];
    let (xs, ys, zs) = (x.chunks_exact(16), y.chunks_exact(16), z.chunks_exact(16));
    let rest = xs.remainder().iter().zip(ys.remainder()).zip(zs.remainder());
    let tail: T = rest.map(|((&x, &y), &z)| f(x, y, z)).sum();
    for ((x, y), z) in xs.zip(ys).zip(zs) {
        for (((lane, &x), &y), &z) in lanes.iter_mut().zip(x).zip(y).zip(z) {
            *lane += f(x, y, z);
        }
    }
    lanes.into_iter().sum::<T>() + tail
}
