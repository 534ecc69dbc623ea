//! Chart of the candidates of a search.

use std::path::Path;

use efficienttrain_schedule::search::{Candidate, Outcome, Verdict};
use plotters::prelude::*;

use crate::error::Result;
use crate::events::Figure;
use crate::observe::chart::legend::{Entry, Mark, draw_legend};
use crate::observe::chart::sheet::{COLORS, Drawn, Sheet, titled, write_svg};

const CHOSEN: RGBColor = RGBColor(150, 150, 150);
const BASELINE: RGBColor = RGBColor(60, 60, 60);

/// Width of a stage, which its candidates share.
const SPREAD: f64 = 0.6;

/// Draws the accuracy of each candidate of each stage with its spread over the seeds; a line
/// connects the chosen ones.
pub(crate) fn draw_outcome(path: &Path, outcome: &Outcome, figure: Figure) -> Result<()> {
    write_svg(path, |area| draw(area, outcome, figure))
}

/// Returns the position of a candidate along the stages, its accuracy and the spread of its
/// accuracy, in percent.
fn position(outcome: &Outcome, stage: usize, candidate: &Candidate) -> Option<(f64, f64, f64)> {
    let measured = candidate.measured?;
    let count = outcome.stages[stage].candidates.len().max(2) - 1;
    let aside = (candidate.candidate as f64 / count as f64 - 0.5) * SPREAD;
    Some((stage as f64 + 1.0 + aside, 100.0 * measured.mean, 100.0 * measured.spread.unwrap_or(0.0)))
}

fn draw(area: &Sheet, outcome: &Outcome, figure: Figure) -> Drawn {
    let all = || {
        let stages = outcome.stages.iter().enumerate();
        stages.flat_map(|(stage, of)| of.candidates.iter().map(move |c| (stage, c)))
    };
    let placed: Vec<_> = all().filter_map(|(stage, c)| Some((c, position(outcome, stage, c)?))).collect();
    let baseline = outcome.baseline.map(|m| 100.0 * m.mean);
    let ends = placed.iter().flat_map(|(_, (_, y, spread))| [y - spread, y + spread]).chain(baseline);
    let (low, high) = ends.fold((f64::MAX, f64::MIN), |(low, high), y| (low.min(y), high.max(y)));
    let margin = ((high - low) * 0.1).max(1.0);
    let y = if low > high { 0.0..100.0 } else { low - margin..high + margin };
    let title = format!("Search for {}", outcome.recipe.name);
    let area = draw_legend(&titled(area, &title, 20)?, &entries(outcome))?;
    let mut chart = ChartBuilder::on(&area)
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(0.5..outcome.stages.len() as f64 + 0.5, y)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(225, 225, 225))
        .x_labels(outcome.stages.len() + 1)
        .x_desc("stage")
        .y_desc(format!("{}, %", figure.title()))
        .x_label_formatter(&|x| if x.fract() == 0.0 { format!("{x:.0}") } else { String::new() })
        .y_label_formatter(&|y| format!("{y:.1}"))
        .label_style(("sans-serif", 14))
        .draw()?;
    let chosen = placed.iter().filter(|(c, _)| c.verdict == Verdict::Chosen);
    let path: Vec<(f64, f64)> = chosen.map(|(_, (x, y, _))| (*x, *y)).collect();
    chart.draw_series(LineSeries::new(path, CHOSEN.stroke_width(2)))?;
    if let Some(y) = baseline {
        let line = [(0.5, y), (outcome.stages.len() as f64 + 0.5, y)];
        chart.draw_series(LineSeries::new(line, BASELINE.stroke_width(1)))?;
    }
    for (choice, color) in choices(outcome).iter().zip(COLORS.iter().cycle()) {
        let mine = || placed.iter().filter(|(c, _)| c.candidate == choice.candidate);
        chart.draw_series(
            mine().map(|(_, (x, y, s))| PathElement::new([(*x, y - s), (*x, y + s)], color.stroke_width(1))),
        )?;
        let dot = |(c, (x, y, _)): &(&Candidate, (f64, f64, f64))| {
            let filled = c.verdict == Verdict::Chosen;
            let style = if filled { color.filled() } else { color.stroke_width(2) };
            Circle::new((*x, *y), if filled { 7 } else { 5 }, style)
        };
        chart.draw_series(mine().map(dot))?;
    }
    Ok(())
}

/// Returns the candidates to choose from.
fn choices(outcome: &Outcome) -> &[Candidate] {
    outcome.stages.first().map_or(&[], |stage| &stage.candidates)
}

fn entries(outcome: &Outcome) -> Vec<Entry> {
    let entry = |(choice, &color): (&Candidate, &RGBColor)| Entry {
        name: format!("B = {}", choice.choice),
        color,
        mark: Mark::Dot,
    };
    let plain = Entry { name: "plain training".into(), color: BASELINE, mark: Mark::Line };
    let mut entries: Vec<Entry> = choices(outcome).iter().zip(COLORS.iter().cycle()).map(entry).collect();
    entries.extend(outcome.baseline.map(|_| plain));
    entries.push(Entry { name: "chosen".into(), color: CHOSEN, mark: Mark::Line });
    entries
}
