//! History of a run: its evaluations and times.

use serde::{Deserialize, Serialize};

/// One evaluation of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalRecord {
    /// Optimizer steps done.
    pub step: u64,
    /// Passes over the training set done.
    pub epoch: f64,
    /// Compute spent, in compute epochs (passes over the data at base size).
    pub equivalent_epochs: f64,
    /// Wall time of the run so far, in seconds, evaluations included.
    pub seconds: f64,
    /// Fraction of images whose label is the most probable class, 0 to 1; in a multi-label run, whose
    /// most probable class is among their labels.
    pub top1: f64,
    /// Fraction of images with a label among the five most probable classes, 0 to 1.
    pub top5: f64,
    /// Cross entropy, averaged over the images, or binary cross entropy in a multi-label run; not
    /// finite if the network has diverged.
    #[serde(with = "crate::util::float_serde")]
    pub loss: f64,
    /// Top-1 of the moving average, if one is kept.
    pub ema_top1: Option<f64>,
    /// Measures of a multi-label run; none for a run with one label an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multi_label: Option<MultiLabelEval>,
}

/// Measures of an evaluation on images with any number of labels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MultiLabelEval {
    /// Mean average precision of the weights, 0 to 1.
    pub map: f64,
    /// That of the moving average, if one is kept.
    pub ema_map: Option<f64>,
    /// F1 of all labels together at a probability of 0.5, 0 to 1.
    pub micro_f1: f64,
    /// Mean of the classes' F1 at a probability of 0.5, 0 to 1.
    pub macro_f1: f64,
}

/// Figure by which the evaluations of a run are judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Figure {
    /// Fraction of images whose label is the most probable class.
    #[default]
    Top1,
    /// Mean average precision, of a multi-label run.
    Map,
}

impl Figure {
    /// Returns the figure of a run.
    pub fn of_run(multi_label: bool) -> Self {
        if multi_label { Self::Map } else { Self::Top1 }
    }

    /// Returns its short name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Top1 => "top-1",
            Self::Map => "mAP",
        }
    }

    /// Returns its long name.
    pub fn title(self) -> &'static str {
        match self {
            Self::Top1 => "top-1 accuracy",
            Self::Map => "mean average precision (mAP)",
        }
    }
}

impl EvalRecord {
    /// Returns the figure by which evaluations of its run are judged.
    pub fn figure(&self) -> Figure {
        Figure::of_run(self.multi_label.is_some())
    }

    /// Returns the accuracy of the weights, 0 to 1: top-1, or mAP in a multi-label run.
    pub fn accuracy(&self) -> f64 {
        self.multi_label.map_or(self.top1, |several| several.map)
    }

    /// Returns the same accuracy of the moving average, if one is kept.
    pub fn ema_accuracy(&self) -> Option<f64> {
        self.multi_label.map_or(self.ema_top1, |several| several.ema_map)
    }

    /// Returns the accuracy of the weights or of their moving average, whichever is better;
    /// checkpoints are ranked by it.
    pub fn score(&self) -> f64 {
        self.ema_accuracy().map_or(self.accuracy(), |ema| ema.max(self.accuracy()))
    }

    /// Returns true if the network gave non-finite outputs, which make its accuracy meaningless.
    pub fn diverged(&self) -> bool {
        !self.loss.is_finite()
    }
}

/// Evaluations and wall time of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// All evaluations, in order.
    pub evals: Vec<EvalRecord>,
    /// Wall time over all processes of the run, in seconds.
    pub seconds: f64,
    /// The part of it that optimizer steps took, with their waits for images, in seconds.
    #[serde(default)]
    pub step_seconds: f64,
    /// Steps that were skipped because their loss or gradients were not finite.
    #[serde(default)]
    pub bad_steps: Vec<u64>,
    /// How often the learning rate was halved because of them.
    #[serde(default)]
    pub lr_halvings: u32,
}

impl History {
    /// Returns the last evaluation.
    pub fn last(&self) -> Option<&EvalRecord> {
        self.evals.last()
    }

    /// Returns the best evaluation, and the earlier one of equals.
    pub fn best(&self) -> Option<&EvalRecord> {
        let step = *self.ranking().first()?;
        self.evals.iter().find(|eval| eval.step == step)
    }

    /// Returns the steps of all evaluations, the best first; of equals the earlier first. Diverged
    /// ones come last.
    pub fn ranking(&self) -> Vec<u64> {
        let mut evals: Vec<&EvalRecord> = self.evals.iter().collect();
        let by_score = |a: &EvalRecord, b: &EvalRecord| b.score().total_cmp(&a.score());
        evals.sort_by(|a, b| {
            a.diverged().cmp(&b.diverged()).then_with(|| by_score(a, b)).then(a.step.cmp(&b.step))
        });
        evals.into_iter().map(|eval| eval.step).collect()
    }
}
