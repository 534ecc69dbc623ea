//! Buffers and plans of one worker thread.

use freqcrop::FrequencyCrop;
use image::RgbImage;
use randaug::{Normalize, Scratch};

use crate::config::channels::Normalization;
use crate::data::pipeline::resize_crop::{ResizeCropScratch, ResizedBox};
use crate::data::pipeline::timer::{PipelineStage, StageTimer};
use crate::error::DataError;

/// Buffers and plans that a worker reuses from image to image.
#[derive(Default)]
pub struct Workspace {
    /// Measures the time of each stage, if set.
    pub clock: Option<StageTimer>,
    pub(crate) scratch: Scratch,
    /// Of the Lanczos crop alone, whose weights are the same for all images of a size.
    pub(crate) lanczos: Scratch,
    normalize: Option<(Normalization, Normalize)>,
    fourier: Option<FrequencyCrop>,
    pub(crate) resize_crop: ResizeCropScratch,
    /// Image at base size.
    pub(crate) base: RgbImage,
    /// Image at the size of the stage.
    pub(crate) small: RgbImage,
}

impl Workspace {
    /// Returns the transform to normalized values; it is made again only if its numbers change.
    pub(crate) fn normalize(&mut self, by: Normalization) -> &Normalize {
        let kept = self.normalize.take().filter(|(of, _)| *of == by);
        &self.normalize.insert(kept.unwrap_or_else(|| (by, by.transform()))).1
    }

    /// Returns the low-frequency crop between two edges; it is planned again only if they change.
    pub(crate) fn fourier(&mut self, (from, to): (usize, usize)) -> Result<&FrequencyCrop, DataError> {
        let crop = match self.fourier.take() {
            Some(crop) if crop.input_size() == (from, from) && crop.output_size() == (to, to) => crop,
            _ => FrequencyCrop::new((from, from), (to, to))?,
        };
        Ok(self.fourier.insert(crop))
    }

    /// Applies [`ResizeCropScratch::resize_and_crop`] with the crop from the base size to that of
    /// `small`.
    ///
    /// # Errors
    /// Same as [`ResizeCropScratch::resize_and_crop`].
    pub(crate) fn resize_and_crop(
        &mut self,
        of: &ResizedBox,
        small: &mut RgbImage,
    ) -> Result<bool, DataError> {
        // Taken out, so that the plan can be borrowed too; after an error, only a new buffer is
        // allocated.
        let mut scratch = std::mem::take(&mut self.resize_crop);
        let plan = self.fourier((of.base_size as usize, small.width() as usize))?;
        let done = scratch.resize_and_crop(plan, of, small);
        self.resize_crop = scratch;
        done
    }

    /// Adds the time since the last mark to `stage`, if time is measured.
    pub fn mark(&mut self, stage: PipelineStage) {
        if let Some(clock) = &mut self.clock {
            clock.mark(stage);
        }
    }
}
