//! The filters and their integer weights.

use std::f64::consts::PI;
use std::ops::Range;

/// Fractional bits of a weight: 32 - 8 bits of the pixel - 2 bits for overshoot.
pub(super) const PRECISION_BITS: u32 = 22;

/// A resize filter. All of them widen when shrinking, so that every input pixel counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Filter {
    /// Triangle, support 1.
    Bilinear,
    /// Cubic with a = -0.5, support 2. Default.
    #[default]
    Bicubic,
    /// Windowed sinc, support 3.
    Lanczos,
    /// The pixel under the center, as Pillow's `NEAREST`.
    Nearest,
}

impl Filter {
    /// Computes the weights of a resize from `from` to `to` pixels along one axis. Calls `each` for
    /// every output pixel in turn, with the first input pixel it reads and the weights from there
    /// on, which sum to 1. `buffer` is working memory.
    ///
    /// These are the numbers that [`resize_crop`](crate::resize_crop) rounds to integers.
    pub fn taps(self, from: usize, to: usize, buffer: &mut Vec<f64>, each: impl FnMut(usize, &[f64])) {
        self.taps_of(from, to, 0..to, buffer, each);
    }

    /// Computes what [`Self::taps`] does for the output pixels in `outputs` alone.
    fn taps_of(
        self,
        from: usize,
        to: usize,
        outputs: Range<usize>,
        buffer: &mut Vec<f64>,
        mut each: impl FnMut(usize, &[f64]),
    ) {
        let scale = from as f64 / to as f64;
        if self == Filter::Nearest {
            return nearest(scale, from, outputs, each);
        }
        let widening = scale.max(1.0);
        let support = self.support() * widening;
        let narrow = 1.0 / widening;
        for i in outputs {
            let center = (i as f64 + 0.5) * scale;
            // The casts truncate; a negative start becomes 0.
            let start = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            buffer.clear();
            buffer.extend((start..end).map(|x| self.weight((x as f64 - center + 0.5) * narrow)));
            let sum: f64 = buffer.iter().sum();
            if sum != 0.0 {
                buffer.iter_mut().for_each(|weight| *weight /= sum);
            }
            each(start, buffer);
        }
    }

    fn support(self) -> f64 {
        match self {
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
            Filter::Nearest => 0.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        match self {
            Filter::Bilinear => (1.0 - x.abs()).max(0.0),
            Filter::Bicubic => bicubic(x.abs()),
            Filter::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Filter::Lanczos | Filter::Nearest => 0.0,
        }
    }
}

/// The pixel under the center of each output pixel. Centers are added up as Pillow does, which
/// decides ties.
fn nearest(scale: f64, from: usize, outputs: Range<usize>, mut each: impl FnMut(usize, &[f64])) {
    let mut center = scale * 0.5;
    for i in 0..outputs.end {
        if outputs.contains(&i) {
            each((center as usize).min(from - 1), &[1.0]);
        }
        center += scale;
    }
}

fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * PI;
    x.sin() / x
}

/// One axis of a resize: `from` input pixels become `to`, of which `outputs` are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResizeAxis {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) outputs: Range<usize>,
}

impl ResizeAxis {
    /// Returns whether the pass along this axis copies.
    pub(super) fn is_identity(&self) -> bool {
        self.from == self.to
    }
}

/// The weights of one pass: for each output pixel a run of input pixels and as many integers.
#[derive(Debug, Default)]
pub(super) struct Coefficients {
    key: Option<(ResizeAxis, Filter)>,
    /// First input pixel and end in `weights` of each output pixel.
    runs: Vec<(usize, usize)>,
    weights: Vec<i32>,
    /// The run being computed.
    floats: Vec<f64>,
}

impl Coefficients {
    /// Computes the weights of an axis, unless they are there already.
    pub(super) fn prepare(&mut self, axis: &ResizeAxis, filter: Filter) {
        if self.key.as_ref().is_some_and(|(known, by)| known == axis && *by == filter) {
            return;
        }
        self.runs.clear();
        self.weights.clear();
        let mut floats = std::mem::take(&mut self.floats);
        filter.taps_of(axis.from, axis.to, axis.outputs.clone(), &mut floats, |start, weights| {
            self.push_run(start, weights);
        });
        self.floats = floats;
        self.key = Some((axis.clone(), filter));
    }

    /// Returns the input pixels that the wanted output pixels read.
    pub(super) fn inputs(&self) -> Range<usize> {
        let ends = (0..self.runs.len()).map(|i| self.run(i)).map(|(start, weights)| start + weights.len());
        let first = self.runs.iter().map(|&(start, _)| start).min().unwrap_or(0);
        first..ends.max().unwrap_or(first)
    }

    /// Stores weights as integers, rounded half away from zero.
    fn push_run(&mut self, start: usize, weights: &[f64]) {
        for &weight in weights {
            let scaled = weight * f64::from(1 << PRECISION_BITS);
            self.weights.push(if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 } as i32);
        }
        self.runs.push((start, self.weights.len()));
    }

    /// First input pixel and weights of the `i`-th wanted output pixel.
    #[inline(always)]
    pub(super) fn run(&self, i: usize) -> (usize, &[i32]) {
        let begin = if i == 0 { 0 } else { self.runs[i - 1].1 };
        let (start, end) = self.runs[i];
        (start, &self.weights[begin..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The passes add in i32: the largest sum of bytes times weights, and the half unit, must fit.
    #[test]
    fn sums_of_bytes_times_weights_fit_into_an_i32() {
        let mut coefficients = Coefficients::default();
        for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
            for from in (1..80).chain([500, 5000]) {
                for to in (1..80).chain([224, 3000]) {
                    coefficients.prepare(&ResizeAxis { from, to, outputs: 0..to }, filter);
                    for (_, weights) in (0..to).map(|i| coefficients.run(i)) {
                        let reach: i64 = weights.iter().map(|&w| i64::from(w).abs() * 255).sum();
                        let half = 1 << (PRECISION_BITS - 1);
                        assert!(reach + half <= i64::from(i32::MAX), "{filter:?} {from} to {to}: {reach}");
                    }
                }
            }
        }
    }
}
