//! Resizing of parameters that hang on the input size.

use candle_core::{DType, Device, Tensor};

use crate::params::{ParamId, ParamStore};
use crate::{Error, Result};

/// A parameter whose shape changes with the input size, and how its values follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resample {
    /// The parameter.
    pub id: ParamId,
    /// Leading tokens that are kept as they are (the class token of a position embedding).
    pub prefix: usize,
    /// Rows and columns of the grid before.
    pub from: [usize; 2],
    /// Rows and columns of the grid after.
    pub to: [usize; 2],
}

impl Resample {
    /// Resamples one tensor `[prefix + rows * cols, C]`, or the same behind a dimension of 1:
    /// bilinear, half-pixel centers, no antialiasing, as the reference does for weights, Adam
    /// moments and moving averages alike.
    ///
    /// # Errors
    /// When the tensor does not have the shape that this change starts from.
    pub fn apply(&self, tensor: &Tensor) -> Result<Tensor> {
        let [rows, cols] = self.from;
        let channels = match *tensor.dims() {
            [1, length, channels] | [length, channels] if length == self.prefix + rows * cols => channels,
            _ => {
                let expected = format!("a table [1, {} + {rows} * {cols}, C]", self.prefix);
                return Err(Error::shape("resample", expected, tensor.dims()));
            }
        };
        let shape = self.shape_after(tensor.dims());
        let values = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        let (head, grid) = values.split_at(self.prefix * channels);
        let mut out = head.to_vec();
        out.extend(bilinear(grid, self.from, self.to, channels));
        let resized = Tensor::from_vec(out, shape, &Device::Cpu)?.to_dtype(tensor.dtype())?;
        Ok(resized.to_device(tensor.device())?)
    }

    /// Returns the resampling of parameter `id` from one grid to another; none between equal grids.
    pub(crate) fn between(id: ParamId, prefix: usize, from: [usize; 2], to: [usize; 2]) -> Option<Self> {
        (from != to).then_some(Self { id, prefix, from, to })
    }

    /// Returns the resampling in the other direction.
    pub(crate) fn inverse(&self) -> Self {
        Self { from: self.to, to: self.from, ..*self }
    }

    /// Returns the shape of the parameter after this change, from its shape before.
    pub(crate) fn shape_after(&self, shape: &[usize]) -> Vec<usize> {
        let mut shape = shape.to_vec();
        let axis = shape.len() - 2;
        shape[axis] = self.prefix + self.to[0] * self.to[1];
        shape
    }

    /// Resamples the parameter in `store`.
    ///
    /// # Errors
    /// Those of [`Self::apply`].
    pub fn apply_in(&self, store: &mut ParamStore) -> Result<()> {
        let resized = self.apply(store.get(self.id))?;
        store.set(self.id, resized);
        Ok(())
    }
}

/// Bilinear resize of a grid `[rows, cols, channels]`.
fn bilinear(grid: &[f64], from: [usize; 2], to: [usize; 2], channels: usize) -> Vec<f64> {
    let (rows, cols) = (taps(from[0], to[0]), taps(from[1], to[1]));
    let mut out = Vec::with_capacity(to[0] * to[1] * channels);
    for &(y0, y1, wy) in &rows {
        for &(x0, x1, wx) in &cols {
            let at = |y: usize, x: usize, c: usize| grid[(y * from[1] + x) * channels + c];
            for c in 0..channels {
                let top = at(y0, x0, c) * (1.0 - wx) + at(y0, x1, c) * wx;
                let bottom = at(y1, x0, c) * (1.0 - wx) + at(y1, x1, c) * wx;
                out.push(top * (1.0 - wy) + bottom * wy);
            }
        }
    }
    out
}

/// For each output position the two input positions and the weight of the second (`align_corners =
/// false`).
fn taps(from: usize, to: usize) -> Vec<(usize, usize, f64)> {
    let scale = from as f64 / to as f64;
    (0..to)
        .map(|i| {
            let place = ((i as f64 + 0.5) * scale - 0.5).max(0.0);
            let low = (place.floor() as usize).min(from - 1);
            (low, (low + 1).min(from - 1), place - low as f64)
        })
        .collect()
}
