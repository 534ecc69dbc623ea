//! Charts of runs.

use std::path::Path;

use plotters::prelude::*;

use crate::error::{Error, Result};
use crate::history::EvalRecord;

/// One run in a chart.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// Its evaluations.
    pub evals: Vec<EvalRecord>,
}

pub(crate) const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 104, 181),
    RGBColor(222, 110, 32),
    RGBColor(20, 132, 84),
    RGBColor(164, 60, 140),
    RGBColor(90, 90, 90),
];

/// Draws top-1 accuracy against compute as an SVG file, a line a run.
///
/// # Errors
/// When there is no evaluation to draw, or the file cannot be written.
pub fn accuracy_against_compute(path: &Path, title: &str, curves: &[Curve]) -> Result<()> {
    let compute = |c: &Curve| c.evals.iter().map(|e| e.equivalent_epochs).fold(0.0, f64::max);
    let longest = curves.iter().map(compute).fold(0.0, f64::max);
    if longest <= 0.0 {
        return Err(Error::Chart { path: path.into(), reason: "no evaluation to draw".into() });
    }
    write_svg(path, |area| draw(area, title, curves, longest))
}

/// A white sheet to draw on.
pub(crate) type Sheet<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// What came of drawing.
pub(crate) type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

/// Writes what `draw` draws as an SVG file.
pub(crate) fn write_svg(path: &Path, draw: impl FnOnce(&Sheet) -> Drawn) -> Result<()> {
    let mut svg = String::new();
    let drawn = || -> Drawn {
        let area = SVGBackend::with_string(&mut svg, (860, 520)).into_drawing_area();
        area.fill(&WHITE)?;
        draw(&area)?;
        area.present()?;
        Ok(())
    };
    drawn().map_err(|e| Error::Chart { path: path.into(), reason: e.to_string() })?;
    crate::checkpoint::replace(path, svg.as_bytes())
}

fn draw(area: &Sheet, title: &str, curves: &[Curve], longest: f64) -> Drawn {
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..longest * 1.02, 0.0..100.0)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(225, 225, 225))
        .x_desc("compute, in epochs at full size")
        .y_desc("top-1 accuracy, %")
        .y_label_formatter(&|y| format!("{y:.0}"))
        .label_style(("sans-serif", 14))
        .draw()?;
    for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        let points: Vec<(f64, f64)> =
            curve.evals.iter().map(|e| (e.equivalent_epochs, 100.0 * e.top1)).collect();
        let last = points.last().map_or(0.0, |p| p.1);
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(3))?
            .label(format!("{} ({last:.1}%)", curve.name))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .margin(14)
        .label_font(("sans-serif", 15))
        .background_style(WHITE.mix(0.9))
        .border_style(RGBColor(200, 200, 200))
        .draw()?;
    Ok(())
}
