//! The Lanczos resize, with Pillow's bytes.
//!
//! The EfficientTrain authors' released code uses it instead of the crop. Pillow's rules
//! (`Resample.c`): a horizontal pass, then a vertical one, each rounded to bytes; weights in `f64`,
//! normalized, then 22 fractional bits.

use std::f64::consts::PI;
use std::sync::{Mutex, PoisonError};

use crate::{Error, Result};

/// Fractional bits of a weight.
const BITS: u32 = 22;
/// Half-width of the kernel in output pixels.
const SUPPORT: f64 = 3.0;

/// Lanczos resize of 8-bit images from (H, W) to (h, w), up or down: `Image.resize((w, h),
/// LANCZOS)` of Pillow.
///
/// ```
/// let resize = freqcrop::Lanczos::new((224, 224), (96, 96))?;
/// let small = resize.apply_u8(3, &vec![200; 224 * 224 * 3])?;
/// assert_eq!(small, vec![200; 96 * 96 * 3]);
/// # Ok::<(), freqcrop::Error>(())
/// ```
#[derive(Debug)]
pub struct Lanczos {
    from: (usize, usize),
    to: (usize, usize),
    /// `None` if the side keeps its length: that pass is skipped.
    vertical: Option<Taps>,
    horizontal: Option<Taps>,
    idle: Mutex<Vec<Vec<u8>>>,
}

/// Source pixels and weights of every output pixel of an axis.
#[derive(Debug)]
struct Taps {
    /// First source pixel and its first weight's index; one more entry closes the last.
    first: Vec<(usize, usize)>,
    weights: Vec<i32>,
}

impl Lanczos {
    /// Plans a resize from `from` = (H, W) to `to` = (h, w) pixels.
    ///
    /// # Errors
    /// [`Error::ZeroSize`], [`Error::TooLarge`].
    pub fn new(from: (usize, usize), to: (usize, usize)) -> Result<Self> {
        for (what, (height, width)) in [("image", from), ("target", to)] {
            if height == 0 || width == 0 {
                return Err(Error::ZeroSize { what, height, width });
            }
            crate::plan::elements(what, (height, width), 16)?;
        }
        let axis = |from, to| (from != to).then(|| Taps::new(from, to));
        Ok(Self {
            from,
            to,
            vertical: axis(from.0, to.0),
            horizontal: axis(from.1, to.1),
            idle: Mutex::new(Vec::new()),
        })
    }

    /// Height and width of the input images.
    #[must_use]
    pub fn input_size(&self) -> (usize, usize) {
        self.from
    }

    /// Height and width of the output images.
    #[must_use]
    pub fn output_size(&self) -> (usize, usize) {
        self.to
    }

    /// Resizes one interleaved image.
    ///
    /// # Shapes
    /// `[H, W, channels]` in, `[h, w, channels]` out.
    ///
    /// # Errors
    /// [`Error::WrongLength`].
    pub fn apply_u8(&self, channels: usize, input: &[u8]) -> Result<Vec<u8>> {
        check("input", input.len(), self.from, channels)?;
        let mut output = vec![0; self.to.0 * self.to.1 * channels];
        self.apply_u8_into(channels, input, &mut output)?;
        Ok(output)
    }

    /// Resizes one interleaved image into a given buffer.
    ///
    /// # Errors
    /// [`Error::WrongLength`], for either slice.
    pub fn apply_u8_into(&self, channels: usize, input: &[u8], output: &mut [u8]) -> Result<()> {
        check("input", input.len(), self.from, channels)?;
        check("output", output.len(), self.to, channels)?;
        if channels == 0 {
            return Ok(());
        }
        match (&self.horizontal, &self.vertical) {
            (None, None) => output.copy_from_slice(input),
            (Some(taps), None) => horizontal(taps, channels, self.from.1, input, output),
            (None, Some(taps)) => vertical(taps, self.from.1 * channels, input, output),
            (Some(across), Some(down)) => {
                let mut middle =
                    self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
                middle.resize(self.from.0 * self.to.1 * channels, 0);
                horizontal(across, channels, self.from.1, input, &mut middle);
                vertical(down, self.to.1 * channels, &middle, output);
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(middle);
            }
        }
        Ok(())
    }
}

impl Taps {
    fn new(from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let mut taps = Self { first: Vec::with_capacity(to + 1), weights: Vec::new() };
        for i in 0..to {
            let center = (i as f64 + 0.5) * scale;
            let low = truncate(center - SUPPORT * stretch + 0.5);
            let high = truncate(center + SUPPORT * stretch + 0.5).min(from);
            taps.first.push((low, taps.weights.len()));
            let raw: Vec<f64> =
                (low..high).map(|tap| lanczos((tap as f64 - center + 0.5) * (1.0 / stretch))).collect();
            let sum: f64 = raw.iter().sum();
            taps.weights.extend(raw.iter().map(|weight| fixed(weight / sum)));
        }
        taps.first.push((0, taps.weights.len()));
        taps
    }

    /// Returns the first source pixel and the weights of output pixel `i`.
    fn at(&self, i: usize) -> (usize, &[i32]) {
        let (first, start) = self.first[i];
        (first, &self.weights[start..self.first[i + 1].1])
    }
}

/// Rounds towards zero; negative values give zero.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn truncate(value: f64) -> usize {
    value.max(0.0) as usize
}

/// Rounds to the nearest fixed-point number, halves away from zero.
#[allow(clippy::cast_possible_truncation)]
fn fixed(weight: f64) -> i32 {
    (weight * f64::from(1 << BITS)).round() as i32
}

fn lanczos(x: f64) -> f64 {
    if (-SUPPORT..SUPPORT).contains(&x) { sinc(x) * sinc(x / SUPPORT) } else { 0.0 }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn to_byte(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

fn horizontal(taps: &Taps, channels: usize, width: usize, input: &[u8], output: &mut [u8]) {
    let out_width = taps.first.len() - 1;
    for (row, out) in input.chunks_exact(width * channels).zip(output.chunks_exact_mut(out_width * channels))
    {
        for (i, pixel) in out.chunks_exact_mut(channels).enumerate() {
            let (first, weights) = taps.at(i);
            let source = &row[first * channels..];
            for (c, value) in pixel.iter_mut().enumerate() {
                let terms = source[c..].iter().step_by(channels).zip(weights);
                *value =
                    to_byte(terms.fold(1 << (BITS - 1), |sum, (&v, &weight)| sum + i32::from(v) * weight));
            }
        }
    }
}

fn vertical(taps: &Taps, row_len: usize, input: &[u8], output: &mut [u8]) {
    for (i, out) in output.chunks_exact_mut(row_len).enumerate() {
        let (first, weights) = taps.at(i);
        for (x, value) in out.iter_mut().enumerate() {
            let column = input[first * row_len + x..].iter().step_by(row_len);
            *value = to_byte(
                column.zip(weights).fold(1 << (BITS - 1), |sum, (&v, &weight)| sum + i32::from(v) * weight),
            );
        }
    }
}

fn check(what: &'static str, found: usize, (height, width): (usize, usize), channels: usize) -> Result<()> {
    let expected = crate::plan::elements(what, (height, width), channels)?;
    if found == expected {
        return Ok(());
    }
    Err(Error::WrongLength {
        what,
        found,
        expected,
        detail: format!("{height} x {width} x {channels} channels"),
    })
}
