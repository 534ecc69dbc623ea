//! Steps and averages of many tensors at once: on a GPU one launch for all of them, and nothing is
//! read back.

use candle_core::Tensor;

use super::super::{expect_shape, on_gpu};
use super::{AdamW, ClipFactor, Lamb, Sgd, adamw, blend, lamb, sgd};
use crate::Result;

/// Exponential moving average of a parameter.
#[derive(Clone, Copy, Debug)]
pub struct Average<'a> {
    /// The average, changed in place: `decay * average + (1 - decay) * parameter`.
    pub tensor: &'a Tensor,
    /// Its decay, between 0 and 1.
    pub decay: f64,
}

/// A parameter, its gradient, and what the optimizer keeps for it.
#[derive(Clone, Copy, Debug)]
pub struct Stepped<'a> {
    /// The parameter, changed in place.
    pub param: &'a Tensor,
    /// Its gradient.
    pub grad: &'a Tensor,
    /// First and second moment, or twice the momentum buffer.
    pub kept: [&'a Tensor; 2],
    /// Learning rate of this parameter, in place of the rule's.
    pub lr: f64,
    /// Weight decay of this parameter, in place of the rule's.
    pub weight_decay: f64,
    /// Its average, which follows after the step. On the CPU, both are one pass over memory.
    pub average: Option<Average<'a>>,
}

/// Works in the thread pool from beginning to end: most tensors are too small to enter it for each of
/// them.
pub(super) fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}

fn check_shapes(t: &Stepped) -> Result<()> {
    let others = [("a gradient", t.grad), ("a first moment", t.kept[0]), ("a second moment", t.kept[1])];
    others
        .into_iter()
        .chain(t.average.map(|average| ("an average", average.tensor)))
        .try_for_each(|(what, other)| expect_shape("optimizer step", what, other, t.param.dims()))
}

macro_rules! all {
    ($(#[$doc:meta])* $name:ident, $rule:ident, $one:expr) => {
        $(#[$doc])*
        ///
        /// `factor`, from [`clip_factor`](super::clip_factor), multiplies the gradients; 0 skips
        /// the step.
        ///
        /// # Errors
        /// When shapes differ, or tensors are not contiguous `f32` on one device.
        pub fn $name(tensors: &[Stepped], rule: &$rule, factor: Option<&ClipFactor>) -> Result<()> {
            let Some(first) = tensors.first() else { return Ok(()) };
            let _ = first;
            on_gpu!(first.param, {
                let factor = factor.map(|f| f.on(first.param.device())).transpose()?;
                super::super::cuda::$name(tensors, rule, factor.as_ref())?;
                blend_averages(tensors, factor.as_ref())
            });
            let factor = factor.map_or(Ok(1.0), |f| f.read().map(|values| values.factor))?;
            if factor == 0.0 {
                return Ok(());
            }
            let one: fn(&Stepped, &$rule, f64) -> Result<()> = $one;
            tensors.iter().try_for_each(check_shapes)?;
            let step = |t| one(t, &$rule { lr: t.lr, weight_decay: t.weight_decay, ..*rule }, factor);
            in_pool(|| tensors.iter().try_for_each(step))
        }
    };
}

all!(
    /// One AdamW step of all tensors, with their own rates.
    adamw_all,
    AdamW,
    adamw::step
);
all!(
    /// One LAMB step of all tensors, with their own rates.
    lamb_all,
    Lamb,
    lamb::step
);
all!(
    /// One step of gradient descent of all tensors, with their own rates.
    sgd_all,
    Sgd,
    sgd::step
);

/// Moves all averages on a GPU, with one launch for those of one decay.
#[cfg(feature = "cuda")]
fn blend_averages(tensors: &[Stepped], factor: Option<&Tensor>) -> Result<()> {
    let mut left: Vec<(Average, &Tensor)> =
        tensors.iter().filter_map(|t| t.average.map(|average| (average, t.param))).collect();
    while let Some(&(Average { decay, .. }, _)) = left.first() {
        let (now, later) = left.into_iter().partition(|(average, _)| average.decay == decay);
        let now: Vec<(Average, &Tensor)> = now;
        let pairs: Vec<_> = now.iter().map(|(average, param)| (average.tensor, *param)).collect();
        super::super::cuda::blend_all(&pairs, decay, factor)?;
        left = later;
    }
    Ok(())
}

/// `target = decay * target + (1 - decay) * value` for all pairs, in place; on a GPU nothing if
/// `factor`, from [`clip_factor`](super::clip_factor), is 0.
///
/// # Errors
/// Those of [`blend`].
pub fn blend_all(pairs: &[(&Tensor, &Tensor)], decay: f64, factor: Option<&ClipFactor>) -> Result<()> {
    let Some((first, _)) = pairs.first() else { return Ok(()) };
    let _ = (first, factor);
    on_gpu!(first, {
        let factor = factor.map(|f| f.on(first.device())).transpose()?;
        super::super::cuda::blend_all(pairs, decay, factor.as_ref())
    });
    in_pool(|| pairs.iter().try_for_each(|(target, value)| blend(target, value, decay)))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::ops::optim::{NormLimits, clip_factor};

    /// Longer than a piece.
    const LEN: usize = 40_000;

    /// A parameter, its gradient, two moments and an average.
    fn state() -> [Tensor; 5] {
        let wave = |i: f32| (0..LEN).map(|x| (x as f32 * 0.37 + i).sin().abs()).collect::<Vec<_>>();
        [0.0, 1.0, 2.0, 3.0, 4.0].map(|i| Tensor::from_vec(wave(i), LEN, &Device::Cpu).unwrap())
    }

    fn stepped<'a>([param, grad, a, b, _]: &'a [Tensor; 5], average: Option<Average<'a>>) -> Stepped<'a> {
        Stepped { param, grad, kept: [a, b], lr: 0.1, weight_decay: 0.02, average }
    }

    fn values(state: &[Tensor; 5]) -> Vec<Vec<f32>> {
        state.iter().map(|t| t.to_vec1().unwrap()).collect()
    }

    fn take_step(rule: &str, tensors: &[Stepped], factor: Option<&ClipFactor>) -> Result<()> {
        let (lr, weight_decay, step) = (0.0, 0.0, 2);
        let (beta1, beta2, eps) = (0.9, 0.99, 1e-8);
        match rule {
            "adamw" => adamw_all(tensors, &AdamW { lr, beta1, beta2, eps, weight_decay, step }, factor),
            "lamb" => {
                let (always_adapt, trust_clip) = (false, false);
                let rule = Lamb { lr, beta1, beta2, eps, weight_decay, step, always_adapt, trust_clip };
                lamb_all(tensors, &rule, factor)
            }
            _ => {
                let rule = Sgd { lr, momentum: 0.9, nesterov: true, weight_decay, step };
                sgd_all(tensors, &rule, factor)
            }
        }
    }

    #[test]
    fn an_average_follows_its_parameter_after_the_step() {
        for rule in ["adamw", "lamb", "sgd"] {
            let (apart, together) = (state(), state());
            let before = values(&apart);
            let grads = [&apart[1]];
            let factor = clip_factor(&grads, None, 0.5, NormLimits { clip: Some(1.0), optimizer: None });
            let factor = factor.unwrap();
            take_step(rule, &[stepped(&apart, None)], Some(&factor)).unwrap();
            blend_all(&[(&apart[4], &apart[0])], 0.75, None).unwrap();
            let average = Some(Average { tensor: &together[4], decay: 0.75 });
            take_step(rule, &[stepped(&together, average)], Some(&factor)).unwrap();
            let (apart, together) = (values(&apart), values(&together));
            assert!(apart == together, "{rule}");
            for changed in [0, 2, 4] {
                assert!(apart[changed].iter().zip(&before[changed]).all(|(a, b)| a != b), "{rule}");
            }
        }
    }

    #[test]
    fn averages_of_another_shape_and_skipped_steps_change_nothing() {
        for rule in ["adamw", "lamb", "sgd"] {
            let (state, short) = (state(), Tensor::new(&[0f32], &Device::Cpu).unwrap());
            let before = values(&state);
            let average = |tensor| Some(Average { tensor, decay: 0.5 });
            let error = take_step(rule, &[stepped(&state, average(&short))], None).unwrap_err();
            assert!(error.to_string().contains("an average"), "{error}");
            let infinite = Tensor::new(&[f32::INFINITY], &Device::Cpu).unwrap();
            let skip = clip_factor(&[&infinite], None, 1.0, NormLimits::default()).unwrap();
            take_step(rule, &[stepped(&state, average(&state[4]))], Some(&skip)).unwrap();
            assert!(values(&state) == before, "{rule}");
        }
    }
}
