//! Training images of each stage.

use crate::data::pipeline::sample::SampleId;
use std::io::Cursor;

use image::ImageFormat;

use crate::data::decode::reduced::Decoded;
use crate::data::pipeline::sample::ViewSpec;
use crate::data::pipeline::train::TrainPipeline;
use crate::data::pipeline::workspace::Workspace;
use crate::data::source::Source;
use crate::error::{DataError, Result};
use crate::observe::preview::grid::seen;
use crate::observe::report::read::RunLog;

/// Images of one stage.
#[derive(Clone, Debug, PartialEq)]
pub struct StageImages {
    /// Number of the stage, from 1.
    pub stage: usize,
    /// Edge of the images, in pixels.
    pub size: u32,
    /// RandAugment magnitude at the middle of the stage.
    pub magnitude: f64,
    /// Images as PNG files.
    pub png: Vec<Vec<u8>>,
}

impl StageImages {
    /// Draws the first `count` images of `source` with the transforms of each stage in the first
    /// epoch. The random draws are the same in all stages, so that images differ only in size and
    /// strength.
    ///
    /// # Errors
    /// Returns an error if an image cannot be read, or the options of the run are out of range.
    pub fn draw(run: &RunLog, source: &dyn Source, count: usize) -> Result<Vec<Self>> {
        let plan = run.config.plan(source.len())?;
        let pipeline = TrainPipeline::new(&run.config, plan.recipe());
        let count = count.min(source.len());
        let images = (0..count).map(|i| source.load(i).map(Decoded::from)).collect::<Result<Vec<_>, _>>()?;
        let mut stages = Vec::new();
        for (i, stage) in plan.stages().iter().enumerate().filter(|(_, stage)| stage.steps > 0) {
            let middle = plan.at(stage.first_step + stage.steps / 2)?;
            let view = ViewSpec { size: middle.size, magnitude: middle.magnitude, order: middle.order };
            let mut workspace = Workspace::default();
            let png = |(index, image)| {
                png(&seen(&pipeline, image, view, SampleId { epoch: 0, index }, &mut workspace)?)
            };
            let png = images.iter().enumerate().map(png).collect::<Result<_>>()?;
            stages.push(Self { stage: i + 1, size: view.size, magnitude: view.magnitude, png });
        }
        Ok(stages)
    }
}

fn png(image: &image::RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    image
        .write_to(&mut bytes, ImageFormat::Png)
        .map_err(|e| DataError::Setting(format!("an image cannot be encoded: {e}")))?;
    Ok(bytes.into_inner())
}
