//! The operators on candle tensors, any device, with gradients (feature `candle`).
//!
//! Two real matrix products and the correction for the unpaired frequencies (formulas on the
//! crate's front page), from plain two-dimensional `matmul`, `reshape`, `transpose`, `contiguous`,
//! `narrow` and `sub`, all of which candle differentiates correctly.

use candle_core::{DType, Device, Tensor};

use crate::matrix::AxisShape;
use crate::plan::{Backend, Plan};
use crate::{Error, FrequencyCrop, LowPass, Real, Result};

/// The crop or the low-pass filter for tensors `[N, C, H, W]` of one type on one device.
///
/// Differentiable: the operator is linear, so the gradient is its transpose applied to the output's
/// gradient.
#[derive(Debug, Clone)]
pub struct TensorFilter {
    image: (usize, usize),
    output: (usize, usize),
    dtype: DType,
    identity: bool,
    /// `[n, p + r]`: the transposed matrix, and r columns of unpaired input waves.
    height: Tensor,
    width: Tensor,
    /// `[r, p]` of each axis: the unpaired waves on the output grid. None without correction.
    waves: Option<(Tensor, Tensor)>,
}

impl TensorFilter {
    /// The crop of [`FrequencyCrop`], computed in `dtype` on `device`.
    ///
    /// # Errors
    /// The sizes as in [`FrequencyCrop::new`]; [`Error::Tensor`] if the device fails.
    pub fn crop(image: (usize, usize), band: (usize, usize), dtype: DType, device: &Device) -> Result<Self> {
        let plan = FrequencyCrop::<f64>::with_backend(image, band, Backend::Fft)?;
        Self::new(&plan, dtype, device)
    }

    /// The filter of [`LowPass`], computed in `dtype` on `device`.
    ///
    /// # Errors
    /// The sizes as in [`LowPass::new`]; [`Error::Tensor`] if the device fails.
    pub fn low_pass(
        image: (usize, usize),
        band: (usize, usize),
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let plan = LowPass::<f64>::with_backend(image, band, Backend::Fft)?;
        Self::new(&plan, dtype, device)
    }

    fn new<T: Real>(plan: &Plan<T>, dtype: DType, device: &Device) -> Result<Self> {
        let (height, width) = (plan.height, plan.width);
        let corrected = height.b.is_multiple_of(2) && width.b.is_multiple_of(2);
        let waves = if corrected {
            Some((output_waves(height, dtype, device)?, output_waves(width, dtype, device)?))
        } else {
            None
        };
        Ok(Self {
            image: plan.input_size(),
            output: plan.output_size(),
            dtype,
            identity: plan.is_identity(),
            height: matrix(height, corrected, dtype, device)?,
            width: matrix(width, corrected, dtype, device)?,
            waves,
        })
    }

    /// Applies the operator.
    ///
    /// Values are not checked for finiteness: that would stall a device. NaN in gives NaN out.
    ///
    /// # Shapes
    /// `[N, C, H, W]` in, `[N, C, Bh, Bw]` out (`[N, C, H, W]` for the low-pass filter).
    ///
    /// # Errors
    /// [`Error::WrongShape`]; [`Error::WrongType`] for another type than planned; [`Error::Tensor`]
    /// for another device.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let (h, w) = self.image;
        let &[images, channels, height, width] = input.dims() else { return Err(self.wrong_shape(input)) };
        if (height, width) != self.image {
            return Err(self.wrong_shape(input));
        }
        if input.dtype() != self.dtype {
            let (found, expected) = (input.dtype().as_str(), self.dtype.as_str());
            return Err(Error::WrongType { found, expected });
        }
        if self.identity {
            return Ok(input.clone());
        }
        let planes = images * channels;
        let both = two_sided(&input.reshape((planes, h, w))?, &self.height, &self.width)?;
        let (p, q) = self.output;
        let mut result = both.narrow(1, 0, p)?.narrow(2, 0, q)?;
        if let Some((height, width)) = &self.waves {
            let unpaired = both.narrow(1, p, height.dim(0)?)?.narrow(2, q, width.dim(0)?)?;
            result = (result - two_sided(&unpaired.contiguous()?, height, width)?)?;
        }
        Ok(result.reshape((images, channels, p, q))?)
    }

    fn wrong_shape(&self, input: &Tensor) -> Error {
        let (h, w) = self.image;
        Error::WrongShape {
            what: "input",
            found: input.dims().to_vec(),
            expected: format!("[N, C, {h}, {w}]"),
        }
    }
}

/// `L^T X R` for every plane of X: `[planes, h, w]` by `[h, p]` and `[w, q]` gives `[planes, p,
/// q]`.
fn two_sided(planes: &Tensor, left: &Tensor, right: &Tensor) -> Result<Tensor> {
    let turned = contract_last(planes, right)?;
    contract_last(&turned, left)
}

/// Contracts the last axis of `[a, b, n]` with `[n, p]` and swaps: `[a, p, b]`.
fn contract_last(planes: &Tensor, matrix: &Tensor) -> Result<Tensor> {
    let (a, b, n) = planes.dims3()?;
    let product = planes.contiguous()?.reshape((a * b, n))?.matmul(matrix)?;
    Ok(product.reshape((a, b, matrix.dim(1)?))?.transpose(1, 2)?.contiguous()?)
}

fn matrix(axis: AxisShape, corrected: bool, dtype: DType, device: &Device) -> Result<Tensor> {
    let mut values = Vec::new();
    for n in 0..axis.n {
        values.extend((0..axis.p).map(|p| axis.cosine(p, n)));
        if corrected {
            let (cosine, sine) = axis.input_wave(n);
            values.extend([cosine / axis.n as f64, sine / axis.n as f64]);
        }
    }
    let columns = values.len() / axis.n;
    Ok(Tensor::from_vec(values, (axis.n, columns), &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?)
}

/// Rows `sin(pi B p/P)` and `-cos(pi B p/P)`, partners of the cosine and sine columns.
fn output_waves(axis: AxisShape, dtype: DType, device: &Device) -> Result<Tensor> {
    let sines = (0..axis.p).map(|p| axis.output_wave(p).1);
    let cosines = (0..axis.p).map(|p| -axis.output_wave(p).0);
    let values: Vec<f64> = sines.chain(cosines).collect();
    Ok(Tensor::from_vec(values, (2, axis.p), &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?)
}
