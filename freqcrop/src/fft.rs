//! The Fourier backend: real transform of the rows, complex transform of the kept columns only, and
//! back.
//!
//! Works on the Hermitian part of the masked spectrum, which is equivalent to the real part of the
//! result: frequency (k, l) gets the weight `(m(k) m(l) + m(-k) m(-l)) / 2`, m being 1 for
//! kept frequencies.

use std::fmt;
use std::sync::Arc;

use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};
use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};

use crate::layout::{ChannelLayout, Layout, Target};
use crate::matrix::AxisShape;
use crate::real::{Real, Sample};
use crate::unfold::at_least;

/// The four transforms of a plan.
pub(crate) struct Fourier<T> {
    height: AxisShape,
    width: AxisShape,
    row_forward: Arc<dyn RealToComplex<T>>,
    column_forward: Arc<dyn Fft<T>>,
    column_inverse: Arc<dyn Fft<T>>,
    row_inverse: Arc<dyn ComplexToReal<T>>,
    scratch: usize,
}

/// Working memory; grows to the needs of the largest image so far.
#[derive(Debug, Default)]
pub(crate) struct FourierScratch<T> {
    row: Vec<T>,
    spectrum: Vec<Complex<T>>,
    scratch: Vec<Complex<T>>,
    /// Kept columns, `[l][row]`.
    columns: Vec<Complex<T>>,
    /// Columns of the result, `[l][p]`.
    kept: Vec<Complex<T>>,
    /// The result, `[channel][p][q]`.
    planes: Vec<T>,
    lines: Vec<T>,
}

impl<T> fmt::Debug for Fourier<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fourier")
            .field("height", &self.height)
            .field("width", &self.width)
            .finish_non_exhaustive()
    }
}

impl<T: Real> Fourier<T> {
    pub(crate) fn new(height: AxisShape, width: AxisShape) -> Self {
        let (mut real, mut complex) = (RealFftPlanner::new(), FftPlanner::new());
        let row_forward = real.plan_fft_forward(width.n);
        let row_inverse = real.plan_fft_inverse(width.p);
        let column_forward = complex.plan_fft_forward(height.n);
        let column_inverse = complex.plan_fft_inverse(height.p);
        let scratch = [
            row_forward.get_scratch_len(),
            row_inverse.get_scratch_len(),
            column_forward.get_inplace_scratch_len(),
            column_inverse.get_inplace_scratch_len(),
        ];
        let scratch = scratch.into_iter().max().unwrap_or(0);
        Self { height, width, row_forward, column_forward, column_inverse, row_inverse, scratch }
    }

    /// Processes one image. Returns false if the result is not finite.
    pub(crate) fn run<E: Sample<T>, O: Target<T>>(
        &self,
        image: ChannelLayout,
        input: &[E],
        output: &mut O,
        work: &mut FourierScratch<T>,
    ) -> bool {
        let (rows, columns) = (self.height.p, self.width.p);
        at_least(&mut work.planes, image.channels * rows * columns);
        at_least(&mut work.lines, image.channels * columns);
        at_least(&mut work.scratch, self.scratch);
        let mut finite = true;
        for channel in 0..image.channels {
            self.forward(image, channel, input, work);
            self.select(work);
            self.inverse(channel, work);
            finite &= work.planes[channel * rows * columns].finite();
        }
        for p in 0..rows {
            let lines = &mut work.lines[..image.channels * columns];
            for (channel, line) in lines.chunks_exact_mut(columns).enumerate() {
                let start = (channel * rows + p) * columns;
                line.copy_from_slice(&work.planes[start..start + columns]);
            }
            output.store(p, lines);
        }
        finite
    }

    /// Kept frequencies of the width that a real transform stores: 0 ..= Bw div 2.
    fn half(&self) -> usize {
        self.width.b / 2 + 1
    }

    /// Spectrum of the kept columns.
    fn forward<E: Sample<T>>(
        &self,
        image: ChannelLayout,
        channel: usize,
        input: &[E],
        work: &mut FourierScratch<T>,
    ) {
        let (rows, len, half) = (self.height.n, self.width.n, self.half());
        at_least(&mut work.row, len.max(self.width.p));
        at_least(&mut work.spectrum, len / 2 + 1);
        at_least(&mut work.columns, rows * half);
        let (row, spectrum) = (&mut work.row[..len], &mut work.spectrum[..len / 2 + 1]);
        for n in 0..rows {
            read_row(image, (channel, n), (rows, len), input, row);
            let done = self.row_forward.process_with_scratch(row, spectrum, &mut work.scratch);
            debug_assert!(done.is_ok(), "buffer lengths come from the plan");
            for (l, &value) in spectrum[..half].iter().enumerate() {
                work.columns[l * rows + n] = value;
            }
        }
        self.column_forward.process_with_scratch(&mut work.columns[..rows * half], &mut work.scratch);
    }

    /// Weights the kept frequencies and moves them to the output's grid.
    fn select(&self, work: &mut FourierScratch<T>) {
        let (rows, out_rows, half) = (self.height.n, self.height.p, self.half());
        at_least(&mut work.kept, out_rows * half);
        let scale = 1.0 / (rows as f64 * self.width.n as f64);
        let reach = (self.height.b / 2) as i64;
        for l in 0..half {
            let from = &work.columns[l * rows..(l + 1) * rows];
            let to = &mut work.kept[l * out_rows..(l + 1) * out_rows];
            to.fill(Complex::default());
            // On a grid of exactly Bw columns the frequencies Bw/2 and -Bw/2 are the same one.
            let meets_mirror = 2 * l == self.width.p;
            for k in -reach..=reach {
                let (here, there) = (wrap(k, rows), wrap(-k, rows));
                let slot = &mut to[wrap(k, out_rows)];
                *slot = *slot + from[here] * T::of(scale * self.weight(k, l as i64));
                if meets_mirror {
                    *slot = *slot + from[there].conj() * T::of(scale * self.weight(k, -(l as i64)));
                }
            }
        }
        self.column_inverse.process_with_scratch(&mut work.kept[..out_rows * half], &mut work.scratch);
    }

    fn weight(&self, k: i64, l: i64) -> f64 {
        let both = |k, l| f64::from(u8::from(keeps(self.height.b, k) && keeps(self.width.b, l)));
        0.5 * (both(k, l) + both(-k, -l))
    }

    /// Rows of the result.
    fn inverse(&self, channel: usize, work: &mut FourierScratch<T>) {
        let (rows, len, half) = (self.height.p, self.width.p, self.half());
        at_least(&mut work.spectrum, len / 2 + 1);
        let spectrum = &mut work.spectrum[..len / 2 + 1];
        for p in 0..rows {
            spectrum.fill(Complex::default());
            for (l, value) in spectrum.iter_mut().enumerate().take(half) {
                *value = work.kept[l * rows + p];
            }
            // Real by symmetry up to rounding; the real transform requires exact zeros.
            spectrum[0].im = T::zero();
            if len.is_multiple_of(2) {
                spectrum[len / 2].im = T::zero();
            }
            let start = (channel * rows + p) * len;
            let out = &mut work.planes[start..start + len];
            let done = self.row_inverse.process_with_scratch(spectrum, out, &mut work.scratch);
            debug_assert!(done.is_ok(), "buffer lengths come from the plan");
        }
    }
}

/// Returns true if frequency k is among the kept `-(b div 2) ..= b - (b div 2) - 1`.
fn keeps(b: usize, k: i64) -> bool {
    let low = -((b / 2) as i64);
    (low..low + b as i64).contains(&k)
}

fn wrap(k: i64, len: usize) -> usize {
    k.rem_euclid(len as i64).unsigned_abs() as usize
}

fn read_row<T, E: Sample<T>>(
    image: ChannelLayout,
    (channel, n): (usize, usize),
    (rows, len): (usize, usize),
    input: &[E],
    row: &mut [T],
) {
    let (start, step) = match image.layout {
        Layout::Chw => ((channel * rows + n) * len, 1),
        Layout::Hwc => (n * len * image.channels + channel, image.channels),
    };
    for (to, from) in row.iter_mut().zip(input[start..].iter().step_by(step)) {
        *to = from.get();
    }
}
