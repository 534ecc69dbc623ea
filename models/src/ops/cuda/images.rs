//! Preprocessing on the GPU: bytes are normalized, erased and mixed.

use candle_core::cuda_backend::CudaDevice;
use candle_core::{DType, Device, Tensor};

use super::launch::Kernel;
use super::memory::{contiguous, empty};
use super::upload;
use crate::Result;
use crate::ops::images::BoxRow;
use crate::ops::{Blend, DevicePreprocess};

/// Shapes, boxes and blending are right.
pub(in crate::ops) fn normalize_erase_mix(
    bytes: &Tensor,
    preprocess: &DevicePreprocess,
    boxes: &[BoxRow],
) -> Result<Tensor> {
    const OP: &str = "normalize_erase_mix";
    let Device::Cuda(gpu) = bytes.device() else { unreachable!("images on a GPU") };
    let bytes = contiguous(bytes)?;
    let (n, h, w, c) = bytes.dims4()?;
    let boxes = upload(boxes.as_flattened(), &[n, 5], gpu)?;
    let values = values_of(preprocess, gpu)?;
    let (kind, area, own) = match preprocess.blend {
        Blend::None => (0, [0; 4], 1.0),
        Blend::Share { own } => (1, [0; 4], own),
        Blend::Box { y0, y1, x0, x1 } => (2, [y0, y1, x0, x1], 1.0),
    };
    let out = empty(&bytes, (n, h, w, c), DType::F32)?;
    let kernel = Kernel::new(OP, "normalize_erase_mix", &bytes, DType::F32)?.tensor(&out)?.tensor(&bytes)?;
    let mut kernel = kernel.tensor(&boxes)?.tensor(&values)?;
    for number in preprocess.mean.into_iter().chain(preprocess.std).chain([own]) {
        kernel = kernel.float(f64::from(number));
    }
    let [y0, y1, x0, x1] = area;
    kernel.ints(&[n, h, w, c, kind, y0, y1, x0, x1]).each(out.elem_count())?;
    Ok(out)
}

/// Uploads the values of the boxes; a single number if there are none, because empty memory has no
/// address.
fn values_of(preprocess: &DevicePreprocess, gpu: &CudaDevice) -> Result<Tensor> {
    let values = if preprocess.values.is_empty() { &[0.0] } else { preprocess.values };
    upload(values, &[values.len()], gpu)
}
