//! Batches: one task per image; the result does not depend on the number of threads.

use rayon::prelude::*;

use crate::layout::Layout;
use crate::plan::{Plan, elements};
use crate::real::Real;
use crate::{Error, Result};

impl<T: Real> Plan<T> {
    /// Processes a contiguous batch on the threads of the current rayon pool.
    ///
    /// Each image is computed by one thread, so the result does not depend on their number.
    /// Working memory comes from the plan's pool.
    ///
    /// # Shapes
    /// `input` holds N images of H x W x `channels` in the order of `layout`, one after the other;
    /// `output` the same with the output's size. N follows from the length.
    ///
    /// # Errors
    /// [`Error::WrongLength`] if the lengths are not whole and equal numbers of images;
    /// [`Error::NonFinite`] (its index counts from the start of the batch) and [`Error::Overflow`],
    /// for the first image that has one.
    pub fn apply_batch_slice(
        &self,
        layout: Layout,
        channels: usize,
        input: &[T],
        output: &mut [T],
    ) -> Result<()> {
        let (from, to) = self.check_batch(channels, input.len(), output.len())?;
        if from == 0 {
            return Ok(());
        }
        let one = |(index, (image, out)): (usize, (&[T], &mut [T]))| {
            self.apply_slice(layout, channels, image, out).map_err(|error| match error {
                Error::NonFinite { index: within } => {
                    (index, Error::NonFinite { index: index * from + within })
                }
                other => (index, other),
            })
        };
        let images = input.par_chunks_exact(from).zip(output.par_chunks_exact_mut(to)).enumerate();
        // Every image is tried, so that the error does not depend on which thread was first.
        let first = images.map(one).filter_map(std::result::Result::err).min_by_key(|(index, _)| *index);
        first.map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Returns the elements of an input and of an output image, if both slices hold the same whole
    /// number of images.
    pub(crate) fn check_batch(&self, channels: usize, input: usize, output: usize) -> Result<(usize, usize)> {
        let from = elements("input", self.input_size(), channels)?;
        let to = elements("output", self.output_size(), channels)?;
        let images = input.checked_div(from).unwrap_or(0);
        self.check_count("input", images, channels, self.input_size(), input, images.saturating_mul(from))?;
        self.check_count("output", images, channels, self.output_size(), output, images.saturating_mul(to))?;
        Ok((from, to))
    }

    fn check_count(
        &self,
        what: &'static str,
        images: usize,
        channels: usize,
        (height, width): (usize, usize),
        found: usize,
        expected: usize,
    ) -> Result<()> {
        if found == expected {
            return Ok(());
        }
        let detail = format!("{images} whole images x {channels} channels x {height} x {width}");
        Err(Error::WrongLength { what, found, expected, detail })
    }
}
