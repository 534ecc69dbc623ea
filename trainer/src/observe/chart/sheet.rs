//! SVG canvases of a given size.

use std::path::Path;

use plotters::prelude::*;

use crate::error::{Error, Result};
use crate::util::atomic_file::replace;

/// Colors of runs, in order.
pub(crate) const COLORS: [RGBColor; 8] = [
    RGBColor(0, 104, 181),
    RGBColor(222, 110, 32),
    RGBColor(20, 132, 84),
    RGBColor(164, 60, 140),
    RGBColor(90, 90, 90),
    RGBColor(70, 175, 215),
    RGBColor(170, 130, 0),
    RGBColor(190, 30, 45),
];

/// Width and height of a chart in its own file, in pixels.
pub(crate) const EDGES: (u32, u32) = (860, 520);

/// White canvas.
pub(crate) type Sheet<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Result of drawing.
pub(crate) type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

/// Writes the output of `draw` as an SVG file.
pub(crate) fn write_svg(path: &Path, draw: impl FnOnce(&Sheet) -> Drawn) -> Result<()> {
    let svg = svg(EDGES, draw).map_err(|reason| Error::Chart { path: path.into(), reason })?;
    replace(path, svg.as_bytes())
}

/// Draws a title at the top of an area; returns the rest of the area.
pub(crate) fn titled<'a>(
    area: &Sheet<'a>,
    title: &str,
    height: i32,
) -> std::result::Result<Sheet<'a>, Box<dyn std::error::Error>> {
    Ok(area.margin(height / 2, 0, 0, 0).titled(title, ("sans-serif", height))?)
}

/// Returns the output of `draw` on a white canvas as SVG.
pub(crate) fn svg(
    edges: (u32, u32),
    draw: impl FnOnce(&Sheet) -> Drawn,
) -> std::result::Result<String, String> {
    let mut svg = String::new();
    let drawn = || -> Drawn {
        let area = SVGBackend::with_string(&mut svg, edges).into_drawing_area();
        area.fill(&WHITE)?;
        draw(&area)?;
        area.present()?;
        Ok(())
    };
    drawn().map_err(|e| e.to_string())?;
    Ok(svg)
}
