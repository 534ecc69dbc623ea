//! Results of a comparison as a table, in three formats.

use std::path::Path;

use efficienttrain_models::{cost, create_model};
use efficienttrain_schedule::search::Measured;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::events::history::{EvalRecord, Figure};
use crate::experiments::compare::time_to_accuracy;
use crate::observe::chart::{Curve, accuracy_against_compute, accuracy_against_time, figure_of};
use crate::run::Run;
use crate::util::atomic_file::replace;
use crate::util::csv::csv;

/// Results of a contestant over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Name of the contestant.
    pub name: String,
    /// Model.
    pub model: String,
    /// Recipe.
    pub recipe: String,
    /// Sizes in the order of the curriculum, in pixels.
    pub sizes: Vec<u32>,
    /// Compute, in compute epochs (passes over the data at base size).
    pub equivalent_epochs: f64,
    /// Operations of all training passes, in 10^12.
    pub tera_operations: f64,
    /// Passes over the data, replayed images included.
    pub passes: f64,
    /// Optimizer steps.
    pub steps: u64,
    /// Final top-1 accuracy of each seed (of weights or average, the better), 0 to 1; empty for
    /// multi-label runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub top1: Vec<f64>,
    /// Final mean average precision of each seed, likewise, of multi-label runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub map: Vec<f64>,
    /// Mean and spread of the accuracies.
    pub measured: Measured,
    /// Wall time of each seed, evaluations included, in seconds.
    pub seconds: Vec<f64>,
    /// Training images per second of wall time.
    pub images_per_second: f64,
    /// Evaluations of each seed: wall time in seconds, compute in compute epochs, and top-1 accuracy
    /// or mAP (of weights or average, the better).
    pub evaluations: Vec<Vec<[f64; 3]>>,
}

impl Row {
    /// Creates the row of one or more finished runs that differ only in their seeds.
    pub(crate) fn of(name: &str, runs: &[Run]) -> Result<Self> {
        let plan = runs[0].plan();
        let (mut sizes, mut operations, mut images) = (Vec::new(), 0.0, 0.0);
        for stage in plan.stages().iter().filter(|stage| stage.steps > 0) {
            let classes = runs[0].state.model.num_classes();
            let options = runs[0].config.model_options(classes, stage.size as usize);
            let model = create_model(&plan.recipe().model, &options)?;
            let trained = (stage.steps * stage.images_per_step) as f64;
            operations += trained * cost(&*model)?.train_flops as f64;
            images += trained;
            sizes.push(stage.size);
        }
        sizes.dedup();
        let accuracy: Vec<f64> =
            runs.iter().map(|run| run.history.last().map_or(0.0, EvalRecord::score)).collect();
        let measured = Measured::of(&accuracy);
        let (top1, map) = match runs[0].config.multi_label {
            true => (Vec::new(), accuracy),
            false => (accuracy, Vec::new()),
        };
        let seconds: Vec<f64> = runs.iter().map(|run| run.history.seconds).collect();
        let evaluation = |e: &EvalRecord| [e.seconds, e.equivalent_epochs, e.score()];
        let evaluations = runs.iter().map(|run| run.history.evals.iter().map(evaluation).collect());
        Ok(Self {
            name: name.into(),
            model: runs[0].state.model.name().into(),
            recipe: plan.recipe().name.clone(),
            sizes,
            equivalent_epochs: plan.equivalent_epochs(),
            tera_operations: operations / 1e12,
            passes: plan.stages().iter().map(|stage| stage.epochs).sum(),
            steps: plan.total_steps(),
            measured,
            images_per_second: images * runs.len() as f64 / seconds.iter().sum::<f64>().max(1e-9),
            top1,
            map,
            seconds,
            evaluations: evaluations.collect(),
        })
    }

    /// Returns the figure by which the runs are judged.
    pub(crate) fn figure(&self) -> Figure {
        Figure::of_run(!self.map.is_empty())
    }

    fn cells(&self) -> [String; 10] {
        let sizes: Vec<String> = self.sizes.iter().map(u32::to_string).collect();
        let seconds = self.seconds.iter().sum::<f64>() / self.seconds.len() as f64;
        [
            self.name.clone(),
            self.model.clone(),
            sizes.join(", "),
            format!("{:.2}", self.equivalent_epochs),
            format!("{:.3}", self.tera_operations),
            format!("{:.1}", self.passes),
            percent(&self.measured),
            self.seconds.len().to_string(),
            format!("{seconds:.1}"),
            format!("{:.0}", self.images_per_second),
        ]
    }
}

/// Returns the heads of the columns. All rows are of one data set, and so of one figure.
fn head(rows: &[Row]) -> [&'static str; 10] {
    let accuracy = match rows.first().map_or(Figure::Top1, Row::figure) {
        Figure::Top1 => "top-1 %",
        Figure::Map => "mAP %",
    };
    [
        "run",
        "model",
        "sizes",
        "compute epochs",
        "10^12 operations",
        "passes",
        accuracy,
        "seeds",
        "wall time s",
        "images/s",
    ]
}

fn percent(measured: &Measured) -> String {
    let mean = 100.0 * measured.mean;
    measured.spread.map_or(format!("{mean:.2}"), |spread| format!("{mean:.2} +- {:.2}", 100.0 * spread))
}

/// Formats the rows as a Markdown table, and, if there is a baseline, the times to its accuracy as
/// another one.
pub fn to_markdown(rows: &[Row]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head = head(rows);
    let mut out = line(&head.map(str::to_string)) + &"| --- ".repeat(head.len()) + "|\n";
    rows.iter().for_each(|row| out += &line(&row.cells()));
    let times = time_to_accuracy::to_markdown(rows);
    if times.is_empty() { out } else { out + "\n" + &times }
}

/// Formats the rows as comma-separated values.
pub fn to_csv(rows: &[Row]) -> String {
    csv(&head(rows), rows.iter().map(Row::cells))
}

/// Writes `compare.md`, `compare.csv` and `compare.json` to a folder, and charts of the accuracy
/// against compute, `compare.svg`, and against wall time, `compare-time.svg`.
///
/// # Errors
/// Returns an error if the disk fails, or there is nothing to draw.
pub fn write_comparison(folder: &Path, rows: &[Row], curves: &[Curve]) -> Result<()> {
    let write = |name: &str, text: String| replace(&folder.join(name), text.as_bytes());
    write("compare.md", to_markdown(rows))?;
    write("compare.csv", to_csv(rows))?;
    let json = serde_json::to_string_pretty(rows).map_err(|e| Error::io(folder)(e.into()))?;
    write("compare.json", json)?;
    let figure = match figure_of(curves) {
        Figure::Top1 => "Top-1",
        Figure::Map => "mAP",
    };
    let title = |against: &str| format!("{figure} against {against}");
    accuracy_against_compute(&folder.join("compare.svg"), &title("compute"), curves)?;
    accuracy_against_time(&folder.join("compare-time.svg"), &title("wall time"), curves)
}
