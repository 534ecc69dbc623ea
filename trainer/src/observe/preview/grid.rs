//! Preview of training images: one image at every size and strength of a recipe.

use efficienttrain_schedule::Recipe;
use image::{Rgb, RgbImage, imageops};

use crate::config::channels::Normalization;
use crate::data::decode::reduced::Decoded;
use crate::data::pipeline::sample::{SampleId, ViewSpec};
use crate::data::pipeline::train::TrainPipeline;
use crate::data::pipeline::workspace::Workspace;
use crate::data::source::Source;
use crate::error::{DataError, Result};

/// Pixels between images, and the height of a line of text.
const GAP: u32 = 4;
const LINE: u32 = 12;
/// Width of the column of magnitudes.
const MARGIN: u32 = 44;
const PAPER: Rgb<u8> = Rgb([255, 255, 255]);
const INK: Rgb<u8> = Rgb([40, 40, 40]);

/// Grid of images with one column per size and one row per magnitude.
#[derive(Clone, Debug)]
pub struct Preview {
    /// Edges of the images, in pixels, ascending.
    pub sizes: Vec<u32>,
    /// RandAugment magnitudes, ascending.
    pub magnitudes: Vec<f64>,
    /// Training pipeline, with the order of low-frequency crop and RandAugment and all other
    /// constants.
    pub pipeline: TrainPipeline,
    order: efficienttrain_schedule::Order,
}

impl Preview {
    /// Creates the grid of the sizes and magnitudes in a recipe.
    pub fn new(recipe: &Recipe, pipeline: TrainPipeline) -> Self {
        let stages = &recipe.curriculum.stages;
        let mut sizes: Vec<u32> = stages.iter().map(|s| s.size).collect();
        let mut magnitudes: Vec<f64> = stages.iter().map(|s| s.magnitude.mean()).collect();
        sizes.sort_unstable();
        sizes.dedup();
        magnitudes.sort_by(f64::total_cmp);
        magnitudes.dedup();
        let order = stages.first().map(|s| s.order).unwrap_or_default();
        Self { sizes, magnitudes, pipeline, order }
    }

    /// Draws image `index` of `source` with the random draws of epoch `epoch`. They are the same in
    /// all cells, so that a row differs only in size and a column only in strength. Small images
    /// are enlarged without smoothing.
    ///
    /// # Errors
    /// Returns an error if the image cannot be read, or a setting is invalid.
    pub fn draw(&self, source: &dyn Source, index: usize, epoch: u64) -> Result<RgbImage> {
        let image = source.load(index)?.into();
        let cell = self.pipeline.base_size + GAP;
        let (columns, rows) = (self.sizes.len() as u32, self.magnitudes.len() as u32);
        let mut grid = RgbImage::from_pixel(MARGIN + columns * cell, LINE + rows * cell, PAPER);
        let mut workspace = Workspace::default();
        for (column, &size) in (0..).zip(&self.sizes) {
            let left = MARGIN + column * cell;
            write(&mut grid, &format!("B={size}"), left, 2);
            for (row, &magnitude) in (0..).zip(&self.magnitudes) {
                let top = LINE + row * cell;
                write(&mut grid, &format!("m={magnitude}"), 2, top + cell / 2);
                let view = ViewSpec { size, magnitude, order: self.order };
                let small = seen(&self.pipeline, &image, view, SampleId { epoch, index }, &mut workspace)?;
                let base = self.pipeline.base_size;
                let large = imageops::resize(&small, base, base, imageops::FilterType::Nearest);
                imageops::replace(&mut grid, &large, left.into(), top.into());
            }
        }
        Ok(grid)
    }
}

/// Returns a sample with its training transforms, at its own size.
///
/// # Errors
/// Returns an error if a setting is invalid.
pub fn seen(
    pipeline: &TrainPipeline,
    image: &Decoded,
    view: ViewSpec,
    sample: SampleId,
    workspace: &mut Workspace,
) -> Result<RgbImage, DataError> {
    let mut values = vec![0.0; pipeline.normalization.image_len(view.size as usize)];
    pipeline.apply(image, view, sample, workspace, &mut values)?;
    Ok(pixels(&values, view.size, pipeline.normalization))
}

/// Inverts the normalization.
fn pixels(values: &[f32], size: u32, Normalization { channels, mean, std }: Normalization) -> RgbImage {
    let count = channels.count();
    RgbImage::from_fn(size, size, |x, y| {
        let pixel = &values[(y * size + x) as usize * count..][..count];
        // A gray pixel has its one value in each channel.
        let byte = |c: usize| 255.0 * (pixel[c.min(count - 1)] * std[c] + mean[c]);
        let value = |c: usize| byte(c).round().clamp(0.0, 255.0) as u8;
        Rgb([value(0), value(1), value(2)])
    })
}

/// Draws a short text with an 8x8 font.
fn write(grid: &mut RgbImage, text: &str, left: u32, top: u32) {
    for (i, character) in (0..).zip(text.chars()) {
        let Some(glyph) = font8x8::legacy::BASIC_LEGACY.get(character as usize) else { continue };
        for (y, bits) in (0..).zip(glyph) {
            for x in (0..8).filter(|x| bits >> x & 1 == 1) {
                let (px, py) = (left + 8 * i + x, top + y);
                if px < grid.width() && py < grid.height() {
                    grid.put_pixel(px, py, INK);
                }
            }
        }
    }
}
