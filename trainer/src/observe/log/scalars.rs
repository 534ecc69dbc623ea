//! Numbers that logs of curves show: TensorBoard and MLflow.

use crate::events::history::EvalRecord;
use crate::events::{Event, StepRecord};
use crate::observe::log::STEP_INTERVAL;

/// Named numbers of a step or an evaluation.
#[derive(Clone, Debug)]
pub(crate) struct Scalars {
    /// Optimizer steps done.
    pub(crate) step: u64,
    pub(crate) values: Vec<(&'static str, f64)>,
}

impl Scalars {
    /// Returns the numbers of an event; none if it has none, or is a step that is not logged.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        match event {
            Event::Step(s) if s.step % STEP_INTERVAL == 0 => Some(Self::of_step(s)),
            Event::Eval(e) => Some(Self::of_eval(e)),
            _ => None,
        }
    }

    fn of_step(s: &StepRecord) -> Self {
        let seconds = s.seconds.max(1e-9);
        let values = vec![
            ("train/loss", s.loss),
            ("train/lr", s.lr),
            ("train/grad_norm", s.grad_norm),
            ("curriculum/stage", s.stage as f64 + 1.0),
            ("curriculum/size", f64::from(s.size)),
            ("curriculum/magnitude", s.magnitude),
            ("progress/epoch", s.epoch),
            ("progress/compute", s.compute),
            ("speed/images_per_s", s.images as f64 / seconds),
            ("speed/waiting_for_data", s.data_seconds / seconds),
            ("speed/loader_load", s.loader_load),
        ];
        Self { step: s.step + 1, values }
    }

    fn of_eval(e: &EvalRecord) -> Self {
        let mut values = vec![("eval/top1", e.top1), ("eval/top5", e.top5), ("eval/loss", e.loss)];
        values.extend(e.ema_top1.map(|top1| ("eval/ema_top1", top1)));
        if let Some(several) = e.multi_label {
            values.push(("eval/mAP", several.map));
            values.extend(several.ema_map.map(|map| ("eval/ema_mAP", map)));
            values.extend([("eval/micro_f1", several.micro_f1), ("eval/macro_f1", several.macro_f1)]);
        }
        Self { step: e.step, values }
    }
}
