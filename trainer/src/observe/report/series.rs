//! Measurements of a run as points over an axis.

use crate::events::StepRecord;
use crate::events::history::EvalRecord;
use crate::observe::report::read::RunLog;

/// Largest number of points of a curve; more are merged.
const POINTS: usize = 300;

/// Horizontal axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Axis {
    Compute,
    Epochs,
    Time,
}

impl Axis {
    pub(crate) const ALL: [Self; 3] = [Self::Compute, Self::Epochs, Self::Time];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Epochs => "passes over the data",
            Self::Time => "wall time",
        }
    }

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Compute => "compute, in compute epochs",
            Self::Epochs => "passes over the data",
            Self::Time => "wall time, in minutes",
        }
    }

    pub(crate) fn of_step(self, run: &RunLog, s: &StepRecord) -> f64 {
        match self {
            Self::Compute => s.compute * run.start.plan.equivalent_epochs,
            Self::Epochs => s.epoch,
            Self::Time => s.elapsed / 60.0,
        }
    }

    pub(crate) fn of_eval(self, e: &EvalRecord) -> f64 {
        match self {
            Self::Compute => e.equivalent_epochs,
            Self::Epochs => e.epoch,
            Self::Time => e.seconds / 60.0,
        }
    }
}

/// How steps that share a point are merged.
#[derive(Clone, Copy)]
pub(crate) enum Join {
    Mean,
    Last,
}

/// Returns a measurement of the steps over an axis.
pub(crate) fn of_steps(
    run: &RunLog,
    axis: Axis,
    join: Join,
    value: impl Fn(&StepRecord) -> f64,
) -> Vec<(f64, f64)> {
    let many = run.steps.len().div_ceil(POINTS).max(1);
    let point = |steps: &[StepRecord]| {
        let last = steps.last()?;
        let value = match join {
            Join::Mean => steps.iter().map(&value).sum::<f64>() / steps.len() as f64,
            Join::Last => value(last),
        };
        Some((axis.of_step(run, last), value))
    };
    run.steps.chunks(many).filter_map(point).collect()
}

/// Returns a piecewise constant value as a line with corners.
pub(crate) fn stairs(run: &RunLog, axis: Axis, value: impl Fn(&StepRecord) -> f64) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = Vec::new();
    let mut before = None;
    for step in &run.steps {
        let (x, y) = (axis.of_step(run, step), value(step));
        match before {
            None => points.push((0.0, y)),
            // The change lies between the last logged step of the old value and the first of the
            // new one.
            Some((at, old)) if old != y => points.extend([(at, old), (at, y)]),
            Some(_) => {}
        }
        before = Some((x, y));
    }
    points.extend(before);
    points
}

/// Returns a measurement of the evaluations over an axis.
pub(crate) fn of_evals(
    run: &RunLog,
    axis: Axis,
    value: impl Fn(&EvalRecord) -> Option<f64>,
) -> Vec<(f64, f64)> {
    run.evals.iter().filter_map(|e| Some((axis.of_eval(e), value(e)?))).collect()
}
