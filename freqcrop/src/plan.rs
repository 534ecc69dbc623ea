//! The plan: sizes are checked and tables made once for any number of images.

use crate::fft::Fourier;
use crate::layout::{ChannelLayout, Interleaved, Layout, Planar, Target};
use crate::matrix::AxisShape;
use crate::real::{Real, Sample};
use crate::scratch::{Scratch, ScratchPool};
use crate::separable::Separable;
use crate::{Error, Result};

/// Algorithm of a plan. Both give the same numbers up to rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Backend {
    /// The one that is expected to be faster for the size, by the measured rates of both.
    #[default]
    Auto,
    /// Fast Fourier transforms: `O(N^2 log N)` for an image of N x N; better for very large images.
    Fft,
    /// Two small real matrix products, folded by symmetry: `O(N^2 B)`, but at the speed of a matrix
    /// product.
    Separable,
}

#[derive(Debug)]
enum Engine<T> {
    /// The bandwidth is the whole image.
    Copy,
    Fft(Fourier<T>),
    Separable(Separable<T>),
}

/// A planned operator; [`FrequencyCrop`](crate::FrequencyCrop) and [`LowPass`](crate::LowPass) are
/// made of one each.
///
/// Immutable and shareable between threads. All `apply` calls check lengths, shapes and finiteness
/// of their arguments and never panic on them; after an error the output's contents are
/// unspecified.
#[derive(Debug)]
pub struct Plan<T: Real> {
    pub(crate) height: AxisShape,
    pub(crate) width: AxisShape,
    engine: Engine<T>,
    pub(crate) pool: ScratchPool<T>,
}

impl<T: Real> Plan<T> {
    pub(crate) fn new(
        from: (usize, usize),
        band: (usize, usize),
        shrink: bool,
        backend: Backend,
    ) -> Result<Self> {
        T::plan(from, band, shrink, backend)
    }

    /// Makes the plan of [`Self::new`], which calls it through [`Real::plan`].
    pub(crate) fn assemble(
        from: (usize, usize),
        band: (usize, usize),
        shrink: bool,
        backend: Backend,
    ) -> Result<Self> {
        check_sizes(from, band)?;
        let to = if shrink { band } else { from };
        let height = AxisShape { n: from.0, p: to.0, b: band.0 };
        let width = AxisShape { n: from.1, p: to.1, b: band.1 };
        let engine = match backend {
            _ if from == band => Engine::Copy,
            Backend::Fft => Engine::Fft(Fourier::new(height, width)),
            Backend::Auto if !separable_is_faster(height, width) => Engine::Fft(Fourier::new(height, width)),
            Backend::Auto | Backend::Separable => Engine::Separable(Separable::new(height, width)),
        };
        Ok(Self { height, width, engine, pool: ScratchPool::new() })
    }

    /// Height and width of the input images, in pixels.
    #[must_use]
    pub fn input_size(&self) -> (usize, usize) {
        (self.height.n, self.width.n)
    }

    /// Height and width of the output images, in pixels.
    #[must_use]
    pub fn output_size(&self) -> (usize, usize) {
        (self.height.p, self.width.p)
    }

    /// Number of kept frequencies along height and width.
    #[must_use]
    pub fn bandwidth(&self) -> (usize, usize) {
        (self.height.b, self.width.b)
    }

    /// Backend in use; [`Backend::Auto`] only if nothing is computed because the bandwidth is the
    /// whole image.
    #[must_use]
    pub fn backend(&self) -> Backend {
        match self.engine {
            Engine::Copy => Backend::Auto,
            Engine::Fft(_) => Backend::Fft,
            Engine::Separable(_) => Backend::Separable,
        }
    }

    /// Processes one contiguous image, with working memory from the plan's own pool.
    ///
    /// # Shapes
    /// `input` is H x W x `channels` elements in the order of `layout`, `output` the same
    /// with the output's size.
    ///
    /// # Errors
    /// [`Error::WrongLength`] if a slice is shorter or longer, [`Error::NonFinite`] or
    /// [`Error::Overflow`] if the result is not finite.
    pub fn apply_slice(&self, layout: Layout, channels: usize, input: &[T], output: &mut [T]) -> Result<()> {
        self.pool.with(|scratch| self.apply_slice_with(layout, channels, input, output, scratch))
    }

    /// Processes one contiguous image, with working memory of the caller.
    ///
    /// # Errors
    /// Returns the errors of [`apply_slice`](Self::apply_slice).
    pub fn apply_slice_with(
        &self,
        layout: Layout,
        channels: usize,
        input: &[T],
        output: &mut [T],
        scratch: &mut Scratch<T>,
    ) -> Result<()> {
        self.check_slice("input", self.input_size(), channels, input.len())?;
        self.check_slice("output", self.output_size(), channels, output.len())?;
        if self.is_identity() {
            output.copy_from_slice(input);
            return first_not_finite(input).map_or(Ok(()), |index| Err(Error::NonFinite { index }));
        }
        if T::run(self, (layout, channels), input, output, scratch) {
            return Ok(());
        }
        // Every input value is read only in this case.
        Err(first_not_finite(input).map_or(Error::Overflow, |index| Error::NonFinite { index }))
    }

    /// Runs the engine on a checked image, through [`Real::run`]. Returns false if the result is
    /// not finite.
    pub(crate) fn run_layout(
        &self,
        image: ChannelLayout,
        input: &[T],
        output: &mut [T],
        scratch: &mut Scratch<T>,
    ) -> bool {
        let (height, width) = self.output_size();
        match image.layout {
            Layout::Chw => self.run(image, input, &mut Planar { out: output, height, width }, scratch),
            Layout::Hwc => self.run(image, input, &mut Interleaved { out: output, width }, scratch),
        }
    }

    /// Returns the separable engine, if it is in use.
    pub(crate) fn separable(&self) -> Option<&Separable<T>> {
        match &self.engine {
            Engine::Separable(separable) => Some(separable),
            _ => None,
        }
    }

    /// Returns true if the bandwidth is the whole image.
    pub(crate) fn is_identity(&self) -> bool {
        matches!(self.engine, Engine::Copy)
    }

    /// Runs the engine on a checked image. Returns false if the result is not finite.
    pub(crate) fn run<E: Sample<T>, O: Target<T>>(
        &self,
        image: ChannelLayout,
        input: &[E],
        output: &mut O,
        scratch: &mut Scratch<T>,
    ) -> bool {
        match &self.engine {
            _ if image.channels == 0 => true,
            Engine::Copy => true,
            Engine::Fft(fourier) => fourier.run(image, input, output, &mut scratch.fourier),
            Engine::Separable(separable) => separable.run(image, input, output, &mut scratch.separable),
        }
    }

    pub(crate) fn check_slice(
        &self,
        what: &'static str,
        (height, width): (usize, usize),
        channels: usize,
        found: usize,
    ) -> Result<()> {
        let expected = elements(what, (height, width), channels)?;
        if found == expected {
            return Ok(());
        }
        let detail = format!("{channels} channels x {height} x {width}");
        Err(Error::WrongLength { what, found, expected, detail })
    }
}

/// Counts the elements of an image, if the number fits.
pub(crate) fn elements(
    what: &'static str,
    (height, width): (usize, usize),
    channels: usize,
) -> Result<usize> {
    let count = height.checked_mul(width).and_then(|plane| plane.checked_mul(channels));
    count.ok_or(Error::TooLarge { what, height, width, channels })
}

pub(crate) fn first_not_finite<T: Real>(values: &[T]) -> Option<usize> {
    values.iter().position(|value| !value.finite())
}

fn check_sizes(from: (usize, usize), band: (usize, usize)) -> Result<()> {
    for (what, (height, width)) in [("image", from), ("bandwidth", band)] {
        if height == 0 || width == 0 {
            return Err(Error::ZeroSize { what, height, width });
        }
    }
    if band.0 > from.0 || band.1 > from.1 {
        return Err(Error::BandTooLarge {
            band_height: band.0,
            band_width: band.1,
            height: from.0,
            width: from.1,
        });
    }
    // Folded rows are padded to whole vectors, so the limit is above the plain count.
    elements(
        "image",
        (from.0.saturating_mul(2).saturating_add(64), from.1.saturating_mul(2).saturating_add(64)),
        16,
    )
    .map(drop)
}

/// Compares the multiplications of both backends, weighted by their measured rates.
fn separable_is_faster(height: AxisShape, width: AxisShape) -> bool {
    let [h, w, p, q, b] = [height.n, width.n, height.p, width.p, width.b].map(|x| x as f64);
    let separable = 0.5 * (w * h * p + p * w * q);
    let line = |len: f64| len * len.log2().max(1.0);
    let transforms = h * line(w) + b * (line(h) + line(p)) + p * line(q);
    let smooth = [height.n, width.n, height.p, width.p].into_iter().all(has_small_factors);
    separable < transforms * if smooth { SMOOTH_COST } else { ROUGH_COST }
}

/// Time of one unit of `transforms` over the time of one folded multiplication, if every length has
/// small prime factors, and if not. Measured single-threaded with AVX-512, 211 to
/// 2048 pixels a side.
const SMOOTH_COST: f64 = 20.0;
const ROUGH_COST: f64 = 45.0;

fn has_small_factors(mut len: usize) -> bool {
    for factor in [2, 3, 5, 7, 11, 13] {
        while len.is_multiple_of(factor) {
            len /= factor;
        }
    }
    len == 1
}
