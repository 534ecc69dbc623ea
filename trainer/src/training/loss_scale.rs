//! What losses are multiplied with in half precision.

use serde::{Deserialize, Serialize};

/// A factor of the loss that follows what the numbers allow, as PyTorch's `GradScaler`: halved after a step whose
/// gradients are not finite, doubled after many good ones. Used with [`Precision::F16`](crate::config::precision::Precision::F16).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    /// The factor.
    pub scale: f64,
    /// Good steps since it last changed.
    pub good_steps: u32,
}

impl Default for LossScale {
    fn default() -> Self {
        Self { scale: 65536.0, good_steps: 0 }
    }
}

impl LossScale {
    /// Good steps after which the factor is doubled.
    const PATIENCE: u32 = 2000;
    /// Below this, numbers are bad by themselves.
    pub(crate) const LEAST: f64 = 1.0;

    /// What it is after a step whose gradients were finite, or not.
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
        // A bad step in between starts the count again.
        assert_eq!(good(good(start, 1500).after(false), 1500).scale, 32768.0);
    }
}
