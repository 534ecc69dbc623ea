//! Pillow's separable resize of 8-bit images (`Resample.c`), with the same bytes.

mod filter;
mod passes;

use image::RgbImage;

use filter::Coefficients;
pub use filter::Filter;
use filter::ResizeAxis;
use passes::Column;

use crate::error::{Error, Result, check, check_not_empty};
use crate::scratch::Scratch;

/// A rectangle of whole pixels inside an image.
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
    /// The whole image.
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
/// The output is that of Pillow's `img.crop(...).resize((width, height), filter)`: pixels outside
/// the box are not read. Each pass is rounded to 8 bits, and a pass that does not change the size
/// is skipped.
///
/// # Errors
/// Returns an error if the image or the requested size is empty, or the box leaves the image.
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

/// Cuts out `crop` and resizes it into `out`, whose size is the target size.
///
/// # Errors
/// Returns the errors of [`resize_crop`]; `out` is then unchanged.
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
    let axis =
        |from: u32, to: u32| ResizeAxis { from: from as usize, to: to as usize, outputs: 0..to as usize };
    let (width, height) = (axis(crop.width, out.width()), axis(crop.height, out.height()));
    resize_window(&SourceWindow::of(img, crop), &width, &height, filter, out, scratch);
    Ok(())
}

/// Computes the pixels in `part` of a whole image resized to `size` (width, height), and no others:
/// the bytes of [`resize`] followed by a crop. `out` has the size of `part`.
///
/// Time and memory depend on `part` and on the input pixels that it reads, not on `size`: the
/// resized form of a thin image can be larger than memory.
///
/// # Errors
/// Returns an error if the image or `size` is empty, `part` leaves the resized image, or `out` has
/// another size.
pub(crate) fn resize_part_into(
    img: &RgbImage,
    size: (u32, u32),
    part: CropBox,
    filter: Filter,
    out: &mut RgbImage,
    scratch: &mut Scratch,
) -> Result<()> {
    check_not_empty(img)?;
    part.check(size.0, size.1)?;
    check(
        out.dimensions() == (part.width, part.height),
        "out's width",
        f64::from(out.width()),
        "the part's",
    )?;
    let axis = |from: u32, to: u32, start: u32, length: u32| ResizeAxis {
        from: from as usize,
        to: to as usize,
        outputs: start as usize..start as usize + length as usize,
    };
    let width = axis(img.width(), size.0, part.left, part.width);
    let height = axis(img.height(), size.1, part.top, part.height);
    resize_window(&SourceWindow::of(img, CropBox::whole(img)), &width, &height, filter, out, scratch);
    Ok(())
}

/// Resizes a whole image.
///
/// # Errors
/// Returns an error if the image or the requested size is empty.
pub fn resize(
    img: &RgbImage,
    width: u32,
    height: u32,
    filter: Filter,
    scratch: &mut Scratch,
) -> Result<RgbImage> {
    resize_crop(img, CropBox::whole(img), width, height, filter, scratch)
}

/// Rows of interleaved RGB, read from `offset` bytes into each row.
struct SourceWindow<'a> {
    pixels: &'a [u8],
    stride: usize,
    offset: usize,
    /// Offset from a row's number to its position in `pixels`; negative if the first rows are
    /// missing.
    top: isize,
}

impl<'a> SourceWindow<'a> {
    fn of(img: &'a RgbImage, area: CropBox) -> Self {
        let (left, top) = (area.left as usize, area.top as isize);
        Self { pixels: img, stride: img.width() as usize * 3, offset: left * 3, top }
    }

    /// Returns the window without its first columns.
    fn skip_columns(&self, x: usize) -> Self {
        Self { offset: self.offset + 3 * x, ..*self }
    }

    /// Row `y` of the window, `len` bytes long.
    #[inline(always)]
    fn row(&self, y: usize, len: usize) -> &'a [u8] {
        &self.pixels[(self.top + y as isize) as usize * self.stride + self.offset..][..len]
    }
}

fn resize_window(
    source: &SourceWindow<'_>,
    width: &ResizeAxis,
    height: &ResizeAxis,
    filter: Filter,
    out: &mut [u8],
    scratch: &mut Scratch,
) {
    let stride = width.outputs.len() * 3;
    if width.is_identity() && height.is_identity() {
        let source = source.skip_columns(width.outputs.start);
        for (y, target) in height.outputs.clone().zip(out.chunks_exact_mut(stride)) {
            target.copy_from_slice(source.row(y, stride));
        }
        return;
    }
    scratch.with(|ResizeScratch { rows, packed, horizontal, vertical }, _| {
        horizontal.prepare(width, filter);
        vertical.prepare(height, filter);
        if width.is_identity() {
            passes::columns(&source.skip_columns(width.outputs.start), vertical, stride, out);
        } else if height.is_identity() {
            all_rows(source, (height.outputs.start, width.from), horizontal, packed, stride, out);
        } else {
            let inputs = vertical.inputs();
            // Every entry is written before it is read.
            rows.resize(inputs.len() * stride, 0);
            all_rows(source, (inputs.start, width.from), horizontal, packed, stride, rows);
            let between = SourceWindow { pixels: rows, stride, offset: 0, top: -(inputs.start as isize) };
            passes::columns(&between, vertical, stride, out);
        }
    });
}

/// Buffers of a resize.
#[derive(Debug, Default)]
struct ResizeScratch {
    /// The image between the two passes.
    rows: Vec<u8>,
    /// Input rows of the horizontal pass, side by side.
    packed: Vec<Column>,
    /// Weights of the last horizontal pass, reused while the sizes stay the same.
    horizontal: Coefficients,
    /// Weights of the last vertical pass.
    vertical: Coefficients,
}

/// Runs the horizontal pass over as many rows as `out` holds, from the first one on, each of
/// `from_w` pixels.
fn all_rows(
    source: &SourceWindow<'_>,
    (first, from_w): (usize, usize),
    coefficients: &Coefficients,
    packed: &mut Vec<Column>,
    stride: usize,
    out: &mut [u8],
) {
    for (i, group) in out.chunks_mut(passes::ROWS * stride).enumerate() {
        passes::rows(source, (first + i * passes::ROWS, from_w), coefficients, packed, (stride, group));
    }
}
