//! What training brings down: cross entropy, binary cross entropy, or a loss of one's own.

use std::fmt::Debug;

use candle_core::{DType, Device, Tensor};
use efficienttrain_models::ops::{self, Traced};

use crate::error::Result;

/// A loss over the logits of a batch. Bring your own with [`Run::with_loss`](crate::Run::with_loss).
pub trait Loss: Debug + Send + Sync {
    /// The loss, a scalar averaged over the batch, and its pullback to `logits` (and none to `targets`).
    ///
    /// # Shapes
    /// `logits` and `targets`: `[N, classes]`; targets are smoothed and mixed class probabilities.
    ///
    /// # Errors
    /// When the shapes do not fit.
    fn loss(&self, logits: &Tensor, targets: &Tensor) -> Result<Traced>;
}

/// Cross entropy with soft targets.
#[derive(Clone, Copy, Debug, Default)]
pub struct CrossEntropy;

impl Loss for CrossEntropy {
    fn loss(&self, logits: &Tensor, targets: &Tensor) -> Result<Traced> {
        Ok(ops::soft_cross_entropy(logits, targets)?)
    }
}

/// Each class against all others: `mean(max(x, 0) - x * t + ln(1 + exp(-|x|)))` over images and classes, as timm's.
#[derive(Clone, Copy, Debug, Default)]
pub struct BinaryCrossEntropy {
    /// Where it is set, targets above it count as 1 and the others as 0 (timm's `--bce-target-thresh`).
    pub threshold: Option<f32>,
}

impl Loss for BinaryCrossEntropy {
    fn loss(&self, logits: &Tensor, targets: &Tensor) -> Result<Traced> {
        let shape = logits.dims().to_vec();
        let read =
            |t: &Tensor| t.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
        let (x, mut t) = (read(logits)?, read(targets)?);
        if let Some(threshold) = self.threshold {
            t.iter_mut().for_each(|t| *t = if *t > threshold { 1.0 } else { 0.0 });
        }
        let count = x.len().max(1) as f64;
        let term = |(&x, &t): (&f32, &f32)| {
            let (x, t) = (f64::from(x), f64::from(t));
            x.max(0.0) - x * t + (-x.abs()).exp().ln_1p()
        };
        let loss = x.iter().zip(&t).map(term).sum::<f64>() / count;
        // Worked out on the CPU: where logits are on a GPU, a step waits here.
        let device = logits.device().clone();
        let value = Tensor::new(loss as f32, &device)?;
        let pullback = move |dy: &Tensor, _: &[bool]| {
            let scale = dy.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_scalar::<f64>()? / count;
            let slope = |(&x, &t): (&f32, &f32)| {
                (scale * (1.0 / (1.0 + (-f64::from(x)).exp()) - f64::from(t))) as f32
            };
            let gradient: Vec<f32> = x.iter().zip(&t).map(slope).collect();
            Ok(vec![Some(Tensor::from_vec(gradient, shape.as_slice(), &device)?), None])
        };
        Ok(Traced { value, pullback: Box::new(pullback) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(loss: BinaryCrossEntropy, x: &[f32], t: &[f32]) -> f64 {
        let tensor = |v: &[f32]| Tensor::from_slice(v, (1, v.len()), &Device::Cpu).unwrap();
        let traced = loss.loss(&tensor(x), &tensor(t)).unwrap();
        f64::from(traced.value.to_scalar::<f32>().unwrap())
    }

    #[test]
    fn binary_cross_entropy_by_hand() {
        let plain = BinaryCrossEntropy::default();
        // sigmoid(0) = 1/2 whatever the target; far logits neither overflow nor lose the other side.
        assert!((value(plain, &[0.0, 0.0], &[1.0, 0.3]) - 2f64.ln()).abs() < 1e-6);
        assert!((value(plain, &[200.0], &[0.0]) - 200.0).abs() < 1e-3);
        assert!(value(plain, &[200.0, -200.0], &[1.0, 0.0]) < 1e-6);
        // -ln(sigmoid(1)) = ln(1 + e^-1), -ln(1 - sigmoid(2)) = ln(1 + e^2).
        let by_hand = ((-1f64).exp().ln_1p() + 2f64.exp().ln_1p()) / 2.0;
        assert!((value(plain, &[1.0, 2.0], &[1.0, 0.0]) - by_hand).abs() < 1e-6);
        let cut = BinaryCrossEntropy { threshold: Some(0.2) };
        assert!((value(cut, &[1.0, 2.0], &[0.6, 0.1]) - by_hand).abs() < 1e-6);
    }

    #[test]
    fn its_gradient_is_the_slope_of_its_value() {
        let (x, t, loss) = ([0.3f32, -1.2, 4.0], [0.9f32, 0.1, 0.0], BinaryCrossEntropy::default());
        let tensor = |v: &[f32]| Tensor::from_slice(v, (1, v.len()), &Device::Cpu).unwrap();
        let traced = loss.loss(&tensor(&x), &tensor(&t)).unwrap();
        let one = Tensor::new(1f32, &Device::Cpu).unwrap();
        let gradient = (traced.pullback)(&one, &[true, false]).unwrap()[0].clone().unwrap();
        let gradient = gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for i in 0..x.len() {
            let moved = |by: f32| {
                let mut moved = x;
                moved[i] += by;
                value(loss, &moved, &t)
            };
            let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!((slope - f64::from(gradient[i])).abs() < 1e-4, "{i}: {slope} against {}", gradient[i]);
        }
    }
}
