//! Training losses: cross entropy, binary cross entropy, or a custom loss.

use std::fmt::Debug;

use candle_core::Tensor;
use efficienttrain_models::ops::{self, Traced};

use crate::error::Result;

/// Loss over the logits of a batch. `Run::with_loss` sets a custom one.
pub trait Loss: Debug + Send + Sync {
    /// Computes the loss, a scalar averaged over the batch, with its pullback to `logits` (and none
    /// to `targets`).
    ///
    /// # Shapes
    /// `logits` and `targets`: `[N, classes]`; targets are smoothed and mixed class probabilities.
    ///
    /// # Errors
    /// Returns an error if the shapes are incompatible.
    fn loss(&self, logits: &Tensor, targets: &Tensor) -> Result<Traced>;

    /// Returns true if the loss does the same operations in each pass, all of them on the device, so
    /// that a GPU may record a pass and repeat it.
    fn is_recordable(&self) -> bool {
        false
    }
}

/// Cross entropy with soft targets.
#[derive(Clone, Copy, Debug, Default)]
pub struct CrossEntropy;

impl Loss for CrossEntropy {
    fn loss(&self, logits: &Tensor, targets: &Tensor) -> Result<Traced> {
        Ok(ops::soft_cross_entropy(logits, targets)?)
    }

    fn is_recordable(&self) -> bool {
        true
    }
}

/// Binary cross entropy of each class, like timm's: `mean(max(x, 0) - x * t + ln(1 + exp(-|x|)))`
/// over images and classes.
#[derive(Clone, Copy, Debug, Default)]
pub struct BinaryCrossEntropy {
    /// If set, targets above it count as 1 and the others as 0 (timm's `--bce-target-thresh`).
    pub threshold: Option<f32>,
}

impl Loss for BinaryCrossEntropy {
    fn loss(&self, logits: &Tensor, targets: &Tensor) -> Result<Traced> {
        Ok(match self.threshold {
            Some(threshold) => {
                ops::binary_cross_entropy(logits, &ops::above(targets, f64::from(threshold))?)?
            }
            None => ops::binary_cross_entropy(logits, targets)?,
        })
    }

    fn is_recordable(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn value(loss: BinaryCrossEntropy, x: &[f32], t: &[f32]) -> f64 {
        let tensor = |v: &[f32]| Tensor::from_slice(v, (1, v.len()), &Device::Cpu).unwrap();
        let traced = loss.loss(&tensor(x), &tensor(t)).unwrap();
        f64::from(traced.value.to_scalar::<f32>().unwrap())
    }

    #[test]
    fn binary_cross_entropy_by_hand() {
        // -ln(sigmoid(1)) = ln(1 + e^-1), -ln(1 - sigmoid(2)) = ln(1 + e^2).
        let by_hand = f64::midpoint((-1f64).exp().ln_1p(), 2f64.exp().ln_1p());
        let plain = BinaryCrossEntropy::default();
        assert!((value(plain, &[1.0, 2.0], &[1.0, 0.0]) - by_hand).abs() < 1e-6);
        assert!((value(plain, &[0.0, 0.0], &[0.9, 0.3]) - 2f64.ln()).abs() < 1e-6);
        // A target equal to the threshold is not above it.
        let cut = BinaryCrossEntropy { threshold: Some(0.2) };
        for (yes, no) in [(0.6, 0.1), (0.21, 0.2)] {
            assert!((value(cut, &[1.0, 2.0], &[yes, no]) - by_hand).abs() < 1e-6);
        }
    }

    #[test]
    fn its_gradient_is_of_the_targets_that_count() {
        let tensor = |v: &[f32]| Tensor::from_slice(v, (1, v.len()), &Device::Cpu).unwrap();
        let loss = BinaryCrossEntropy { threshold: Some(0.2) };
        let traced = loss.loss(&tensor(&[0.0, 0.0]), &tensor(&[0.6, 0.1])).unwrap();
        let gradients = (traced.pullback)(&Tensor::new(1f32, &Device::Cpu).unwrap(), &[true, false]).unwrap();
        // (sigmoid(0) - t) / 2 logits.
        let gradient = gradients[0].as_ref().unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(gradient, [[-0.25, 0.25]]);
    }
}
