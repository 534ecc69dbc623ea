//! LAMB: Adam whose step is measured against the size of each parameter.

use candle_core::Tensor;
use rayon::prelude::*;

use super::super::by_dtype;
use super::super::kernels::{Compute, vectorized};
use super::pieces::{Blend, PIECE, Slices, change_all, for_each_with_average};
use super::{Stepped, lamb_all};
use crate::Result;

const OP: &str = "lamb";

/// Numbers of one LAMB step (You et al., 2020), as in timm: Adam's update with decay inside, scaled
/// for each parameter by the norm of the parameter over that of the update.
///
/// timm divides all gradients by their common norm if that is above 1; do so before, with
/// [`squared_norm`](super::squared_norm) and [`scale_by`](crate::ops::scale_by).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lamb {
    /// Learning rate.
    pub lr: f64,
    /// Decay rate of the mean of gradients.
    pub beta1: f64,
    /// Decay rate of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Weight decay, added to the update. Parameters without it are not scaled, unless
    /// `always_adapt`.
    pub weight_decay: f64,
    /// Number of this step, counted from 1.
    pub step: u64,
    /// Scales parameters without weight decay, too.
    pub always_adapt: bool,
    /// Never scales a step up.
    pub trust_clip: bool,
}

/// Applies one step to `param` and its two moments, in place.
///
/// # Errors
/// When shapes differ, or tensors are not contiguous `f32` or `f64` on the CPU.
pub fn lamb_step(
    param: &Tensor,
    grad: &Tensor,
    exp_avg: &Tensor,
    exp_avg_sq: &Tensor,
    lamb: &Lamb,
) -> Result<()> {
    let kept = [exp_avg, exp_avg_sq];
    let (lr, weight_decay) = (lamb.lr, lamb.weight_decay);
    lamb_all(&[Stepped { param, grad, kept, lr, weight_decay, average: None }], lamb, None)
}

/// Takes the step with `factor` times the gradient, on the CPU.
pub(super) fn step(t: &Stepped, lamb: &Lamb, factor: f64) -> Result<()> {
    by_dtype!("lamb", t.param, T => {
        let rule = Rule::<T>::of(lamb, factor, Blend::of(t.average));
        change_all(OP, t, |Slices { p, g, m, v, average }| {
            let (weight, update) = rule.moments(p, g, m, v);
            rule.apply(p, m, v, T::of(lamb.lr * trust(lamb, weight, update)), average);
        })
    })
}

/// The factor on a parameter's step, from the norms of the parameter and its update.
fn trust(lamb: &Lamb, weight: f64, update: f64) -> f64 {
    if (lamb.weight_decay == 0.0 && !lamb.always_adapt) || weight == 0.0 || update == 0.0 {
        return 1.0;
    }
    let ratio = weight / update;
    if lamb.trust_clip { ratio.min(1.0) } else { ratio }
}

/// Lanes of a sum: the order is the same on every machine.
const LANES: usize = 16;

/// Numbers of a step that are the same for all elements. Loops over elements take a copy: numbers
/// behind a reference would be read again for each of them.
#[derive(Clone, Copy)]
struct Rule<T> {
    /// Factor of the gradient.
    factor: T,
    beta1: T,
    beta2: T,
    fresh: (T, T),
    /// The first moment's bias correction, and the root of the second's.
    correction: (T, T),
    eps: T,
    weight_decay: T,
    blend: Blend<T>,
}

impl<T: Compute> Rule<T> {
    fn of(l: &Lamb, factor: f64, blend: Blend<T>) -> Self {
        let step = i32::try_from(l.step).unwrap_or(i32::MAX);
        let (beta1, beta2) = (T::of(l.beta1), T::of(l.beta2));
        Self {
            factor: T::of(factor),
            beta1,
            beta2,
            fresh: (T::of(1.0 - l.beta1), T::of(1.0 - l.beta2)),
            correction: (T::of(1.0 - l.beta1.powi(step)), T::of((1.0 - l.beta2.powi(step)).sqrt())),
            eps: T::of(l.eps),
            weight_decay: T::of(l.weight_decay),
            blend,
        }
    }

    #[inline(always)]
    fn update(&self, p: T, m: T, v: T) -> T {
        (m / self.correction.0) / (v.sqrt() / self.correction.1 + self.eps) + self.weight_decay * p
    }

    /// Updates the moments of one element; returns the update of its parameter.
    #[inline(always)]
    fn moment(&self, p: T, g: T, m: &mut T, v: &mut T) -> T {
        let g = g * self.factor;
        *m = *m * self.beta1 + g * self.fresh.0;
        *v = *v * self.beta2 + g * g * self.fresh.1;
        self.update(p, *m, *v)
    }

    /// Updates the moments; returns the norms of the parameter and of the update.
    fn moments(&self, p: &[T], g: &[T], m: &mut [T], v: &mut [T]) -> (f64, f64) {
        let rule = *self;
        let pieces = m.par_chunks_mut(PIECE).zip(v.par_chunks_mut(PIECE));
        let pieces = p.par_chunks(PIECE).zip(g.par_chunks(PIECE)).zip(pieces);
        let squares: Vec<(f64, f64)> = pieces
            .map(|((p, g), (m, v))| {
                vectorized(
                    #[inline(always)]
                    move || rule.moments_of_piece(p, g, m, v),
                )
            })
            .collect();
        let (weight, update) = squares.into_iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        (weight.sqrt(), update.sqrt())
    }

    /// Updates the moments of a piece; returns its sums of squares, added in lanes.
    #[inline(always)]
    fn moments_of_piece(self, p: &[T], g: &[T], m: &mut [T], v: &mut [T]) -> (f64, f64) {
        let mut sums = [[0.0; LANES]; 2];
        let square = |x: T| x.into_f64() * x.into_f64();
        let ((ps, p), (gs, g)) = (p.as_chunks::<LANES>(), g.as_chunks::<LANES>());
        let ((ms, m), (vs, v)) = (m.as_chunks_mut::<LANES>(), v.as_chunks_mut::<LANES>());
        for (((p, g), m), v) in ps.iter().zip(gs).zip(ms).zip(vs) {
            for i in 0..LANES {
                let u = self.moment(p[i], g[i], &mut m[i], &mut v[i]);
                sums[0][i] += square(p[i]);
                sums[1][i] += square(u);
            }
        }
        for (i, (((&p, &g), m), v)) in p.iter().zip(g).zip(m).zip(v).enumerate() {
            let u = self.moment(p, g, m, v);
            sums[0][i] += square(p);
            sums[1][i] += square(u);
        }
        (sums[0].iter().sum(), sums[1].iter().sum())
    }

    fn apply(&self, p: &mut [T], m: &[T], v: &[T], lr: T, average: &mut [T]) {
        let rule = *self;
        let moments = m.par_chunks(PIECE).zip(v.par_chunks(PIECE));
        for_each_with_average(p.par_chunks_mut(PIECE).zip(moments), average, |(p, (m, v)), average| {
            vectorized(
                #[inline(always)]
                move || {
                    for ((p, &m), &v) in p.iter_mut().zip(m).zip(v) {
                        *p -= lr * rule.update(*p, m, v);
                    }
                    rule.blend.update(average, p);
                },
            );
        });
    }
}
