//! Resize and crop of 8-bit images as one operator.

use crate::layout::{Bytes, RGB};
use crate::plan::Plan;
use crate::resample::{Resampled, Resampling};
use crate::scratch::Scratch;
use crate::separable::ImageView;
use crate::{Error, Result};

/// A rectangle of an interleaved 8-bit RGB image.
#[derive(Debug, Clone, Copy)]
pub struct RgbWindow<'a> {
    /// All pixels of the image, row after row.
    pub pixels: &'a [u8],
    /// Width of the image, in pixels.
    pub image_width: usize,
    /// First row of the rectangle.
    pub top: usize,
    /// First column.
    pub left: usize,
}

impl RgbWindow<'_> {
    fn check(&self, height: usize, width: usize) -> Result<()> {
        let inside = |last: usize| {
            let row = self.top.checked_add(last)?.checked_mul(self.image_width)?;
            row.checked_add(self.left)?.checked_add(width)?.checked_mul(3)
        };
        let end = height.checked_sub(1).and_then(inside);
        let fits = self.left.checked_add(width).is_some_and(|right| right <= self.image_width);
        if width > 0 && fits && end.is_some_and(|end| end <= self.pixels.len()) {
            return Ok(());
        }
        let detail = format!(
            "{height} x {width} pixels from ({}, {}) of rows of {} pixels",
            self.top, self.left, self.image_width
        );
        Err(Error::WrongLength {
            what: "window",
            found: self.pixels.len(),
            expected: end.unwrap_or(usize::MAX),
            detail,
        })
    }
}

impl Plan<f32> {
    /// Resizes a part of an image to the plan's input size and processes it, as one linear
    /// operator.
    ///
    /// `rows` and `columns` are the resize: from the window's height and width to the plan's input
    /// size. The exact result is that of resizing in real numbers, then
    /// [`apply_rgb8`](Self::apply_rgb8); only the output is rounded and clamped.
    ///
    /// # Shapes
    /// `output` is `[Bh, Bw, 3]`.
    ///
    /// # Errors
    /// [`Error::WrongLength`] if `output` or a resize has another length, or the window extends
    /// past the image; [`Error::NotSeparable`] if the plan's backend is not
    /// [`Backend::Separable`](crate::Backend::Separable).
    pub fn apply_rgb8_resampled(
        &self,
        window: RgbWindow<'_>,
        (rows, columns): (&Resampling, &Resampling),
        output: &mut [u8],
        scratch: &mut Scratch<f32>,
    ) -> Result<()> {
        let plan = self.separable().ok_or(Error::NotSeparable)?;
        self.check_slice("output", self.output_size(), 3, output.len())?;
        window.check(rows.input_len(), columns.input_len())?;
        let (height, width) = self.input_size();
        for (what, map, expected) in [("rows", rows, height), ("columns", columns, width)] {
            let found = map.output_len();
            if found != expected {
                let detail = "one output a pixel of the plan's input".into();
                return Err(Error::WrongLength { what, found, expected, detail });
            }
        }
        let row_stride = window.image_width * 3;
        let image = ImageView {
            data: window.pixels,
            start: window.top * row_stride + window.left * 3,
            row_stride,
            plane_stride: 0,
            channels: RGB.channels,
            planes: RGB.planes(columns.input_len()),
        };
        let mut out = Bytes { out: output, width: self.output_size().1 };
        // Bytes and finite weights give finite results; any other weights still end as bytes.
        plan.run_folding(image, Resampled(rows), Resampled(columns), &mut out, &mut scratch.separable);
        Ok(())
    }
}
