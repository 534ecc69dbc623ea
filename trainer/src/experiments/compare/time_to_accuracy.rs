//! Time that each contestant takes to the accuracy of plain training.

use efficienttrain_schedule::search::Measured;

use crate::experiments::compare::table::Row;

/// Recipe whose final accuracy is to be reached: plain training.
const BASELINE: &str = "-baseline";

/// How long a contestant takes to an accuracy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TimeToAccuracy {
    /// The accuracy, 0 to 1.
    pub(crate) target: f64,
    /// Wall time to the first evaluation at or above it, in seconds; none if no seed reached it.
    pub(crate) seconds: Option<Measured>,
    /// Seeds that reached it.
    pub(crate) reached: usize,
    /// Mean time of the baseline to its end, in seconds.
    pub(crate) baseline: f64,
}

impl TimeToAccuracy {
    /// Returns the time of a contestant; none if there is no baseline of its model.
    pub(crate) fn of(row: &Row, rows: &[Row]) -> Option<Self> {
        let reference = rows.iter().find(|r| r.model == row.model && r.recipe.ends_with(BASELINE))?;
        let target = reference.measured.mean;
        let first = |evals: &Vec<[f64; 3]>| evals.iter().find(|eval| eval[2] >= target).map(|eval| eval[0]);
        let times: Vec<f64> = row.evaluations.iter().filter_map(first).collect();
        let seconds = (!times.is_empty()).then(|| Measured::of(&times));
        let baseline = reference.seconds.iter().sum::<f64>() / reference.seconds.len().max(1) as f64;
        Some(Self { target, seconds, reached: times.len(), baseline })
    }

    fn cells(&self, row: &Row) -> [String; 5] {
        let minutes = |seconds: &Measured| {
            let mean = format!("{:.2}", seconds.mean / 60.0);
            seconds.spread.map_or(mean.clone(), |spread| format!("{mean} +- {:.2}", spread / 60.0))
        };
        let share = |seconds: &Measured| format!("{:.2}", seconds.mean / self.baseline.max(1e-9));
        [
            row.name.clone(),
            format!("{:.2}", 100.0 * self.target),
            self.seconds.as_ref().map_or("not reached".into(), minutes),
            self.seconds.as_ref().map_or("-".into(), share),
            format!("{} of {}", self.reached, row.evaluations.len()),
        ]
    }
}

const HEAD: [&str; 5] =
    ["run", "top-1 % of the baseline", "minutes to reach it", "share of the baseline's time", "seeds"];

/// Formats the times as a Markdown table; empty if there is no baseline.
pub(crate) fn to_markdown(rows: &[Row]) -> String {
    let times = rows.iter().filter_map(|row| Some(TimeToAccuracy::of(row, rows)?.cells(row)));
    let lines: Vec<String> = times.map(|cells| format!("| {} |\n", cells.join(" | "))).collect();
    if lines.is_empty() {
        return String::new();
    }
    format!("| {} |\n{}|\n{}", HEAD.join(" | "), "| --- ".repeat(HEAD.len()), lines.concat())
}
