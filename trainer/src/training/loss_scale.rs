//! Loss scale of half precision.

use serde::{Deserialize, Serialize};

/// Dynamic loss scale like PyTorch's `GradScaler`: halved after a step with non-finite gradients,
/// doubled after many finite ones. Used with
/// [`Precision::F16`](crate::config::precision::Precision::F16).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    /// Factor of the loss.
    pub scale: f64,
    /// Finite steps since the last change.
    pub good_steps: u32,
}

impl Default for LossScale {
    fn default() -> Self {
        Self { scale: 65536.0, good_steps: 0 }
    }
}

impl LossScale {
    /// Finite steps after which the factor is doubled.
    const PATIENCE: u32 = 2000;
    /// At this scale or below, non-finite numbers are not due to the scale.
    pub(crate) const LEAST: f64 = 1.0;

    /// Returns the scale after a step with finite (`good`) or non-finite gradients.
    pub(crate) fn after(self, good: bool) -> Self {
        match good {
            false => Self { scale: self.scale / 2.0, good_steps: 0 },
            true if self.good_steps + 1 == Self::PATIENCE => Self { scale: self.scale * 2.0, good_steps: 0 },
            true => Self { good_steps: self.good_steps + 1, ..self },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_halved_at_once_and_doubled_with_patience() {
        let start = LossScale::default();
        assert_eq!(start.after(false), LossScale { scale: 32768.0, good_steps: 0 });
        let good = |scale: LossScale, steps: u32| (0..steps).fold(scale, |scale, _| scale.after(true));
        assert_eq!(good(start, LossScale::PATIENCE - 1).scale, start.scale);
        assert_eq!(good(start, LossScale::PATIENCE), LossScale { scale: 131_072.0, good_steps: 0 });
        // A non-finite step in between restarts the count.
        assert_eq!(good(good(start, 1500).after(false), 1500).scale, 32768.0);
    }
}
