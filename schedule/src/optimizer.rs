//! Numbers of the optimizer, and how its learning rate starts and scales.

use crate::curve::LrCurve;
use crate::error::{Result, count, field, positive, within};
use serde::{Deserialize, Serialize};

/// Optimizer by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Adam with decoupled weight decay.
    AdamW,
    /// Layer-wise adaptive Adam (CSWin-B).
    Lamb,
    /// Gradient descent with Nesterov's momentum.
    Sgd,
}

/// Rule by which the peak learning rate follows the global batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LrScaling {
    /// lr * batch / reference_batch.
    Linear,
    /// lr * sqrt(batch / reference_batch).
    Sqrt,
    /// Uses the same lr for every batch.
    None,
}

impl LrScaling {
    /// Returns the factor on the peak learning rate for `batch` images per step.
    #[must_use]
    pub fn factor(self, batch: u64, reference_batch: u32) -> f64 {
        let ratio = batch as f64 / f64::from(reference_batch);
        match self {
            Self::Linear => ratio,
            Self::Sqrt => ratio.sqrt(),
            Self::None => 1.0,
        }
    }
}

/// Length of the linear warm-up from 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WarmUp {
    /// No warm-up.
    None,
    /// Passes over the data at the sizes of the first stages (20 in the reference).
    Epochs {
        /// Passes over the data.
        epochs: f64,
        /// Upper bound as a share of the run's compute, so that short runs do not only warm up.
        /// Exact plans only.
        at_most_share: f64,
    },
    /// A share of the run's compute (0.2 for DeiT).
    Share(f64),
    /// Optimizer steps.
    Steps(u64),
}

/// Quantity over which the learning-rate curve, and a warm-up given as a share, are defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LrOver {
    /// The compute of the run (method section 3).
    #[default]
    Compute,
    /// Quantity of the curriculum's shares: passes over the data for the first version, as in its
    /// launcher. The training of a stage then depends only on the stages before it, so a schedule
    /// search can share their training.
    Shares,
}

impl LrOver {
    fn is_usual(&self) -> bool {
        *self == Self::Compute
    }
}

/// Numbers of the optimizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimizer {
    /// Optimizer.
    pub kind: OptimizerKind,
    /// Peak learning rate at `reference_batch` images per step.
    pub lr: f64,
    /// Global batch to which `lr` belongs (4096).
    pub reference_batch: u32,
    /// Rule by which the peak follows the global batch (exact plans; the reference keeps `lr`).
    pub lr_scaling: LrScaling,
    /// Final learning rate (1e-6); not scaled with the batch, but never above the peak.
    pub min_lr: f64,
    /// Adam's moment factors.
    pub betas: (f64, f64),
    /// Adam's epsilon.
    pub eps: f64,
    /// Momentum of gradient descent.
    #[serde(default = "usual_momentum")]
    pub momentum: f64,
    /// Decoupled weight decay; constant over the run. Not for 1-D parameters and the model's own
    /// list.
    pub weight_decay: f64,
    /// Largest global gradient norm, if clipped. The reference clips only under mixed precision.
    pub clip_grad: Option<f64>,
    /// Linear warm-up from 0.
    pub warm_up: WarmUp,
    /// Quantity over which the learning-rate curve is defined; exact plans only.
    #[serde(default, skip_serializing_if = "LrOver::is_usual")]
    pub lr_over: LrOver,
    /// Learning-rate curve after the warm-up; exact plans only, since the reference always uses a
    /// cosine.
    #[serde(default)]
    pub curve: LrCurve,
}

/// Default for plans of earlier versions, which lack the field.
pub(crate) fn usual_momentum() -> f64 {
    0.9
}

impl Optimizer {
    pub(crate) fn validate(&self) -> Result<()> {
        positive("optimizer.lr", self.lr, "the authors use 4e-3 at a batch of 4096")?;
        count(
            "optimizer.reference_batch",
            self.reference_batch,
            "the batch to which lr belongs, such as 4096",
        )?;
        within(
            "optimizer.min_lr",
            self.min_lr,
            0.0,
            self.lr,
            "the cosine ends below its peak; the authors use 1e-6",
        )?;
        for (name, beta) in [("optimizer.betas[0]", self.betas.0), ("optimizer.betas[1]", self.betas.1)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(field(name, "a number in 0..1", beta, "the usual pair is 0.9, 0.999"));
            }
        }
        if !(0.0..1.0).contains(&self.momentum) {
            return Err(field(
                "optimizer.momentum",
                "a number in 0..1",
                self.momentum,
                "the usual value is 0.9",
            ));
        }
        positive("optimizer.eps", self.eps, "the usual value is 1e-8")?;
        within("optimizer.weight_decay", self.weight_decay, 0.0, f64::MAX, "the authors use 0.05")?;
        if let Some(norm) = self.clip_grad {
            positive("optimizer.clip_grad", norm, "use a norm such as 5.0, or none")?;
        }
        self.curve.validate()?;
        match self.warm_up {
            WarmUp::None | WarmUp::Steps(_) => Ok(()),
            WarmUp::Share(share) => {
                within("optimizer.warm_up.share", share, 0.0, 1.0, "give a share of the run, such as 0.2")
            }
            WarmUp::Epochs { epochs, at_most_share } => {
                within(
                    "optimizer.warm_up.epochs",
                    epochs,
                    0.0,
                    f64::MAX,
                    "give passes over the data, such as 20",
                )?;
                within(
                    "optimizer.warm_up.at_most_share",
                    at_most_share,
                    0.0,
                    1.0,
                    "give a share of the run, such as 0.2",
                )
            }
        }
    }
}
