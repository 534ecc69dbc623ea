//! Pillow's separable resize of 8-bit pictures, byte for byte (`Resample.c`).

mod filter;
mod passes;

use image::RgbImage;

pub(crate) use filter::Coefficients;
pub use filter::Filter;
pub(crate) use passes::Column;

use crate::error::{Error, Result};
use crate::scratch::Scratch;

/// A rectangle of whole pixels inside a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CropBox {
    /// First row.
    pub top: u32,
    /// First column.
    pub left: u32,
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
}

impl CropBox {
    /// The whole picture.
    #[must_use]
    pub fn whole(img: &RgbImage) -> Self {
        Self { top: 0, left: 0, height: img.height(), width: img.width() }
    }

    fn check(&self, image_width: u32, image_height: u32) -> Result<()> {
        let fits = |start: u32, len: u32, edge: u32| {
            len > 0 && start.checked_add(len).is_some_and(|end| end <= edge)
        };
        if fits(self.left, self.width, image_width) && fits(self.top, self.height, image_height) {
            return Ok(());
        }
        let Self { top, left, height, width } = *self;
        Err(Error::CropOutside { left, top, width, height, image_width, image_height })
    }
}

/// Cuts out `crop` and resizes it to `width` x `height` pixels.
///
/// The outcome is that of Pillow's `img.crop(...).resize((width, height), filter)`: pixels outside the box have no
/// part in it. Each pass is rounded to 8 bits, and a pass that does not change the size is skipped.
///
/// # Errors
/// If the picture or the asked size is empty, or the box leaves the picture.
pub fn resize_crop(
    img: &RgbImage,
    crop: CropBox,
    width: u32,
    height: u32,
    filter: Filter,
    scratch: &mut Scratch,
) -> Result<RgbImage> {
    let mut out = RgbImage::new(width, height);
    resize_crop_into(img, crop, filter, &mut out, scratch)?;
    Ok(out)
}

/// As [`resize_crop`], into a picture that has the asked size already.
///
/// # Errors
/// As [`resize_crop`]; `out` is then unchanged.
pub fn resize_crop_into(
    img: &RgbImage,
    crop: CropBox,
    filter: Filter,
    out: &mut RgbImage,
    scratch: &mut Scratch,
) -> Result<()> {
    if img.width() == 0 || img.height() == 0 {
        return Err(Error::EmptyImage { width: img.width(), height: img.height() });
    }
    if out.width() == 0 || out.height() == 0 {
        return Err(Error::EmptyOutput { width: out.width(), height: out.height() });
    }
    crop.check(img.width(), img.height())?;
    let source = Window {
        pixels: img,
        stride: img.width() as usize * 3,
        offset: crop.left as usize * 3,
        top: crop.top as usize,
    };
    let from = (crop.width as usize, crop.height as usize);
    let to = (out.width() as usize, out.height() as usize);
    resize_window(&source, from, to, filter, out, scratch);
    Ok(())
}

/// Resizes a whole picture.
///
/// # Errors
/// If the picture or the asked size is empty.
pub fn resize(
    img: &RgbImage,
    width: u32,
    height: u32,
    filter: Filter,
    scratch: &mut Scratch,
) -> Result<RgbImage> {
    resize_crop(img, CropBox::whole(img), width, height, filter, scratch)
}

/// Rows of interleaved RGB, read from `offset` bytes into each row, starting at row `top`.
struct Window<'a> {
    pixels: &'a [u8],
    stride: usize,
    offset: usize,
    top: usize,
}

impl<'a> Window<'a> {
    /// Row `y` of the window, `len` bytes long.
    #[inline(always)]
    fn row(&self, y: usize, len: usize) -> &'a [u8] {
        &self.pixels[(self.top + y) * self.stride + self.offset..][..len]
    }
}

fn resize_window(
    source: &Window<'_>,
    (from_w, from_h): (usize, usize),
    (to_w, to_h): (usize, usize),
    filter: Filter,
    out: &mut [u8],
    scratch: &mut Scratch,
) {
    let stride = to_w * 3;
    if from_w == to_w && from_h == to_h {
        for (y, target) in out.chunks_exact_mut(stride).enumerate() {
            target.copy_from_slice(source.row(y, stride));
        }
        return;
    }
    let Scratch { rows, packed, horizontal, vertical, .. } = scratch;
    horizontal.prepare(from_w, to_w, filter);
    vertical.prepare(from_h, to_h, filter);
    if from_w == to_w {
        passes::columns(source, vertical, stride, out);
    } else if from_h == to_h {
        all_rows(source, from_w, horizontal, packed, stride, out);
    } else {
        // Every entry is written before it is read.
        rows.resize(from_h * stride, 0);
        all_rows(source, from_w, horizontal, packed, stride, rows);
        let between = Window { pixels: rows, stride, offset: 0, top: 0 };
        passes::columns(&between, vertical, stride, out);
    }
}

/// The horizontal pass over the rows that `out` has room for.
fn all_rows(
    source: &Window<'_>,
    from_w: usize,
    coefficients: &Coefficients,
    packed: &mut Vec<Column>,
    stride: usize,
    out: &mut [u8],
) {
    for (i, group) in out.chunks_mut(passes::ROWS * stride).enumerate() {
        passes::rows(source, (i * passes::ROWS, from_w), coefficients, packed, (stride, group));
    }
}
