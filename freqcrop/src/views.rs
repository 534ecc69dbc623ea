//! `ndarray` views of any strides.
//!
//! A view whose memory is plain CHW or HWC is read directly; any other is copied into the scratch
//! first.

// ndarray passes views by value everywhere.
#![allow(clippy::needless_pass_by_value)]

use ndarray::{Array3, Array4, ArrayView3, ArrayView4, ArrayViewMut3, ArrayViewMut4, Axis};
use rayon::prelude::*;

use crate::layout::Layout;
use crate::plan::Plan;
use crate::real::Real;
use crate::scratch::Scratch;
use crate::unfold::at_least;
use crate::{Error, Result};

impl<T: Real> Plan<T> {
    /// Processes a `[C, H, W]` view of any strides.
    ///
    /// # Shapes
    /// `[C, H, W]` in, `[C, Bh, Bw]` out (`[C, H, W]` for the low-pass filter).
    ///
    /// # Errors
    /// [`Error::WrongShape`], [`Error::NonFinite`] (its index counts in `[C, H, W]` or `[H, W, C]`
    /// order, whichever the memory has), [`Error::Overflow`].
    pub fn apply_chw(&self, input: ArrayView3<'_, T>) -> Result<Array3<T>> {
        let (height, width) = self.output_size();
        let mut output = Array3::from_elem((input.len_of(Axis(0)), height, width), T::zero());
        self.apply_chw_into(input, output.view_mut())?;
        Ok(output)
    }

    /// Processes an `[H, W, C]` view of any strides.
    ///
    /// # Shapes
    /// `[H, W, C]` in, `[Bh, Bw, C]` out (`[H, W, C]` for the low-pass filter).
    ///
    /// # Errors
    /// Returns the errors of [`apply_chw`](Self::apply_chw).
    pub fn apply_hwc(&self, input: ArrayView3<'_, T>) -> Result<Array3<T>> {
        let (height, width) = self.output_size();
        let mut output = Array3::from_elem((height, width, input.len_of(Axis(2))), T::zero());
        self.apply_hwc_into(input, output.view_mut())?;
        Ok(output)
    }

    /// Processes a `[C, H, W]` view into another, both of any strides.
    ///
    /// # Errors
    /// Returns the errors of [`apply_chw`](Self::apply_chw); the output's shape is checked too.
    pub fn apply_chw_into(&self, input: ArrayView3<'_, T>, output: ArrayViewMut3<'_, T>) -> Result<()> {
        self.pool.with(|scratch| self.apply_chw_with(input, output, scratch))
    }

    /// Processes an `[H, W, C]` view into another, both of any strides.
    ///
    /// # Errors
    /// Returns the errors of [`apply_chw`](Self::apply_chw); the output's shape is checked too.
    pub fn apply_hwc_into(&self, input: ArrayView3<'_, T>, output: ArrayViewMut3<'_, T>) -> Result<()> {
        self.apply_chw_into(input.permuted_axes([2, 0, 1]), output.permuted_axes([2, 0, 1]))
    }

    /// Processes a `[C, H, W]` view into another, with working memory of the caller.
    ///
    /// # Errors
    /// Returns the errors of [`apply_chw_into`](Self::apply_chw_into).
    pub fn apply_chw_with(
        &self,
        input: ArrayView3<'_, T>,
        mut output: ArrayViewMut3<'_, T>,
        scratch: &mut Scratch<T>,
    ) -> Result<()> {
        let channels = input.len_of(Axis(0));
        check_shape("input", input.shape(), channels, self.input_size())?;
        check_shape("output", output.shape(), channels, self.output_size())?;
        // Interleaved memory seen as planes counts as plain memory too; both sides then take its
        // order.
        let interleaved =
            !input.is_standard_layout() && input.view().permuted_axes([1, 2, 0]).is_standard_layout();
        let (layout, order) = if interleaved { (Layout::Hwc, [1, 2, 0]) } else { (Layout::Chw, [0, 1, 2]) };
        let from = input.permuted_axes(order);
        let mut to = output.view_mut().permuted_axes(order);
        let (mut staged_in, mut staged_out) =
            (std::mem::take(&mut scratch.input), std::mem::take(&mut scratch.output));
        let source = match from.as_slice() {
            Some(values) => values,
            None => stage(&mut staged_in, &from),
        };
        let done = if let Some(values) = to.as_slice_mut() {
            self.apply_slice_with(layout, channels, source, values, scratch)
        } else {
            at_least(&mut staged_out, to.len());
            let values = &mut staged_out[..to.len()];
            let done = self.apply_slice_with(layout, channels, source, values, scratch);
            to.iter_mut().zip(values.iter()).for_each(|(to, &value)| *to = value);
            done
        };
        (scratch.input, scratch.output) = (staged_in, staged_out);
        done
    }

    /// Processes an `[N, C, H, W]` view of any strides on the threads of the current rayon pool.
    ///
    /// # Shapes
    /// `[N, C, H, W]` in, `[N, C, Bh, Bw]` out (`[N, C, H, W]` for the low-pass filter).
    ///
    /// # Errors
    /// Returns the errors of [`apply_chw`](Self::apply_chw), for the first image that has one;
    /// indices count within that image.
    pub fn apply_batch(&self, input: ArrayView4<'_, T>) -> Result<Array4<T>> {
        let (height, width) = self.output_size();
        let (images, channels) = (input.len_of(Axis(0)), input.len_of(Axis(1)));
        let mut output = Array4::from_elem((images, channels, height, width), T::zero());
        self.apply_batch_into(input, output.view_mut())?;
        Ok(output)
    }

    /// Processes a batch into another view of any strides, on the threads of the current rayon
    /// pool.
    ///
    /// # Errors
    /// Returns the errors of [`apply_batch`](Self::apply_batch); the output's shape is checked too.
    pub fn apply_batch_into(&self, input: ArrayView4<'_, T>, mut output: ArrayViewMut4<'_, T>) -> Result<()> {
        let (height, width) = self.output_size();
        if output.len_of(Axis(0)) != input.len_of(Axis(0)) {
            let expected =
                format!("[{}, {}, {height}, {width}]", input.len_of(Axis(0)), input.len_of(Axis(1)));
            return Err(Error::WrongShape { what: "output", found: output.shape().to_vec(), expected });
        }
        let images: Vec<_> = input.outer_iter().zip(output.outer_iter_mut()).enumerate().collect();
        let failed = images.into_par_iter().filter_map(|(index, (from, to))| {
            self.apply_chw_into(from, to).err().map(|error| (index, error))
        });
        failed.min_by_key(|(index, _)| *index).map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Processes one image whose rows, columns or channels are not next to each other, such as an
    /// image with padded rows or a window of a larger one.
    ///
    /// # Shapes
    /// Element (c, y, x) of the image is `input[c * channel + y * row + x * column]` for `strides =
    /// [channel, row, column]` in elements; `output` is plain `[C, Bh, Bw]`.
    ///
    /// # Errors
    /// [`Error::WrongStrides`] if they reach past the slice, else as
    /// [`apply_slice`](Self::apply_slice).
    pub fn apply_strided(
        &self,
        input: &[T],
        channels: usize,
        strides: [usize; 3],
        output: &mut [T],
    ) -> Result<()> {
        let (height, width) = self.input_size();
        self.check_slice("output", self.output_size(), channels, output.len())?;
        if channels == 0 {
            return Ok(());
        }
        let sides = [channels, height, width];
        let reach = strides.iter().zip(sides).map(|(&stride, side)| stride.saturating_mul(side - 1));
        let last = reach.fold(0_usize, usize::saturating_add);
        if last >= input.len() {
            let [channel, row, column] = strides;
            return Err(Error::WrongStrides { channel, row, column, last, len: input.len() });
        }
        self.pool.with(|scratch| {
            let mut staged = std::mem::take(&mut scratch.input);
            at_least(&mut staged, channels * height * width);
            let rows = (0..channels).flat_map(|c| (0..height).map(move |y| c * strides[0] + y * strides[1]));
            for (to, start) in staged.chunks_exact_mut(width).zip(rows) {
                for (x, to) in to.iter_mut().enumerate() {
                    *to = input[start + x * strides[2]];
                }
            }
            let done = self.apply_slice_with(
                Layout::Chw,
                channels,
                &staged[..channels * height * width],
                output,
                scratch,
            );
            scratch.input = staged;
            done
        })
    }
}

fn stage<'a, T: Real>(buffer: &'a mut Vec<T>, view: &ArrayView3<'_, T>) -> &'a [T] {
    at_least(buffer, view.len());
    for (to, &value) in buffer.iter_mut().zip(view.iter()) {
        *to = value;
    }
    &buffer[..view.len()]
}

fn check_shape(
    what: &'static str,
    shape: &[usize],
    channels: usize,
    (height, width): (usize, usize),
) -> Result<()> {
    if shape == [channels, height, width] {
        return Ok(());
    }
    let expected = format!("{channels} channels of {height}x{width} (shown channel first)");
    Err(Error::WrongShape { what, found: shape.to_vec(), expected })
}
