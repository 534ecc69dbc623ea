//! A resize before the crop, one axis at a time: a few taps per sample, applied while the columns
//! are folded.
//!
//! Resize R and crop A are both linear and act on each axis separately, so `A (R x)` is one
//! operator; the image between them is neither stored nor rounded nor clipped.

use crate::axis::FoldedAxis;
use crate::fold::{Columns, Fold, FoldBuffers};
use crate::kernel::GROUP;
use crate::real::{Real, Sample};
use crate::unfold::at_least;
use crate::{Error, Result};

/// A banded linear map of one axis: output sample i is a weighted sum of a short run of input
/// samples.
///
/// ```
/// let mut halves = freqcrop::Resampling::new(4);
/// halves.push(0, &[0.5, 0.5])?;
/// halves.push(2, &[0.5, 0.5])?;
/// assert_eq!(halves.output_len(), 2);
/// # Ok::<(), freqcrop::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Resampling {
    input: usize,
    /// First input sample, first weight and number of weights of each output sample.
    runs: Vec<(usize, usize, usize)>,
    weights: Vec<f32>,
}

impl Resampling {
    /// Creates a map from `input` samples that has no outputs yet.
    #[must_use]
    pub fn new(input: usize) -> Self {
        Self { input, ..Self::default() }
    }

    /// Removes all outputs and keeps the memory.
    pub fn reset(&mut self, input: usize) {
        self.input = input;
        self.runs.clear();
        self.weights.clear();
    }

    /// Appends an output: the sum of `weights` times the input samples from `start` on.
    ///
    /// # Errors
    /// [`Error::TapsOutside`] if the run extends past the input.
    pub fn push(&mut self, start: usize, weights: &[f64]) -> Result<()> {
        if start.checked_add(weights.len()).is_none_or(|end| end > self.input) {
            return Err(Error::TapsOutside { start, taps: weights.len(), input: self.input });
        }
        self.runs.push((start, self.weights.len(), weights.len()));
        self.weights.extend(weights.iter().map(|&weight| f32::of(weight)));
        Ok(())
    }

    /// Reverses the outputs, which mirrors the image.
    pub fn mirror(&mut self) {
        self.runs.reverse();
    }

    /// Number of input samples.
    #[must_use]
    pub fn input_len(&self) -> usize {
        self.input
    }

    /// Number of output samples.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.runs.len()
    }

    /// Computes output sample `i` of a group of columns.
    #[inline(always)]
    fn blend(&self, i: usize, lines: &[[f32; GROUP]]) -> [f32; GROUP] {
        let (start, first, taps) = self.runs[i];
        let (lines, weights) = (&lines[start..start + taps], &self.weights[first..first + taps]);
        // The usual number of taps has its own branch, so that the compiler unrolls the loop.
        match (<&[_; 4]>::try_from(lines), <&[f32; 4]>::try_from(weights)) {
            (Ok(lines), Ok(weights)) => sum(lines, weights),
            _ => sum(lines, weights),
        }
    }
}

#[inline(always)]
fn sum(lines: &[[f32; GROUP]], weights: &[f32]) -> [f32; GROUP] {
    let mut sum = [0.0; GROUP];
    for (line, &weight) in lines.iter().zip(weights) {
        for (sum, &value) in sum.iter_mut().zip(line) {
            *sum += weight * value;
        }
    }
    sum
}

/// Folds the columns of the source after a resize.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resampled<'a>(pub(crate) &'a Resampling);

impl Fold<f32> for Resampled<'_> {
    #[inline(always)]
    fn fold<E: Sample<f32>>(
        self,
        axis: &FoldedAxis<f32>,
        source: &Columns<'_, E>,
        (first, count): (usize, usize),
        offset: f32,
        FoldBuffers { even, odd, lines }: &mut FoldBuffers<'_, f32>,
    ) {
        let map = self.0;
        let (len, input) = (axis.shape.n, map.input);
        let (even_in, odd_in) = (axis.even_in(), axis.odd_in());
        at_least(lines, count.div_ceil(GROUP) * input);
        for n in 0..input {
            let (groups, rest) = source.row(n, first, count).as_chunks::<GROUP>();
            for (group, values) in groups.iter().enumerate() {
                let values: [E; GROUP] = *values;
                lines[group * input + n] = values.map(Sample::get);
            }
            for (i, value) in rest.iter().enumerate() {
                lines[groups.len() * input + n][i] = value.get();
            }
        }
        for group in 0..count.div_ceil(GROUP) {
            let lines = &lines[group * input..(group + 1) * input];
            let even = &mut even[group * even_in..(group + 1) * even_in];
            let odd = &mut odd[group * odd_in..(group + 1) * odd_in];
            even[0] = map.blend(0, lines).map(|value| value - offset);
            if len.is_multiple_of(2) {
                even[len / 2] = map.blend(len / 2, lines).map(|value| value - offset);
            }
            for n in 1..=odd_in {
                let (a, b) = (map.blend(n, lines), map.blend(len - n, lines));
                even[n] = std::array::from_fn(|i| a[i] + b[i] - (offset + offset));
                odd[n - 1] = std::array::from_fn(|i| a[i] - b[i]);
            }
        }
    }
}
