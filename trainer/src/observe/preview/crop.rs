//! Low-frequency crop, low-pass filter and Lanczos resize of one image.

use freqcrop::{FrequencyCrop, Lanczos, Layout, LowPass};

use crate::config::values::CropMethod;
use crate::error::{DataError, Result};
use crate::observe::preview::pixel_image::{Floats, PixelImage};

/// Operation on an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CropTool {
    /// Height and width of the band, and of the result unless it is low-pass filtered.
    pub size: [usize; 2],
    /// Method.
    pub method: CropMethod,
    /// Keep the image size and clear the frequencies outside the band; only for the Fourier method.
    pub low_pass: bool,
}

/// Applies the operation in double precision (the Lanczos resize in 8 bits, like Pillow).
///
/// # Errors
/// Returns an error if the size does not fit the image, or a low-pass filter is requested with the
/// Lanczos method.
pub fn crop_image(image: &PixelImage, tool: CropTool) -> Result<Floats> {
    let &PixelImage { height, width, channels, .. } = image;
    let [rows, cols] = tool.size;
    let (from, band) = ((height, width), (rows, cols));
    let [out_rows, out_cols] = if tool.low_pass { [height, width] } else { tool.size };
    let mut out = Floats {
        values: vec![0.0; out_rows * out_cols * channels],
        height: out_rows,
        width: out_cols,
        channels,
    };
    let input = Floats::of(image);
    match (tool.method, tool.low_pass) {
        (CropMethod::Fourier, false) => FrequencyCrop::<f64>::new(from, band)
            .and_then(|crop| crop.apply_slice(Layout::Hwc, channels, &input.values, &mut out.values)),
        (CropMethod::Fourier, true) => LowPass::<f64>::new(from, band)
            .and_then(|filter| filter.apply_slice(Layout::Hwc, channels, &input.values, &mut out.values)),
        (CropMethod::Lanczos, false) => {
            let resize = Lanczos::new(from, band)?;
            let pixels = resize.apply_u8(channels, &image.pixels)?;
            let (height, width) = (rows, cols);
            return Ok(Floats::of(&PixelImage { pixels, height, width, channels }));
        }
        (CropMethod::Lanczos, true) => {
            let what = "--low-pass is a filter on the Fourier spectrum; leave out --method lanczos";
            return Err(DataError::Setting(what.into()).into());
        }
    }?;
    Ok(out)
}
