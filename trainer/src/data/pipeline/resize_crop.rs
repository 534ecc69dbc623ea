//! Crop box, resize, flip and low-frequency crop as one linear operator.

use freqcrop::{Backend, FrequencyCrop, Resampling, RgbWindow};
use image::RgbImage;
use randaug::{CropBox, Filter};

use crate::data::pipeline::train::CropDraw;
use crate::error::DataError;

/// Scratch buffers of the operator.
#[derive(Default)]
pub(crate) struct ResizeCropScratch {
    rows: Resampling,
    columns: Resampling,
    taps: Vec<f64>,
    scratch: freqcrop::Scratch<f32>,
}

/// Returns true if the fused operator is faster: its first product covers all columns of the box,
/// while the stepwise way has already resized them to base size.
pub(crate) fn fused_is_faster(area: CropBox, base_size: u32) -> bool {
    u64::from(area.width) * 4 <= u64::from(base_size) * 5
}

/// A box of an image with the transforms to apply to it.
pub(crate) struct ResizedBox<'a> {
    pub(crate) image: &'a RgbImage,
    pub(crate) draw: CropDraw,
    /// Edge of the image between resize and crop, in pixels.
    pub(crate) base_size: u32,
}

impl ResizeCropScratch {
    /// Resizes a box to its base size and crops its low frequencies by `plan`, as one operator,
    /// into `small`. Returns false and does nothing if the plan cannot be combined with a resize.
    ///
    /// # Errors
    /// Returns an error if the box or a size is empty.
    pub(crate) fn resize_and_crop(
        &mut self,
        plan: &FrequencyCrop,
        of: &ResizedBox,
        small: &mut RgbImage,
    ) -> Result<bool, DataError> {
        if plan.backend() != Backend::Separable {
            return Ok(false);
        }
        let (base, CropDraw { area, filter, hflip, vflip }) = (of.base_size as usize, of.draw);
        let Self { rows, columns, taps, scratch } = self;
        fill(rows, filter, area.height as usize, base, taps)?;
        fill(columns, filter, area.width as usize, base, taps)?;
        if hflip {
            columns.mirror();
        }
        if vflip {
            rows.mirror();
        }
        let window = RgbWindow {
            pixels: of.image,
            image_width: of.image.width() as usize,
            top: area.top as usize,
            left: area.left as usize,
        };
        plan.apply_rgb8_resampled(window, (rows, columns), small, scratch)?;
        Ok(true)
    }
}

/// Computes the resize of one axis.
fn fill(
    map: &mut Resampling,
    filter: Filter,
    from: usize,
    to: usize,
    taps: &mut Vec<f64>,
) -> Result<(), DataError> {
    map.reset(from);
    let mut outcome = Ok(());
    filter.taps(from, to, taps, |start, weights| {
        if outcome.is_ok() {
            outcome = map.push(start, weights);
        }
    });
    outcome.map_err(DataError::from)
}
