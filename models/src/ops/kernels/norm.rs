//! Batch norm and layer norm over rows of channels.

use super::lanes::{lane_sum, lane_sum_three, lane_sum_zip};
use super::rows::{block_sums, by_row};
use super::{Compute, Storage, vectorized};
use crate::Result;
use rayon::prelude::*;

/// Rows per partial statistic of a batch norm: small enough to stay in cache between the two passes
/// over it.
const STAT_ROWS: usize = 256;

/// Rows of a block, their mean and their summed squares around it.
type BlockStatistics<T> = (f64, Vec<T>, Vec<T>);

/// Mean and biased variance of every channel over `rows` rows, in double precision.
///
/// Each block is centered on its own mean before squaring, then blocks are joined (Chan et al.,
/// 1979): no cancellation, one pass over memory.
pub(crate) fn channel_statistics<S: Storage>(x: &[S], c: usize) -> (Vec<f64>, Vec<f64>) {
    let parts: Vec<BlockStatistics<S::Real>> = x
        .par_chunks(c * STAT_ROWS)
        .map(|block| {
            let rows = block.len() / c;
            let (mut mean, mut m2) = (vec![S::Real::ZERO; c], vec![S::Real::ZERO; c]);
            // Sums of differences to the first row keep their digits if the mean is far from
            // zero.
            let first = &block[..c];
            vectorized(
                #[inline(always)]
                || {
                    for row in block.chunks_exact(c) {
                        for ((m, &x), &f) in mean.iter_mut().zip(row).zip(first) {
                            *m += x.load() - f.load();
                        }
                    }
                    let scale = S::Real::ONE / S::Real::of(rows as f64);
                    for (m, &f) in mean.iter_mut().zip(first) {
                        *m = *m * scale + f.load();
                    }
                    for row in block.chunks_exact(c) {
                        for ((m2, &mean), &x) in m2.iter_mut().zip(&mean).zip(row) {
                            let off = x.load() - mean;
                            *m2 += off * off;
                        }
                    }
                },
            );
            (rows as f64, mean, m2)
        })
        .collect();
    let (mut count, mut mean, mut m2) = (0.0, vec![0.0; c], vec![0.0; c]);
    for (n, block_mean, block_m2) in parts {
        let total = count + n;
        for i in 0..c {
            let delta = block_mean[i].into_f64() - mean[i];
            mean[i] += delta * n / total;
            m2[i] += block_m2[i].into_f64() + delta * delta * count * n / total;
        }
        count = total;
    }
    let variance = m2.into_iter().map(|v| v / count).collect();
    (mean, variance)
}

/// Per-channel constants of `y = x * scale + shift` for a normalization with the given statistics.
pub(crate) fn affine<T: Compute>(
    mean: &[f64],
    inv_std: &[f64],
    weight: &[T],
    bias: &[T],
) -> (Vec<T>, Vec<T>) {
    let scale: Vec<f64> = inv_std.iter().zip(weight).map(|(s, w)| s * w.into_f64()).collect();
    let shift = scale.iter().zip(mean).zip(bias).map(|((s, m), b)| T::of(b.into_f64() - m * s)).collect();
    (scale.into_iter().map(T::of).collect(), shift)
}

/// Operations after a batch norm in the same pass over memory.
#[derive(Clone, Copy)]
pub(crate) struct After<'a, S> {
    /// A tensor of the same shape that is added.
    pub(crate) residual: Option<&'a [S]>,
    /// Apply a ReLU.
    pub(crate) relu: bool,
}

/// `y = relu(x * scale + shift + residual)`, the last two as `after` says.
pub(crate) fn scale_shift<S: Storage>(
    x: &[S],
    scale: &[S::Real],
    shift: &[S::Real],
    after: After<S>,
) -> Vec<S> {
    if after.relu {
        // NaN stays NaN, as in PyTorch, so that a diverged run is noticed.
        scale_shift_then(
            x,
            scale,
            shift,
            after.residual,
            #[inline(always)]
            |y| if y <= S::Real::ZERO { S::Real::ZERO } else { y },
        )
    } else {
        scale_shift_then(
            x,
            scale,
            shift,
            after.residual,
            #[inline(always)]
            |y| y,
        )
    }
}

/// `y = then(x * scale + shift + residual)`. What a row's function captures must be captured by value:
/// behind a reference it would be read again for each element, and nothing would be vectorized.
#[inline(always)]
fn scale_shift_then<S: Storage>(
    x: &[S],
    scale: &[S::Real],
    shift: &[S::Real],
    residual: Option<&[S]>,
    then: impl Fn(S::Real) -> S::Real + Copy + Sync,
) -> Vec<S> {
    let c = scale.len();
    let rows = x.len() / c;
    match residual {
        Some(residual) => by_row(
            rows,
            c,
            #[inline(always)]
            |row| {
                let (x, residual) = (&x[row * c..][..c], &residual[row * c..][..c]);
                let (scale, shift) = (&scale[..c], &shift[..c]);
                #[inline(always)]
                move |j| then(x[j].load() * scale[j] + shift[j] + residual[j].load())
            },
        ),
        None => by_row(
            rows,
            c,
            #[inline(always)]
            |row| {
                let (x, scale, shift) = (&x[row * c..][..c], &scale[..c], &shift[..c]);
                #[inline(always)]
                move |j| then(x[j].load() * scale[j] + shift[j])
            },
        ),
    }
}

/// Gradients of the input, the weight and the bias.
pub(crate) type Gradients<S, T> = (Vec<S>, Vec<T>, Vec<T>);

/// Sums over all rows that statistics are of, and the number of these rows.
pub(crate) type Total = (Vec<f64>, usize);
/// Scale and shift of each channel.
type Affine<'a, T> = (&'a [T], &'a [T]);

/// Gradients of a batch norm in training: `(dx, dweight, dbias)`.
///
/// `dx = weight * inv_std * (dy - mean(dy) - x_hat * mean(dy * x_hat))`. `total` makes of the
/// sums of `dy` and then of `dy * (x - mean)` over the rows those over all rows that the statistics
/// are of, and gives their number; with fixed statistics there are none, and the means vanish. With
/// `gate`, the scale and shift of the forward pass, `dy` is the gradient behind a rectifier.
pub(crate) fn batch_norm_backward<S: Storage>(
    x: &[S],
    dy: &[S],
    weight: &[S::Real],
    (mean, inv_std): (&[f64], &[f64]),
    gate: Option<Affine<S::Real>>,
    total: impl FnOnce(&[f64], usize) -> Result<Option<Total>>,
) -> Result<Gradients<S, S::Real>> {
    let statistics = (weight, mean, inv_std);
    match gate {
        Some(affine) => gated_backward(
            x,
            dy,
            statistics,
            affine,
            #[inline(always)]
            |x, dy, scale, shift| if x * scale + shift > S::Real::ZERO { dy } else { S::Real::ZERO },
            total,
        ),
        None => gated_backward(
            x,
            dy,
            statistics,
            (weight, weight),
            #[inline(always)]
            |_, dy, _, _| dy,
            total,
        ),
    }
}

/// Does the same as [`batch_norm_backward`]; `gate` makes the gradient of the norm's value of its
/// input, the gradient behind the gate, and the channel's two numbers in `affine`.
#[inline(always)]
fn gated_backward<S: Storage>(
    x: &[S],
    dy: &[S],
    (weight, mean, inv_std): (&[S::Real], &[f64], &[f64]),
    (scale, shift): Affine<S::Real>,
    gate: impl Fn(S::Real, S::Real, S::Real, S::Real) -> S::Real + Copy + Sync,
    total: impl FnOnce(&[f64], usize) -> Result<Option<Total>>,
) -> Result<Gradients<S, S::Real>> {
    let c = weight.len();
    let rows = x.len() / c;
    let centre: Vec<S::Real> = mean.iter().map(|&m| S::Real::of(m)).collect();
    let (scale, shift) = (&scale[..c], &shift[..c]);
    // Sums of dy, then of dy * (x - mean).
    let sums = block_sums(
        rows,
        2 * c,
        #[inline(always)]
        |range, sums: &mut [S::Real]| {
            let (plain, product) = sums.split_at_mut(c);
            for row in range {
                let (x, dy) = (&x[row * c..][..c], &dy[row * c..][..c]);
                let sums = plain.iter_mut().zip(product.iter_mut()).zip(&centre);
                for (((((s, p), &m), (&x, &dy)), &scale), &shift) in
                    sums.zip(x.iter().zip(dy)).zip(scale).zip(shift)
                {
                    let (x, dy) = (x.load(), gate(x.load(), dy.load(), scale, shift));
                    *s += dy;
                    *p += dy * (x - m);
                }
            }
        },
    );
    let (sum_dy, sum_dy_x) = sums.split_at(c);
    let total = total(&sums, rows)?;
    // dx = a * dy + b * x + d, channel by channel.
    let (mut a, mut b, mut d) = (Vec::with_capacity(c), Vec::with_capacity(c), Vec::with_capacity(c));
    for i in 0..c {
        let scale = weight[i].into_f64() * inv_std[i];
        let (slope, offset) = match &total {
            Some((sums, n)) => {
                (-scale * inv_std[i] * inv_std[i] * sums[c + i] / *n as f64, -scale * sums[i] / *n as f64)
            }
            None => (0.0, 0.0),
        };
        a.push(S::Real::of(scale));
        b.push(S::Real::of(slope));
        d.push(S::Real::of(offset));
    }
    let (a, b, d, centre) = (&a[..c], &b[..c], &d[..c], &centre[..c]);
    let dx = by_row(
        rows,
        c,
        #[inline(always)]
        |row| {
            let (x, dy) = (&x[row * c..][..c], &dy[row * c..][..c]);
            #[inline(always)]
            move |j| {
                let (x, dy) = (x[j].load(), gate(x[j].load(), dy[j].load(), scale[j], shift[j]));
                a[j] * dy + (b[j] * (x - centre[j]) + d[j])
            }
        },
    );
    let dweight = sum_dy_x.iter().zip(inv_std).map(|(s, i)| S::Real::of(s * i)).collect();
    let dbias = sum_dy.iter().map(|&s| S::Real::of(s)).collect();
    Ok((dx, dweight, dbias))
}

/// Layer norm of every row of `c` channels, stored as `O`; also gives mean and `1 / std` of each
/// row for the backward pass.
pub(crate) fn layer_norm<S: Storage<Real = T>, O: Storage<Real = T>, T: Compute>(
    x: &[S],
    weight: &[T],
    bias: &[T],
    eps: f64,
) -> (Vec<O>, Vec<[T; 2]>) {
    let c = weight.len();
    let mut y = vec![O::store(T::ZERO); x.len()];
    let mut stats = vec![[T::ZERO; 2]; x.len() / c];
    let scale = T::ONE / T::of(c as f64);
    y.par_chunks_mut(c).zip(x.par_chunks(c)).zip(stats.par_iter_mut()).with_min_len(32).for_each(
        |((y, x), stat)| {
            vectorized(
                #[inline(always)]
                || {
                    let mean = lane_sum(x, |x| x) * scale;
                    let variance = lane_sum(x, |x| (x - mean) * (x - mean)) * scale;
                    let inv_std = T::ONE / (variance + T::of(eps)).sqrt();
                    for (((y, &x), &w), &b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                        *y = O::store((x.load() - mean) * inv_std * w + b);
                    }
                    *stat = [mean, inv_std];
                },
            );
        },
    );
    (y, stats)
}

/// Gradient of row `row` of a layer norm's input, element by element.
#[inline(always)]
fn layer_norm_row<'a, S: Storage<Real = T>, O: Storage<Real = T>, T: Compute>(
    x: &'a [S],
    dy: &'a [O],
    weight: &'a [T],
    [mean, inv_std]: [T; 2],
    row: usize,
) -> impl Fn(usize) -> T + 'a {
    let c = weight.len();
    let scale = T::ONE / T::of(c as f64);
    let (x, dy) = (&x[row * c..][..c], &dy[row * c..][..c]);
    let g = lane_sum_zip(dy, weight, |g, w| g * w) * scale;
    let gx = lane_sum_three(dy, weight, x, |g, w, x| g * w * (x - mean)) * scale * inv_std * inv_std;
    #[inline(always)]
    move |j| (dy[j].load() * weight[j] - g - (x[j].load() - mean) * gx) * inv_std
}

/// Gradients of a layer norm; that of the input, plus `onto`, is stored as the input is.
pub(crate) fn layer_norm_backward<S: Storage<Real = T>, O: Storage<Real = T>, T: Compute>(
    x: &[S],
    dy: &[O],
    weight: &[T],
    stats: &[[T; 2]],
    onto: Option<&[S]>,
) -> Gradients<S, T> {
    let c = weight.len();
    let dx = match onto {
        Some(onto) => by_row(
            x.len() / c,
            c,
            #[inline(always)]
            |row| {
                let (dx, onto) = (layer_norm_row(x, dy, weight, stats[row], row), &onto[row * c..][..c]);
                #[inline(always)]
                move |j| dx(j) + onto[j].load()
            },
        ),
        None => by_row(
            x.len() / c,
            c,
            #[inline(always)]
            |row| layer_norm_row(x, dy, weight, stats[row], row),
        ),
    };
    let sums = block_sums(
        x.len() / c,
        2 * c,
        #[inline(always)]
        |range, sums: &mut [T]| {
            let (dw, db) = sums.split_at_mut(c);
            for row in range {
                let ([mean, inv_std], start) = (stats[row], row * c);
                for (((dw, db), &x), &dy) in
                    dw.iter_mut().zip(db.iter_mut()).zip(&x[start..][..c]).zip(&dy[start..][..c])
                {
                    *dw += dy.load() * (x.load() - mean) * inv_std;
                    *db += dy.load();
                }
            }
        },
    );
    let (dw, db) = sums.split_at(c);
    (dx, dw.iter().map(|&v| T::of(v)).collect(), db.iter().map(|&v| T::of(v)).collect())
}
