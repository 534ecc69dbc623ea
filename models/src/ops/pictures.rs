//! From bytes to what a network sees: normalised, erased, mixed.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::view::{View, tensor};
use super::{dims, on_gpu};
use crate::{Error, Result};

/// A box of a picture whose values are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErasedBox {
    /// Number of the picture in its batch.
    pub picture: usize,
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// How a picture is blended with its partner: picture `i` of `n` with picture `n - 1 - i`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Blend {
    /// Not at all.
    #[default]
    None,
    /// `own * picture + (1 - own) * partner`.
    Share {
        /// Weight of the picture itself, 0 to 1.
        own: f32,
    },
    /// A box comes from the partner: rows `y0..y1`, columns `x0..x1`.
    Box {
        /// First row.
        y0: usize,
        /// Row after the last.
        y1: usize,
        /// First column.
        x0: usize,
        /// Column after the last.
        x1: usize,
    },
}

/// What [`finish_pictures`] does.
#[derive(Clone, Copy, Debug)]
pub struct Finish<'a> {
    /// Mean of each channel, in 0..1.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, in 0..1.
    pub std: [f32; 3],
    /// Boxes that are erased, at most one a picture.
    pub boxes: &'a [ErasedBox],
    /// What they are overwritten with, one box after the other, each `[height, width, 3]`.
    pub values: &'a [f32],
    /// What is done last.
    pub blend: Blend,
}

/// Where a picture's box lies and its values begin: top, left, height, width, first value. A height of 0 is no box.
pub(crate) type BoxRow = [u32; 5];

/// `(byte / 255 - mean) / std`, with boxes overwritten and pictures blended: the input of a network. It has no gradient.
///
/// # Shapes
/// `bytes`: `u8` `[N, H, W, 3]`; value: `f32` of the same shape, on the same device.
///
/// # Errors
/// When `bytes` are not such pictures, a picture has two boxes, a box leaves its picture, or values are missing.
pub fn finish_pictures(bytes: &Tensor, finish: &Finish) -> Result<Tensor> {
    const OP: &str = "finish_pictures";
    let [n, h, w, channels] = dims(OP, "bytes [N, H, W, 3]", bytes)?;
    if channels != 3 || bytes.dtype() != DType::U8 {
        return Err(Error::shape(OP, "u8 pictures of three channels", bytes.dims()));
    }
    let boxes = box_rows(OP, finish, [n, h, w])?;
    if let Blend::Box { y0, y1, x0, x1 } = finish.blend
        && !(y0 <= y1 && y1 <= h && x0 <= x1 && x1 <= w)
    {
        return Err(Error::shape(OP, "a blended box inside the pictures", &[y0, y1, x0, x1]));
    }
    on_gpu!(bytes, super::cuda::finish_pictures(bytes, finish, &boxes));
    let bytes = bytes.contiguous()?;
    let view = View::new(OP, &bytes)?;
    let size = h * w * 3;
    let mut out: Vec<f32> = vec![0.0; n * size];
    let pictures = out.par_chunks_mut(size.max(1)).zip(view.bytes()?.par_chunks(size.max(1))).zip(&boxes);
    pictures.for_each(|((out, bytes), erased)| {
        normalise(bytes, finish, out);
        erase(out, erased, finish.values, w);
    });
    blend(&mut out, finish.blend, n, [h, w]);
    tensor(out, &[n, h, w, 3])
}

/// The box of each picture.
fn box_rows(op: &'static str, finish: &Finish, [n, h, w]: [usize; 3]) -> Result<Vec<BoxRow>> {
    let mut rows = vec![BoxRow::default(); n];
    let mut first = 0;
    for b in finish.boxes {
        let inside = b.top + b.height <= h && b.left + b.width <= w && b.height * b.width > 0;
        let free = rows.get(b.picture).is_some_and(|row| row[2] == 0);
        if !inside || !free {
            let expected = format!("one box a picture, inside its {h} x {w} pixels, not {b:?}");
            return Err(Error::shape(op, expected, &[n, h, w]));
        }
        // Of sizes that were checked to be those of pictures.
        rows[b.picture] = [b.top, b.left, b.height, b.width, first].map(|x| x as u32);
        first += b.height * b.width * 3;
    }
    if first != finish.values.len() {
        return Err(Error::shape(op, format!("{first} values for the boxes"), &[finish.values.len()]));
    }
    Ok(rows)
}

fn normalise(bytes: &[u8], finish: &Finish, out: &mut [f32]) {
    let (pixels, _) = bytes.as_chunks::<3>();
    let (out, _) = out.as_chunks_mut::<3>();
    for (out, pixel) in out.iter_mut().zip(pixels) {
        for c in 0..3 {
            out[c] = (f32::from(pixel[c]) / 255.0 - finish.mean[c]) / finish.std[c];
        }
    }
}

fn erase(picture: &mut [f32], &[top, left, height, width, first]: &BoxRow, values: &[f32], w: usize) {
    let [top, left, height, row, first] = [top, left, height, 3 * width, first].map(|x| x as usize);
    for y in 0..height {
        let to = ((top + y) * w + left) * 3;
        picture[to..to + row].copy_from_slice(&values[first + y * row..][..row]);
    }
}

/// Blends each pair of pictures.
fn blend(pictures: &mut [f32], blend: Blend, n: usize, [h, w]: [usize; 2]) {
    let size = h * w * 3;
    // The middle one of an odd number is its own partner.
    let (first, second) = pictures.split_at_mut(n.div_ceil(2) * size);
    let pairs = first.par_chunks_mut(size.max(1)).zip(second.par_chunks_mut(size.max(1)).rev());
    pairs.for_each(|(a, b)| match blend {
        Blend::None => {}
        Blend::Share { own } => {
            let rest = 1.0 - own;
            for (a, b) in a.iter_mut().zip(b) {
                (*a, *b) = (*a * own + *b * rest, *b * own + *a * rest);
            }
        }
        Blend::Box { y0, y1, x0, x1 } => {
            for y in y0..y1 {
                let row = (y * w + x0) * 3..(y * w + x1) * 3;
                a[row.clone()].swap_with_slice(&mut b[row]);
            }
        }
    });
}

/// Numbers of the host as a tensor on `device`. To a GPU they go through page-locked memory, in line with the work that is
/// already on its way there, and nothing waits for them.
///
/// # Errors
/// When `values` do not fill `shape`, or the device has no room.
pub fn upload<T: candle_core::WithDType>(values: &[T], shape: &[usize], device: &Device) -> Result<Tensor> {
    if values.len() != shape.iter().product::<usize>() {
        return Err(Error::shape("upload", format!("{shape:?}"), &[values.len()]));
    }
    #[cfg(feature = "cuda")]
    if let Device::Cuda(gpu) = device {
        return super::cuda::upload(values, shape, gpu);
    }
    Ok(Tensor::from_slice(values, shape, device)?)
}
