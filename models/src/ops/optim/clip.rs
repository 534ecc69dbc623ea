//! Norm of all gradients together, and the factor that clips it.

use candle_core::{DType, Tensor};

use super::super::on_gpu;
use super::all::in_pool;
use super::squared_norm;
use crate::{Error, Result};

/// Upper limits of the norm of all gradients together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NormLimits {
    /// Limit of gradient clipping, as PyTorch's `clip_grad_norm_`.
    pub clip: Option<f64>,
    /// Limit of the optimizer itself, after clipping: LAMB divides larger gradients by their norm
    /// over this limit.
    pub optimizer: Option<f64>,
}

/// Norm of all gradients together and the factor that clips it, where the gradients are: numbers of
/// the host, or numbers on a device that are not read until they are asked for.
#[derive(Clone, Debug)]
pub struct ClipFactor(Values);

#[derive(Clone, Debug)]
enum Values {
    Host(ClipValues),
    /// Norm and factor, `[2]` in `f32`.
    #[cfg(feature = "cuda")]
    Device(Tensor),
}

/// Values of a [`ClipFactor`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClipValues {
    /// Euclidean norm of all gradients together, before clipping.
    pub norm: f64,
    /// Factor of all gradients; 0 if the step must be skipped.
    pub factor: f64,
}

impl ClipFactor {
    /// Reads the values, which waits for the device that they are on.
    ///
    /// # Errors
    /// When the device fails.
    pub fn read(&self) -> Result<ClipValues> {
        match &self.0 {
            Values::Host(values) => Ok(*values),
            #[cfg(feature = "cuda")]
            Values::Device(values) => {
                let values = values.to_device(&candle_core::Device::Cpu)?.to_vec1::<f32>()?;
                Ok(ClipValues { norm: f64::from(values[0]), factor: f64::from(values[1]) })
            }
        }
    }

    /// Returns norm and factor as the tensor that kernels read.
    #[cfg(feature = "cuda")]
    pub(super) fn on(&self, device: &candle_core::Device) -> Result<Tensor> {
        match &self.0 {
            Values::Host(values) => Ok(Tensor::new(&[values.norm as f32, values.factor as f32], device)?),
            Values::Device(values) => Ok(values.to_device(device)?),
        }
    }
}

/// Computes the norm of all gradients together and the factor that clips it.
///
/// Gradients are `1 / unscale` times too large (loss scaling); the factor corrects that. If the
/// norm or `loss` is not finite, the factor is 0, and steps that are taken with it change nothing.
///
/// # Errors
/// When gradients are neither `f32` nor, on the CPU, `f64`.
pub fn clip_factor(
    grads: &[&Tensor],
    loss: Option<&Tensor>,
    unscale: f64,
    limits: NormLimits,
) -> Result<ClipFactor> {
    if let Some(first) = grads.first() {
        let _ = first;
        on_gpu!(first, {
            let values = super::super::cuda::clip_factor(grads, loss, unscale, limits)?;
            Ok(ClipFactor(Values::Device(values)))
        });
    }
    let squares = in_pool(|| grads.iter().map(|g| squared_norm(g)).collect::<Result<Vec<_>>>())?;
    let norm = squares.into_iter().sum::<f64>().sqrt() * unscale;
    let loss = loss.map(|l| Ok::<_, Error>(l.to_dtype(DType::F64)?.to_scalar::<f64>()?)).transpose()?;
    let finite = norm.is_finite() && loss.is_none_or(f64::is_finite);
    let factor = if finite { limits.factor(norm) * unscale } else { 0.0 };
    Ok(ClipFactor(Values::Host(ClipValues { norm, factor })))
}

impl NormLimits {
    /// Returns the factor for gradients with this norm.
    fn factor(&self, norm: f64) -> f64 {
        let factor = self.clip.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0));
        factor * self.optimizer.map_or(1.0, |limit| 1.0 / (factor * norm / limit).max(1.0))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn of(grads: &[f64], loss: f64, unscale: f64, limits: NormLimits) -> ClipValues {
        let grads = grads.iter().map(|&g| Tensor::new(&[g], &Device::Cpu).unwrap()).collect::<Vec<_>>();
        let loss = Tensor::new(loss, &Device::Cpu).unwrap();
        clip_factor(&grads.iter().collect::<Vec<_>>(), Some(&loss), unscale, limits).unwrap().read().unwrap()
    }

    #[test]
    fn clipping_comes_before_the_limit_of_the_optimizer() {
        let none = NormLimits::default();
        assert_eq!(of(&[3.0, 4.0], 1.0, 1.0, none), ClipValues { norm: 5.0, factor: 1.0 });
        let clipped = of(&[3.0, 4.0], 1.0, 1.0, NormLimits { clip: Some(2.0), ..none }).factor;
        assert_eq!(clipped, 2.0 / (5.0 + 1e-6));
        let lamb = NormLimits { clip: Some(2.0), optimizer: Some(1.0) };
        assert_eq!(of(&[3.0, 4.0], 1.0, 1.0, lamb).factor, clipped * (1.0 / (clipped * 5.0)));
        assert_eq!(of(&[0.3, 0.4], 1.0, 1.0, lamb).factor, 1.0);
    }

    #[test]
    fn the_factor_corrects_the_loss_scale() {
        let limits = NormLimits { optimizer: Some(2.5), ..NormLimits::default() };
        assert_eq!(of(&[6.0, 8.0], 1.0, 0.5, limits), ClipValues { norm: 5.0, factor: 0.25 });
    }

    #[test]
    fn a_step_that_is_not_finite_has_the_factor_zero() {
        let limits = NormLimits { clip: Some(1.0), optimizer: Some(1.0) };
        assert_eq!(of(&[f64::INFINITY], 1.0, 1.0, limits).factor, 0.0);
        assert_eq!(of(&[1.0], f64::NAN, 1.0, limits), ClipValues { norm: 1.0, factor: 0.0 });
        let none = clip_factor(&[], None, 1.0, limits).unwrap().read().unwrap();
        assert_eq!(none, ClipValues { norm: 0.0, factor: 1.0 });
    }
}
