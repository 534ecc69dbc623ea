//! Interleaved 8-bit images, as decoders and augmentations use them.

use rayon::prelude::*;

use crate::Result;
use crate::layout::{Bytes, RGB};
use crate::plan::Plan;
use crate::scratch::Scratch;

impl Plan<f32> {
    /// Processes one 8-bit RGB image, with working memory from the plan's own pool.
    ///
    /// The crop of an image can leave the range of its pixels; the result is rounded to the nearest
    /// integer, halves to even, and clamped to 0..=255.
    ///
    /// # Shapes
    /// `input` is `[H, W, 3]`; the result is `[Bh, Bw, 3]` (`[H, W, 3]` for the low-pass filter).
    ///
    /// # Errors
    /// [`Error::WrongLength`](crate::Error::WrongLength).
    pub fn apply_rgb8(&self, input: &[u8]) -> Result<Vec<u8>> {
        self.check_slice("input", self.input_size(), 3, input.len())?;
        let (height, width) = self.output_size();
        let mut output = vec![0; height * width * 3];
        self.apply_rgb8_into(input, &mut output)?;
        Ok(output)
    }

    /// Processes one 8-bit RGB image into a given buffer.
    ///
    /// # Errors
    /// [`Error::WrongLength`](crate::Error::WrongLength), for either slice.
    pub fn apply_rgb8_into(&self, input: &[u8], output: &mut [u8]) -> Result<()> {
        self.pool.with(|scratch| self.apply_rgb8_with(input, output, scratch))
    }

    /// Processes one 8-bit RGB image into a given buffer, with working memory of the caller.
    ///
    /// # Errors
    /// [`Error::WrongLength`](crate::Error::WrongLength), for either slice.
    pub fn apply_rgb8_with(&self, input: &[u8], output: &mut [u8], scratch: &mut Scratch<f32>) -> Result<()> {
        self.check_slice("input", self.input_size(), 3, input.len())?;
        self.check_slice("output", self.output_size(), 3, output.len())?;
        if self.is_identity() {
            output.copy_from_slice(input);
            return Ok(());
        }
        // Bytes are finite and their sums stay small, so the flag cannot be false.
        let width = self.output_size().1;
        self.run(RGB, input, &mut Bytes { out: output, width }, scratch);
        Ok(())
    }

    /// Processes a batch of 8-bit RGB images on the threads of the current rayon pool.
    ///
    /// # Shapes
    /// `input` is `[N, H, W, 3]`, `output` is `[N, Bh, Bw, 3]`; N follows from the length.
    ///
    /// # Errors
    /// [`Error::WrongLength`](crate::Error::WrongLength), for either slice.
    pub fn apply_rgb8_batch(&self, input: &[u8], output: &mut [u8]) -> Result<()> {
        let (from, to) = self.check_batch(3, input.len(), output.len())?;
        let images = input.par_chunks_exact(from).zip(output.par_chunks_exact_mut(to));
        images.try_for_each(|(image, out)| self.apply_rgb8_into(image, out))
    }
}
