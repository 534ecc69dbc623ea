//! Diagnostics: searches the log of a run for symptoms of known problems.

use std::ops::Range;

use crate::events::StepRecord;
use crate::events::history::EvalRecord;
use crate::observe::report::read::RunLog;

/// A symptom with its likely cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Edge of the images at which it occurred, in pixels.
    pub size: u32,
    /// First and last stage of this size, counted from 1.
    pub stages: (usize, usize),
    /// Measured values.
    pub seen: String,
    /// Possible causes, and what to try.
    pub advice: &'static str,
}

/// Consecutive stages with images of one size.
struct Phase {
    size: u32,
    stages: (usize, usize),
    steps: Range<u64>,
}

fn phases(run: &RunLog) -> Vec<Phase> {
    let mut phases: Vec<Phase> = Vec::new();
    for (i, (stage, steps)) in run.start.plan.stages.iter().zip(run.start.stage_steps()).enumerate() {
        match phases.last_mut().filter(|phase| phase.size == stage.size) {
            Some(phase) => (phase.stages.1, phase.steps.end) = (i + 1, steps.end),
            None => phases.push(Phase { size: stage.size, stages: (i + 1, i + 1), steps }),
        }
    }
    phases
}

/// Rules, for the page. The thresholds are this project's choice.
pub(crate) const RULES: [&str; 4] = [
    "Diverged evaluation: the loss of an evaluation is not finite, at any size.",
    "Accuracy flattens early in a stage: of at least four evaluations at one size below the base size, those of the second half \
     of its steps bring less than a tenth of the gain.",
    "Unstable loss while images are smaller than the base size: a non-finite step, a logged loss above twice the median \
     at that size (above twice the first loss of the run while it comes down after the change of size), or a mean over the last \
     quarter of its steps above that over the first.",
    "Network idle, loader busy: at one size, more than a fifth of the time in steps is spent waiting for images.",
];

const DIVERGED: &str =
    "Weights or activations have grown too large. Try a lower --lr, a longer --warmup, or --clip-grad 1.";
const FLAT: &str = "B may be too small for too long, or m rises too fast. Try a recipe whose early stages are larger or shorter.";
const UNSTABLE: &str = "Learning rate or batch may not suit the stage. Try a lower --lr, a longer --warmup, --lr-scaling sqrt, or \
                        --clip-grad 1.";
const WAITING: &str = "The run is bound by its input. Try --replay, `data pack` with --max-size, --reduced-decode, or \
                       --order crop-then-augment; more --workers if cores are free.";

/// Checks all rules, size by size.
pub(crate) fn signs(run: &RunLog) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for Phase { size, stages, steps: range } in phases(run) {
        let steps: Vec<&StepRecord> = run.steps.iter().filter(|s| range.contains(&s.step)).collect();
        let small = size < run.config.base_size;
        let seen = [
            diverged(run, &range).map(|seen| (seen, DIVERGED)),
            small.then(|| flat(run, &range)).flatten().map(|seen| (seen, FLAT)),
            small.then(|| unstable(run, &range, &steps)).flatten().map(|seen| (seen, UNSTABLE)),
            waiting(&steps).map(|seen| (seen, WAITING)),
        ];
        found.extend(seen.into_iter().flatten().map(|(seen, advice)| Diagnostic {
            size,
            stages,
            seen,
            advice,
        }));
    }
    found
}

/// Returns the evaluations after steps of `range`.
fn evals_within<'a>(run: &'a RunLog, range: &Range<u64>) -> impl Iterator<Item = &'a EvalRecord> {
    let (first, last) = (range.start, range.end);
    run.evals.iter().filter(move |e| e.step > first && e.step <= last)
}

fn diverged(run: &RunLog, range: &Range<u64>) -> Option<String> {
    let count = evals_within(run, range).count();
    let diverged: Vec<&EvalRecord> = evals_within(run, range).filter(|e| e.diverged()).collect();
    let first = diverged.first()?;
    Some(format!(
        "the loss of {} of {count} evaluations is not finite, {} first at step {}",
        diverged.len(),
        first.loss,
        first.step
    ))
}

fn flat(run: &RunLog, range: &Range<u64>) -> Option<String> {
    let evals: Vec<_> = evals_within(run, range).filter(|e| !e.diverged()).collect();
    if evals.len() < 4 {
        return None;
    }
    let middle = u64::midpoint(range.start, range.end);
    let best =
        |until: u64| evals.iter().filter(|e| e.step <= until).map(|e| e.score()).fold(f64::NAN, f64::max);
    let first = evals[0].score();
    let (half, whole) = (best(middle), best(range.end));
    let (early, late) = (half - first, whole - half);
    // Without an evaluation in the first half, the gain is unknown.
    (early.is_finite() && late < 0.1 * (early + late).max(0.0) + f64::EPSILON).then(|| {
        format!(
            "{} went from {:.1}% to {:.1}% in the first half of the steps at this size, and to {:.1}% in the second",
            run.start.figure().name(),
            100.0 * first,
            100.0 * half,
            100.0 * whole
        )
    })
}

fn unstable(run: &RunLog, range: &Range<u64>, steps: &[&StepRecord]) -> Option<String> {
    let bad = run.bad_steps.iter().filter(|bad| range.contains(&bad.step)).count();
    if bad > 0 {
        return Some(format!("{bad} steps had a non-finite loss or gradient"));
    }
    if steps.len() < 8 {
        return None;
    }
    let losses: Vec<f64> = steps.iter().map(|s| s.loss).collect();
    let quarter = losses.len() / 4;
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&losses[..quarter]), mean(&losses[losses.len() - quarter..]));
    if last > first {
        return Some(format!(
            "the mean loss rose from {first:.3} in the first quarter of the steps at this size to {last:.3} in its last"
        ));
    }
    let untrained = run.steps.first().map_or(0.0, |s| s.loss);
    spike(&losses, untrained)
        .map(|(most, median)| format!("the loss went up to {most:.3}, with a median of {median:.3}"))
}

/// Returns the largest loss at a size and the median, unless the peak is part of the normal
/// transition to a new size.
///
/// The first loss at a size is that of weights trained at another one. It is measured before any
/// update at the new size, so it does not depend on learning rate, moments or statistics (those of
/// the batch, in training), and it vanishes within about ten steps. While the loss decreases from
/// there, it is compared with that of the untrained network.
fn spike(losses: &[f64], untrained: f64) -> Option<(f64, f64)> {
    let mut sorted = losses.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = sorted[sorted.len() / 2];
    let settled = losses.iter().position(|&loss| loss <= median).unwrap_or(losses.len());
    let most = |losses: &[f64]| losses.iter().copied().fold(f64::MIN, f64::max);
    let (early, late) = (most(&losses[..settled]), most(&losses[settled..]));
    let found = late > 2.0 * median || early > 2.0 * median.max(untrained);
    found.then(|| (early.max(late), median))
}

fn waiting(steps: &[&StepRecord]) -> Option<String> {
    let sum = |value: fn(&StepRecord) -> f64| steps.iter().map(|s| value(s)).sum::<f64>();
    let share = sum(|s| s.data_seconds) / sum(|s| s.seconds);
    (share > 0.2).then(|| format!("{:.0}% of the time in steps was spent waiting for images", 100.0 * share))
}
