//! Charts of a report.

use plotters::style::RGBColor;

use crate::events::Figure;
use crate::observe::chart::sheet::COLORS;
use crate::observe::chart::{Chart, Line};
use crate::observe::report::Shown;
use crate::observe::report::read::RunLog;
use crate::observe::report::series::{Axis, Join, of_evals, of_steps, stairs};

const EDGES: (u32, u32) = (560, 300);

/// Definition of a chart: title, unit, smallest range of the vertical axis, and the lines of a run
/// (the second one dashed).
type What = (&'static str, &'static str, (f64, f64), fn(&RunLog, Axis) -> [Vec<(f64, f64)>; 2]);

/// Unit of the loss of runs with one label an image.
const CROSS_ENTROPY: &str = "cross entropy";
/// Title of the chart of accuracies, for runs with one label an image.
const ACCURACY: &str = "Top-1 accuracy (dashed: of the average)";

const CHARTS: [What; 6] = [
    (ACCURACY, "%", (f64::INFINITY, f64::NEG_INFINITY), |run, axis| {
        let percent = |share: f64| 100.0 * share;
        [
            of_evals(run, axis, |e| Some(percent(e.accuracy()))),
            of_evals(run, axis, |e| e.ema_accuracy().map(percent)),
        ]
    }),
    (
        "Loss: training (dashed: evaluation)",
        CROSS_ENTROPY,
        (f64::INFINITY, f64::NEG_INFINITY),
        |run, axis| [of_steps(run, axis, Join::Mean, |s| s.loss), of_evals(run, axis, |e| Some(e.loss))],
    ),
    ("Size of the images, B", "pixels", (0.0, 0.0), |run, axis| {
        [stairs(run, axis, |s| s.size.into()), vec![]]
    }),
    ("RandAugment magnitude, m", "", (0.0, 10.0), |run, axis| {
        [of_steps(run, axis, Join::Last, |s| s.magnitude), vec![]]
    }),
    ("Learning rate", "", (0.0, 0.0), |run, axis| [of_steps(run, axis, Join::Last, |s| s.lr), vec![]]),
    ("Images per second, in steps", "", (0.0, 0.0), |run, axis| {
        [of_steps(run, axis, Join::Mean, |s| s.images as f64 / s.seconds.max(1e-9)), vec![]]
    }),
];

/// Draws all charts over an axis as SVG.
pub(crate) fn svgs(runs: &[Shown], axis: Axis) -> Result<Vec<String>, String> {
    CHARTS.iter().map(|what| svg(runs, axis, what)).collect()
}

/// Returns the color of a run.
pub(crate) fn color(index: usize) -> RGBColor {
    COLORS[index % COLORS.len()]
}

/// Returns the figure by which runs are judged; none if it is not the same for all.
pub(crate) fn figure_of(runs: &[Shown]) -> Option<Figure> {
    let first = runs.first().map_or(Figure::Top1, |run| run.log.start.figure());
    runs.iter().all(|run| run.log.start.figure() == first).then_some(first)
}

/// Returns the title and the unit of a chart for what the runs measure.
fn titles(runs: &[Shown], title: &'static str, y: &'static str) -> (&'static str, &'static str) {
    match (title, y, figure_of(runs)) {
        (ACCURACY, _, Some(Figure::Map)) => ("Mean average precision (dashed: of the average)", y),
        (ACCURACY, _, None) => ("Top-1 accuracy, or mAP of multi-label runs (dashed: of the average)", y),
        (_, CROSS_ENTROPY, Some(Figure::Map)) => (title, "binary cross entropy"),
        _ => (title, y),
    }
}

fn svg(runs: &[Shown], axis: Axis, &(title, y, range, lines): &What) -> Result<String, String> {
    let dotted = title == ACCURACY;
    let (title, y) = titles(runs, title, y);
    let of_run = |(i, run): (usize, &Shown)| {
        let line = move |(kind, mut points): (usize, Vec<(f64, f64)>)| {
            // A non-finite loss has no position on an axis; the diagnostics report it.
            points.retain(|point| point.1.is_finite());
            let dots = if points.len() < 40 && dotted { 2 } else { 0 };
            Line { points, color: color(i), name: None, dashed: kind == 1, dots }
        };
        lines(&run.log, axis).into_iter().enumerate().map(line)
    };
    let lines: Vec<Line> =
        runs.iter().enumerate().flat_map(of_run).filter(|l| !l.points.is_empty()).collect();
    if lines.iter().all(|line| line.points.iter().all(|p| p.0 <= 0.0)) {
        return Ok(format!("<p class=none>{title}: nothing measured yet</p>"));
    }
    // With several runs, the stages would only confuse.
    let marks = if let [run] = runs { stage_marks(&run.log, axis) } else { Vec::new() };
    Chart { title, x: axis.label(), y, edges: EDGES, range, lines, marks }.svg()
}

/// Returns the starts of stages, at the last logged step before each.
fn stage_marks(run: &RunLog, axis: Axis) -> Vec<f64> {
    let changes = run.steps.windows(2).filter(|pair| pair[0].stage != pair[1].stage);
    changes.map(|pair| axis.of_step(run, &pair[0])).collect()
}
