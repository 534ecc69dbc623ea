//! Charts of runs.

pub(crate) mod legend;
pub(crate) mod sheet;

use std::path::Path;

use plotters::prelude::*;

use crate::error::{Error, Result};
use crate::events::history::{EvalRecord, Figure};
use crate::observe::chart::legend::{Entry, Mark, draw_legend};
use crate::observe::chart::sheet::{COLORS, Drawn, EDGES, Sheet, svg, titled};

/// Curve of a run in a chart.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Name in the legend.
    pub name: String,
    /// Evaluations of the run.
    pub evals: Vec<EvalRecord>,
}

/// Line chart with one vertical axis.
pub(crate) struct Chart<'a> {
    /// Title.
    pub(crate) title: &'a str,
    /// Labels of the axes.
    pub(crate) x: &'a str,
    pub(crate) y: &'a str,
    /// Width and height, in pixels.
    pub(crate) edges: (u32, u32),
    /// Smallest range of the vertical axis.
    pub(crate) range: (f64, f64),
    pub(crate) lines: Vec<Line>,
    /// Positions of vertical marks.
    pub(crate) marks: Vec<f64>,
}

/// One line of a [`Chart`].
pub(crate) struct Line {
    pub(crate) points: Vec<(f64, f64)>,
    pub(crate) color: RGBColor,
    /// Name in the legend, if any.
    pub(crate) name: Option<String>,
    pub(crate) dashed: bool,
    /// Radius of a dot at each point.
    pub(crate) dots: u32,
}

/// Draws the accuracy of runs, top-1 or mAP, against compute as an SVG file, with one line per run.
///
/// # Errors
/// Returns an error if there is no evaluation to draw, or the file cannot be written.
pub fn accuracy_against_compute(path: &Path, title: &str, curves: &[Curve]) -> Result<()> {
    accuracy_against(path, title, curves, "compute, in compute epochs", |eval| eval.equivalent_epochs)
}

/// Draws the accuracy of runs, top-1 or mAP, against wall time as an SVG file, with one line per
/// run.
///
/// # Errors
/// Same as [`accuracy_against_compute`].
pub fn accuracy_against_time(path: &Path, title: &str, curves: &[Curve]) -> Result<()> {
    accuracy_against(path, title, curves, "wall time, in minutes", |eval| eval.seconds / 60.0)
}

/// Returns the figure of the first evaluation of some curves.
pub fn figure_of(curves: &[Curve]) -> Figure {
    let first = curves.iter().flat_map(|curve| &curve.evals).next();
    first.map_or(Figure::Top1, EvalRecord::figure)
}

fn accuracy_against(
    path: &Path,
    title: &str,
    curves: &[Curve],
    x: &str,
    spent: impl Fn(&EvalRecord) -> f64,
) -> Result<()> {
    let line = |(index, curve): (usize, &Curve)| {
        let points: Vec<_> = curve.evals.iter().map(|e| (spent(e), 100.0 * e.accuracy())).collect();
        let last = points.last().map_or(0.0, |p| p.1);
        // When colors repeat, dashes distinguish the lines.
        let (color, dashed) = (COLORS[index % COLORS.len()], index >= COLORS.len());
        Line { points, color, name: Some(format!("{} ({last:.1}%)", curve.name)), dashed, dots: 3 }
    };
    let figure = figure_of(curves);
    let chart = Chart {
        title,
        x,
        y: &format!("{}, %", figure.title()),
        edges: EDGES,
        range: (0.0, 0.0),
        lines: curves.iter().enumerate().map(line).collect(),
        marks: Vec::new(),
    };
    let svg = chart.svg().map_err(|reason| Error::Chart { path: path.into(), reason })?;
    crate::util::atomic_file::replace(path, svg.as_bytes())
}

impl Chart<'_> {
    /// Draws the chart as SVG.
    ///
    /// # Errors
    /// Returns an error if there is nothing to draw.
    pub(crate) fn svg(&self) -> std::result::Result<String, String> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let longest = points().map(|p| p.0).fold(0.0, f64::max);
        if longest <= 0.0 {
            return Err("no evaluation to draw".into());
        }
        let (low, high) = points().fold(self.range, |(low, high), p| (low.min(p.1), high.max(p.1)));
        let high = if high > low { high } else { low + 1.0 };
        svg(self.edges, |area| self.draw(area, longest, (low, high)))
    }

    /// Returns the legend entries of the lines.
    fn entries(&self) -> Vec<Entry> {
        let entry = |line: &Line| {
            let mark = if line.dashed { Mark::Dashes } else { Mark::Line };
            Some(Entry { name: line.name.clone()?, color: line.color, mark })
        };
        self.lines.iter().filter_map(entry).collect()
    }

    fn draw(&self, area: &Sheet, longest: f64, (low, high): (f64, f64)) -> Drawn {
        let small = if self.edges.0 < 700 { 12 } else { 14 };
        let above = if high > self.range.1 { high + 0.04 * (high - low) } else { high };
        let area = draw_legend(&titled(area, self.title, small + 6)?, &self.entries())?;
        let mut chart = ChartBuilder::on(&area)
            .margin(small)
            .x_label_area_size(3 * small + 2)
            .y_label_area_size(4 * small)
            .build_cartesian_2d(0.0..longest * 1.02, low..above)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(RGBColor(225, 225, 225))
            .x_labels(8)
            .y_labels(6)
            .x_desc(self.x)
            .y_desc(self.y)
            .x_label_formatter(&|&x| number(x))
            .y_label_formatter(&|&y| number(y))
            .label_style(("sans-serif", small))
            .draw()?;
        for &mark in self.marks.iter().filter(|&&mark| mark > 0.0 && mark <= longest) {
            let style = RGBColor(190, 190, 190).stroke_width(1);
            chart.draw_series(LineSeries::new([(mark, low), (mark, above)], style))?;
        }
        for line in &self.lines {
            let style = line.color.stroke_width(2);
            let points = line.points.iter().copied();
            if line.dashed {
                chart.draw_series(DashedLineSeries::new(points, 6, 4, style))?;
            } else {
                chart.draw_series(LineSeries::new(points, style).point_size(line.dots))?;
            }
        }
        Ok(())
    }
}

/// Formats a number of an axis, as short as its neighbors allow.
fn number(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.01 {
        return format!("{value:.1e}");
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use crate::observe::chart::number;

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 10.0, 2.5, 0.012, 0.001, 1234.0, -0.5].map(number);
        assert_eq!(texts, ["0", "10", "2.5", "0.012", "1.0e-3", "1234", "-0.5"]);
    }
}
