//! Preprocessing on the device: bytes are normalized, erased and mixed.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::view::{View, tensor};
use super::{dims, on_gpu};
use crate::{Error, Result};

/// A box of an image whose values are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErasedBox {
    /// Number of the image in its batch.
    pub image: usize,
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// Blending of an image with its partner: image `i` of `n` with image `n - 1 - i`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Blend {
    /// Not at all.
    #[default]
    None,
    /// `own * image + (1 - own) * partner`.
    Share {
        /// Weight of the image itself, 0 to 1.
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

/// Preprocessing that [`normalize_erase_mix`] does.
#[derive(Clone, Copy, Debug)]
pub struct DevicePreprocess<'a> {
    /// Mean of each channel, in 0..1; the first is that of gray images.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, in 0..1; the first is that of gray images.
    pub std: [f32; 3],
    /// Boxes that are erased, at most one per image.
    pub boxes: &'a [ErasedBox],
    /// Values of the boxes, one box after the other, each `[height, width, C]`.
    pub values: &'a [f32],
    /// Blending, which is done last.
    pub blend: Blend,
}

/// Box of an image: top, left, height, width, and index of its first value. A height of 0 is no
/// box.
pub(crate) type BoxRow = [u32; 5];

/// `(byte / 255 - mean) / std`, with boxes overwritten and images blended: the input of a network.
/// It has no gradient.
///
/// # Shapes
/// `bytes`: `u8` `[N, H, W, C]`, where C is 3, or 1 for gray images; value: `f32` of the same shape,
/// on the same device.
///
/// # Errors
/// When `bytes` are not such images, an image has two boxes, a box leaves its image, or values are
/// missing.
pub fn normalize_erase_mix(bytes: &Tensor, preprocess: &DevicePreprocess) -> Result<Tensor> {
    const OP: &str = "normalize_erase_mix";
    let [n, h, w, channels] = dims(OP, "bytes [N, H, W, C]", bytes)?;
    if !matches!(channels, 1 | 3) || bytes.dtype() != DType::U8 {
        return Err(Error::shape(OP, "u8 images of one or three channels", bytes.dims()));
    }
    let boxes = box_rows(OP, preprocess, [n, h, w, channels])?;
    if let Blend::Box { y0, y1, x0, x1 } = preprocess.blend
        && !(y0 <= y1 && y1 <= h && x0 <= x1 && x1 <= w)
    {
        return Err(Error::shape(OP, "a blended box inside the images", &[y0, y1, x0, x1]));
    }
    on_gpu!(bytes, super::cuda::normalize_erase_mix(bytes, preprocess, &boxes));
    let bytes = bytes.contiguous()?;
    let view = View::new(OP, &bytes)?;
    let size = h * w * channels;
    let mut out: Vec<f32> = vec![0.0; n * size];
    let images = out.par_chunks_mut(size.max(1)).zip(view.bytes()?.par_chunks(size.max(1))).zip(&boxes);
    images.for_each(|((out, bytes), erased)| {
        match channels {
            1 => normalize::<1>(bytes, preprocess, out),
            _ => normalize::<3>(bytes, preprocess, out),
        }
        erase(out, erased, preprocess.values, w * channels, channels);
    });
    blend(&mut out, preprocess.blend, n, [h, w, channels]);
    tensor(out, &[n, h, w, channels])
}

/// The box of each image.
fn box_rows(
    op: &'static str,
    preprocess: &DevicePreprocess,
    [n, h, w, channels]: [usize; 4],
) -> Result<Vec<BoxRow>> {
    let mut rows = vec![BoxRow::default(); n];
    let mut first = 0;
    for b in preprocess.boxes {
        let inside = b.top + b.height <= h && b.left + b.width <= w && b.height * b.width > 0;
        let free = rows.get(b.image).is_some_and(|row| row[2] == 0);
        if !inside || !free {
            let expected = format!("one box an image, inside its {h} x {w} pixels, not {b:?}");
            return Err(Error::shape(op, expected, &[n, h, w]));
        }
        // Of sizes that were checked to be those of images.
        rows[b.image] = [b.top, b.left, b.height, b.width, first].map(|x| x as u32);
        first += b.height * b.width * channels;
    }
    if first != preprocess.values.len() {
        return Err(Error::shape(op, format!("{first} values for the boxes"), &[preprocess.values.len()]));
    }
    Ok(rows)
}

fn normalize<const C: usize>(bytes: &[u8], preprocess: &DevicePreprocess, out: &mut [f32]) {
    let (pixels, _) = bytes.as_chunks::<C>();
    let (out, _) = out.as_chunks_mut::<C>();
    for (out, pixel) in out.iter_mut().zip(pixels) {
        for c in 0..C {
            out[c] = (f32::from(pixel[c]) / 255.0 - preprocess.mean[c]) / preprocess.std[c];
        }
    }
}

/// Overwrites a box of an image whose rows have `stride` values.
fn erase(
    image: &mut [f32],
    &[top, left, height, width, first]: &BoxRow,
    values: &[f32],
    stride: usize,
    channels: usize,
) {
    let [top, left, height, width, first] = [top, left, height, width, first].map(|x| x as usize);
    let row = width * channels;
    for y in 0..height {
        let to = (top + y) * stride + left * channels;
        image[to..to + row].copy_from_slice(&values[first + y * row..][..row]);
    }
}

/// Blends each pair of images.
fn blend(images: &mut [f32], blend: Blend, n: usize, [h, w, c]: [usize; 3]) {
    let size = h * w * c;
    // The middle one of an odd number is its own partner.
    let (first, second) = images.split_at_mut(n.div_ceil(2) * size);
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
                let row = (y * w + x0) * c..(y * w + x1) * c;
                a[row.clone()].swap_with_slice(&mut b[row]);
            }
        }
    });
}

/// Numbers of the host as a tensor on `device`. To a GPU they go through page-locked memory, in
/// line with the work that is already queued there, and nothing waits for them.
///
/// # Errors
/// When `values` do not fill `shape`, or the device is out of memory.
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

/// Overwrites a tensor on a GPU with numbers of the host, in line with the work that is queued there;
/// nothing waits for them.
///
/// # Errors
/// When there is not a value for each element of a contiguous tensor, or it is not on a GPU.
pub fn upload_into<T: candle_core::WithDType>(out: &Tensor, values: &[T]) -> Result<()> {
    const OP: &str = "upload_into";
    if values.len() != out.elem_count() || T::DTYPE != out.dtype() {
        return Err(Error::shape(OP, format!("{} of {:?}", values.len(), T::DTYPE), out.dims()));
    }
    on_gpu!(out, super::cuda::upload_into(out, values));
    let what = "a tensor on the CPU".into();
    Err(Error::Unsupported { op: OP, what, supported: "one on a GPU" })
}
