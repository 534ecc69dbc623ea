//! Time that each contestant takes to the accuracy of plain training.

use crate::events::history::Figure;
use crate::experiments::compare::table::Row;
use crate::observe::time_to_accuracy::{Evaluation, TimeToAccuracy, is_plain};

/// Returns the heads of the columns.
fn head(rows: &[Row]) -> [String; 5] {
    let figure = rows.first().map_or(Figure::Top1, Row::figure).name();
    let accuracy = format!("{figure} % of the baseline");
    ["run", &accuracy, "minutes to reach it", "share of the baseline's time", "seeds"].map(String::from)
}

/// Returns the cells of a contestant; none if there is no baseline of its model.
fn cells(row: &Row, rows: &[Row]) -> Option<[String; 5]> {
    let reference = rows.iter().find(|r| r.model == row.model && is_plain(&r.recipe))?;
    let target = reference.measured.mean;
    let evaluations = |evals: &Vec<[f64; 3]>| evals.iter().map(|eval| (eval[0], eval[2])).collect();
    let runs: Vec<Vec<Evaluation>> = row.evaluations.iter().map(evaluations).collect();
    let baseline = reference.seconds.iter().sum::<f64>() / reference.seconds.len().max(1) as f64;
    let [minutes, share, seeds] = TimeToAccuracy::of(&runs, target).cells(Some(baseline));
    Some([row.name.clone(), format!("{:.2}", 100.0 * target), minutes, share, seeds])
}

/// Formats the times as a Markdown table; empty if there is no baseline.
pub(crate) fn to_markdown(rows: &[Row]) -> String {
    let times = rows.iter().filter_map(|row| cells(row, rows));
    let lines: Vec<String> = times.map(|cells| format!("| {} |\n", cells.join(" | "))).collect();
    if lines.is_empty() {
        return String::new();
    }
    let head = head(rows);
    format!("| {} |\n{}|\n{}", head.join(" | "), "| --- ".repeat(head.len()), lines.concat())
}
