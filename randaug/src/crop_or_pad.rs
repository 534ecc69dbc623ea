//! Crops without a change of scale: timm's `RandomCropOrPad`, and the simple random crop of DeiT
//! III.

use image::RgbImage;
use rand::{Rng, RngExt};

use crate::error::{Error, Result, check, check_not_empty};
use crate::eval::short_edge_to;
use crate::resample::{CropBox, Filter, resize_part_into};
use crate::scratch::Scratch;

/// Pixels outside an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Padding {
    /// One color.
    Constant([u8; 3]),
    /// The image mirrored at its outermost pixels, which are not repeated.
    Reflect,
}

/// Crops an image to the size of `out`, from row `top` and column `left` on, which may be outside
/// the image.
///
/// # Errors
/// Returns an error if the image or `out` is empty.
pub fn crop_or_pad(img: &RgbImage, top: i64, left: i64, padding: Padding, out: &mut RgbImage) -> Result<()> {
    check_not_empty(img)?;
    check_output(out)?;
    copy_box(&ImagePart { pixels: img, size: img.dimensions(), origin: (0, 0) }, top, left, padding, out);
    Ok(())
}

fn check_output(out: &RgbImage) -> Result<()> {
    let (width, height) = out.dimensions();
    if width == 0 || height == 0 {
        return Err(Error::EmptyOutput { width, height });
    }
    Ok(())
}

/// A part of an image: the pixels from column and row `origin` on.
struct ImagePart<'a> {
    pixels: &'a RgbImage,
    /// Width and height of the whole image.
    size: (u32, u32),
    origin: (u32, u32),
}

/// Copies the box at row `top` and column `left` of an image. The part must contain all pixels of
/// the box.
fn copy_box(part: &ImagePart<'_>, top: i64, left: i64, padding: Padding, out: &mut RgbImage) {
    let (stride, width) = (part.pixels.width() as usize * 3, out.width() as usize * 3);
    let source: &[u8] = part.pixels;
    for (y, row) in (top..).zip(out.chunks_exact_mut(width)) {
        let row = row.as_chunks_mut::<3>().0;
        match (locate(y, part.size.1, padding), padding) {
            (None, Padding::Constant(color)) => row.fill(color),
            (None, Padding::Reflect) => {}
            (Some(y), _) => {
                let pixels = source[(y - part.origin.1 as usize) * stride..][..stride].as_chunks::<3>().0;
                copy_row(pixels, (part.origin.0, part.size.0), left, padding, row);
            }
        }
    }
}

/// Copies one row, from column `left` of the image on. `source` begins at column `origin` of `edge`
/// columns.
fn copy_row(
    source: &[[u8; 3]],
    (origin, edge): (u32, u32),
    left: i64,
    padding: Padding,
    out: &mut [[u8; 3]],
) {
    if let Ok(start) = usize::try_from(left - i64::from(origin))
        && let Some(inside) = source.get(start..).and_then(|rest| rest.get(..out.len()))
    {
        out.copy_from_slice(inside);
        return;
    }
    for (x, pixel) in (left..).zip(out) {
        *pixel = match (locate(x, edge, padding), padding) {
            (Some(x), _) => source[x - origin as usize],
            (None, Padding::Constant(color)) => color,
            (None, Padding::Reflect) => *pixel,
        };
    }
}

/// Returns the first row (or column) and the number of rows that a box of `length` from `start` on
/// shows of an edge, padding included.
fn visible_range(start: i64, length: u32, edge: u32, padding: Padding) -> (u32, u32) {
    let places = || (start..start + i64::from(length)).filter_map(|at| locate(at, edge, padding));
    let (first, last) = (places().min().unwrap_or(0), places().max().unwrap_or(0));
    (first as u32, (last - first) as u32 + 1)
}

/// Returns the row or column at a coordinate; `None` outside the image with constant padding.
fn locate(at: i64, edge: u32, padding: Padding) -> Option<usize> {
    let edge = i64::from(edge);
    if (0..edge).contains(&at) {
        return Some(at as usize);
    }
    match padding {
        Padding::Constant(_) => None,
        // A single row or column is repeated.
        Padding::Reflect if edge == 1 => Some(0),
        Padding::Reflect => {
            let turn = at.rem_euclid(2 * (edge - 1));
            Some(turn.min(2 * (edge - 1) - turn) as usize)
        }
    }
}

/// Crops an image to the size of `out` at a random position; an image smaller than `out` is placed
/// at a random position and padded (timm's `RandomCropOrPad`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RandomCropOrPad {
    /// Pixels outside the image. Default reflection.
    pub padding: Padding,
}

impl Default for RandomCropOrPad {
    fn default() -> Self {
        Self { padding: Padding::Reflect }
    }
}

impl RandomCropOrPad {
    /// Draws row and column of the box's corner, for edges (width, height) of the image and of the
    /// box. Both are 0 or above if the image is larger, 0 or below if it is smaller.
    pub fn sample(&self, image: (u32, u32), size: (u32, u32), rng: &mut impl Rng) -> (i64, i64) {
        let mut start = |edge: u32, target: u32| {
            let room = i64::from(edge) - i64::from(target);
            rng.random_range(0..=room.abs()) * room.signum()
        };
        (start(image.1, size.1), start(image.0, size.0))
    }

    /// Crops or pads the image into `out`.
    ///
    /// # Errors
    /// Returns an error if the image or `out` is empty.
    pub fn apply_into(&self, img: &RgbImage, out: &mut RgbImage, rng: &mut impl Rng) -> Result<()> {
        check_not_empty(img)?;
        let (top, left) = self.sample(img.dimensions(), out.dimensions(), rng);
        crop_or_pad(img, top, left, self.padding, out)
    }
}

/// Resizes the short edge to that of `out`, pads by 4 pixels and crops at a random position: the
/// crop of DeiT III for ImageNet-1k (`Resize`, `RandomCrop(padding=4, padding_mode="reflect")`). It
/// keeps nearly all of every image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SimpleRandomCrop {
    /// Pixels added on all sides. Default 4.
    pub pad: u32,
    /// Values of these pixels. Default reflection.
    pub padding: Padding,
    /// Filter of the resize. Default bicubic.
    pub interpolation: Filter,
}

impl Default for SimpleRandomCrop {
    fn default() -> Self {
        Self { pad: 4, padding: Padding::Reflect, interpolation: Filter::Bicubic }
    }
}

impl SimpleRandomCrop {
    /// Resizes the image and crops it into `out`, which must be square.
    ///
    /// # Errors
    /// Returns an error if the image or `out` is empty, or `out` not square.
    pub fn apply_into(
        &self,
        img: &RgbImage,
        out: &mut RgbImage,
        rng: &mut impl Rng,
        scratch: &mut Scratch,
    ) -> Result<()> {
        let size = out.width();
        check(size == out.height(), "out's height", f64::from(out.height()), "equal to its width")?;
        let (width, height) = short_edge_to(size, img.width(), img.height())?;
        let mut start = |edge: u32| {
            let room = u64::from(edge) + 2 * u64::from(self.pad) - u64::from(size);
            rng.random_range(0..=room) as i64 - i64::from(self.pad)
        };
        let (top, left) = (start(height), start(width));
        resize_and_cut(img, (width, height), (top, left), (self.interpolation, self.padding), out, scratch)
    }
}

/// Resizes an image to `size` (width, height) and crops it into `out`, from row `top` and column
/// `left` on: the bytes of [`resize`](crate::resize) and [`crop_or_pad`], in the memory of `out`.
pub(crate) fn resize_and_cut(
    img: &RgbImage,
    size: (u32, u32),
    (top, left): (i64, i64),
    (filter, padding): (Filter, Padding),
    out: &mut RgbImage,
    scratch: &mut Scratch,
) -> Result<()> {
    check_not_empty(img)?;
    check_output(out)?;
    let (y, height) = visible_range(top, out.height(), size.1, padding);
    let (x, width) = visible_range(left, out.width(), size.0, padding);
    scratch.with(|CropScratch { pixels }, scratch| {
        pixels.resize(width as usize * height as usize * 3, 0);
        let mut resized = RgbImage::from_raw(width, height, std::mem::take(pixels)).unwrap_or_default();
        let part = CropBox { top: y, left: x, height, width };
        let done = resize_part_into(img, size, part, filter, &mut resized, scratch);
        if done.is_ok() {
            copy_box(&ImagePart { pixels: &resized, size, origin: (x, y) }, top, left, padding, out);
        }
        *pixels = resized.into_raw();
        done
    })
}

/// Pixels of a resized image before they are cropped.
#[derive(Debug, Default)]
struct CropScratch {
    pixels: Vec<u8>,
}
