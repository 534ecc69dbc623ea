//! Time of runs to an accuracy, as a table of a report.

use crate::config::train::TrainConfig;
use crate::events::Start;
use crate::events::history::{EvalRecord, Figure};
use crate::observe::report::Shown;
use crate::observe::report::charts::figure_of;
use crate::observe::report::read::RunLog;
use crate::observe::time_to_accuracy::{Evaluation, TimeToAccuracy, is_plain};

/// Runs that differ only in their seeds.
struct Group<'a> {
    runs: Vec<&'a RunLog>,
}

/// An accuracy to reach.
pub(crate) struct Target {
    /// Accuracy by the figure of the runs, 0 to 1.
    accuracy: f64,
    /// What it is.
    pub(crate) what: String,
    /// Time of plain training to its end, in seconds.
    baseline: Option<f64>,
}

/// Returns the heads of the columns.
pub(crate) fn head(runs: &[Shown]) -> [&'static str; 5] {
    let accuracy = match figure_of(runs) {
        Some(Figure::Top1) => "#top-1 to reach",
        Some(Figure::Map) => "#mAP to reach",
        None => "#top-1 or mAP to reach",
    };
    ["run", accuracy, "#minutes", "#of the baseline's time", "#runs that reached it"]
}

impl Group<'_> {
    fn is_baseline(&self) -> bool {
        is_plain(&self.runs[0].start.recipe)
    }

    /// Returns the mean of the final accuracies of runs with evaluations.
    fn last(&self) -> Option<f64> {
        let last: Vec<f64> =
            self.runs.iter().filter_map(|run| run.evals.last()).map(EvalRecord::score).collect();
        (!last.is_empty()).then(|| last.iter().sum::<f64>() / last.len() as f64)
    }

    /// Returns the mean time of the runs to their ends, in seconds.
    fn seconds(&self) -> f64 {
        let end = |run: &&RunLog| run.end.map_or(run.evals.last().map_or(0.0, |e| e.seconds), |end| end.1);
        self.runs.iter().map(end).sum::<f64>() / self.runs.len() as f64
    }

    fn name(&self) -> String {
        self.runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn evaluations(&self) -> Vec<Vec<Evaluation>> {
        let of = |run: &&RunLog| run.evals.iter().map(|e| (e.seconds, e.score())).collect();
        self.runs.iter().map(of).collect()
    }
}

/// Joins runs that differ only in their seeds, in the order of the first ones.
fn groups(runs: &[Shown]) -> Vec<Group<'_>> {
    let seedless = |run: &RunLog| TrainConfig { seed: 0, ..run.config.clone() };
    let mut groups: Vec<(TrainConfig, Group)> = Vec::new();
    for run in runs.iter().map(|shown| &shown.log).filter(|run| !run.evals.is_empty()) {
        let config = seedless(run);
        match groups.iter_mut().find(|(other, _)| *other == config) {
            Some((_, group)) => group.runs.push(run),
            None => groups.push((config, Group { runs: vec![run] })),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// Returns the accuracy that the runs of a model and a figure are to reach: the given one, that of plain
/// training, or else the lowest final one.
fn target(groups: &[Group], start: &Start, given: Option<f64>) -> Option<Target> {
    let model = &start.model;
    let alike = |other: &Start| other.model == *model && other.figure() == start.figure();
    let of_model = || groups.iter().filter(|group| alike(&group.runs[0].start));
    let baseline = of_model().find(|group| group.is_baseline());
    let seconds = baseline.map(Group::seconds);
    if let Some(accuracy) = given {
        return Some(Target { accuracy, what: "the given accuracy".into(), baseline: seconds });
    }
    if let Some((group, accuracy)) = baseline.and_then(|group| Some((group, group.last()?))) {
        let what = format!("the final accuracy of {}", group.runs[0].start.recipe);
        return Some(Target { accuracy, what, baseline: seconds });
    }
    let lowest = of_model().filter_map(Group::last).reduce(f64::min)?;
    let several = of_model().count() > 1;
    several.then(|| Target {
        accuracy: lowest,
        what: format!("the lowest final accuracy of {model}"),
        baseline: None,
    })
}

/// Returns the rows of the table, and what the accuracies are. One run alone is not compared, unless
/// an accuracy is given.
pub(crate) fn rows(runs: &[Shown], given: Option<f64>) -> (Vec<Vec<String>>, Vec<String>) {
    let groups = groups(runs);
    if groups.len() < 2 && given.is_none() {
        return (Vec::new(), Vec::new());
    }
    let (mut rows, mut notes) = (Vec::new(), Vec::new());
    for group in &groups {
        let Some(target) = target(&groups, &group.runs[0].start, given) else { continue };
        let [minutes, share, reached] =
            TimeToAccuracy::of(&group.evaluations(), target.accuracy).cells(target.baseline);
        rows.push(vec![group.name(), format!("{:.1}%", 100.0 * target.accuracy), minutes, share, reached]);
        if !notes.contains(&target.what) {
            notes.push(target.what);
        }
    }
    (rows, notes)
}
