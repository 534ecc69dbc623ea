//! Buffers and plans of one worker.

use freqcrop::FrequencyCrop;
use image::RgbImage;
use randaug::{Normalize, Scratch};

use crate::data::pipeline::resize_crop::{ResizeCropScratch, ResizedBox};
use crate::data::pipeline::timer::{PipelineStage, StageTimer};
use crate::error::DataError;

/// Buffers and plans that a worker keeps from image to image.
#[derive(Default)]
pub struct Workspace {
    /// Counts the time of each stage where it is set.
    pub clock: Option<StageTimer>,
    pub(crate) scratch: Scratch,
    pub(crate) normalize: Normalize,
    fourier: Option<FrequencyCrop>,
    pub(crate) resize_crop: ResizeCropScratch,
    /// The picture at base size.
    pub(crate) base: RgbImage,
    /// The picture at the size of the stage.
    pub(crate) small: RgbImage,
}

impl Workspace {
    /// The low-frequency crop between two edges, planned anew only when they change.
    pub(crate) fn fourier(&mut self, (from, to): (usize, usize)) -> Result<&FrequencyCrop, DataError> {
        let crop = match self.fourier.take() {
            Some(crop) if crop.input_size() == (from, from) && crop.output_size() == (to, to) => crop,
            _ => FrequencyCrop::new((from, from), (to, to))?,
        };
        Ok(self.fourier.insert(crop))
    }

    /// Applies [`ResizeCropScratch::resize_and_crop`] with the crop from the base size to that of `small`.
    ///
    /// # Errors
    /// As that.
    pub(crate) fn resize_and_crop(
        &mut self,
        of: &ResizedBox,
        small: &mut RgbImage,
    ) -> Result<bool, DataError> {
        // Taken out, so that the plan can be borrowed beside it; an error merely costs a new one.
        let mut scratch = std::mem::take(&mut self.resize_crop);
        let plan = self.fourier((of.base_size as usize, small.width() as usize))?;
        let done = scratch.resize_and_crop(plan, of, small);
        self.resize_crop = scratch;
        done
    }

    /// Books the time since the last mark to `stage`, if anyone counts.
    pub fn mark(&mut self, stage: PipelineStage) {
        if let Some(clock) = &mut self.clock {
            clock.mark(stage);
        }
    }
}
