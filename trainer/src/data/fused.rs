//! Crop box, resize, flip and low-frequency crop as one operator.

use freqcrop::{Backend, Resampling, RgbWindow};
use image::RgbImage;
use randaug::{CropBox, Filter};

use super::pipeline::{Workspace, setting};
use crate::error::DataError;

/// Working memory of the operator.
#[derive(Default)]
pub(super) struct Fused {
    rows: Resampling,
    columns: Resampling,
    taps: Vec<f64>,
    scratch: freqcrop::Scratch<f32>,
}

/// Whether one operator is the faster way: its first product runs over all columns of the box, where the stepwise way has
/// already brought them to base size.
pub(super) fn fits(area: CropBox, base_size: u32) -> bool {
    u64::from(area.width) * 4 <= u64::from(base_size) * 5
}

impl Workspace {
    /// Brings a box of the image to the size of `small` by way of `base` pixels. False, and nothing is done, where the
    /// plan for these sizes cannot be combined with a resize.
    pub(super) fn crop_fused(
        &mut self,
        image: &RgbImage,
        area: CropBox,
        flip: bool,
        base: u32,
        small: &mut RgbImage,
    ) -> Result<bool, DataError> {
        let (base, size) = (base as usize, small.width() as usize);
        // Taken out, so that the plan can be borrowed beside it; an error merely costs a new one.
        let mut fused = std::mem::take(&mut self.fused);
        let plan = self.fourier((base, size))?;
        if plan.backend() != Backend::Separable {
            return Ok(false);
        }
        let Fused { rows, columns, taps, scratch } = &mut fused;
        fill(rows, area.height as usize, base, taps)?;
        fill(columns, area.width as usize, base, taps)?;
        if flip {
            columns.mirror();
        }
        let window = RgbWindow {
            pixels: image,
            image_width: image.width() as usize,
            top: area.top as usize,
            left: area.left as usize,
        };
        plan.apply_rgb8_resampled(window, (rows, columns), small, scratch).map_err(setting)?;
        self.fused = fused;
        Ok(true)
    }
}

/// The bicubic resize of one axis.
fn fill(map: &mut Resampling, from: usize, to: usize, taps: &mut Vec<f64>) -> Result<(), DataError> {
    map.reset(from);
    let mut outcome = Ok(());
    Filter::Bicubic.taps(from, to, taps, |start, weights| {
        if outcome.is_ok() {
            outcome = map.push(start, weights);
        }
    });
    outcome.map_err(setting)
}
