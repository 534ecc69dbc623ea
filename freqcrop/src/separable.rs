//! The separable backend: fold and multiply along the height, then along the width, then unfold.
//!
//! Each pass transforms the leading axis and moves it to the end, so two passes bring the image
//! back upright: `X[n, w] -> T[w, p] -> O[p, q]`, with p and q in folded order (even part, then odd
//! part).
//!
//! A value near the middle of the image's is subtracted first and added last. In exact arithmetic
//! this changes nothing, since the operators keep a constant image; rounding errors shrink with the
//! size of the sums, by about half for photographs.

use std::marker::PhantomData;

use pulp::{Arch, Simd, WithSimd};

use crate::axis::FoldedAxis;
use crate::fold::{Columns, Fold, FoldBuffers, PANEL, Unchanged};
use crate::kernel::{GROUP, Panel, QueryTileLimits, multiply};
use crate::layout::{ChannelLayout, Planes, Target};
use crate::matrix::AxisShape;
use crate::real::{Real, Sample};
use crate::unfold::{Unfold, at_least};

/// Both axes, planned for the instruction set of this machine.
#[derive(Debug)]
pub(crate) struct Separable<T> {
    arch: Arch,
    pub(crate) height: FoldedAxis<T>,
    pub(crate) width: FoldedAxis<T>,
    /// Both kept sizes are even, so the unpaired frequencies require a correction.
    pub(crate) corrected: bool,
}

/// Working memory; grows to the needs of the largest image so far.
#[derive(Debug, Default)]
pub(crate) struct SeparableScratch<T> {
    even: Vec<[T; GROUP]>,
    odd: Vec<[T; GROUP]>,
    /// Columns before a resize.
    lines: Vec<[T; GROUP]>,
    /// `T[w, p]` for all channels.
    turned: Vec<T>,
    /// `O[p, q]` for all channels.
    folded: Vec<T>,
    unfolded: Vec<T>,
}

/// An image, or a part of one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ImageView<'a, E> {
    pub(crate) data: &'a [E],
    /// Index of the first element.
    pub(crate) start: usize,
    /// Elements from one row to the next.
    pub(crate) row_stride: usize,
    /// Elements from one plane to the next.
    pub(crate) plane_stride: usize,
    pub(crate) channels: usize,
    pub(crate) planes: Planes,
}

impl<T: Real> Separable<T> {
    pub(crate) fn new(height: AxisShape, width: AxisShape) -> Self {
        let arch = Arch::new();
        let limits = arch.dispatch(QueryTileLimits::<T>(PhantomData));
        let corrected = height.b.is_multiple_of(2) && width.b.is_multiple_of(2);
        Self {
            arch,
            height: FoldedAxis::new(height, corrected, limits),
            width: FoldedAxis::new(width, corrected, limits),
            corrected,
        }
    }

    /// Processes one whole image. Returns false if the result is not finite.
    pub(crate) fn run<E: Sample<T>, O: Target<T>>(
        &self,
        image: ChannelLayout,
        input: &[E],
        output: &mut O,
        scratch: &mut SeparableScratch<T>,
    ) -> bool {
        let planes = image.planes(self.width.shape.n);
        let image = ImageView {
            data: input,
            start: 0,
            row_stride: planes.columns,
            plane_stride: planes.columns * self.height.shape.n,
            channels: image.channels,
            planes,
        };
        self.run_folding(image, Unchanged, Unchanged, output, scratch)
    }

    /// Processes an image whose columns and rows pass through `height` and `width` before they are
    /// folded. Returns false if the result is not finite.
    pub(crate) fn run_folding<E: Sample<T>, F: Fold<T>, O: Target<T>>(
        &self,
        image: ImageView<'_, E>,
        height: F,
        width: F,
        output: &mut O,
        scratch: &mut SeparableScratch<T>,
    ) -> bool {
        self.arch.dispatch(Passes { plan: self, image, height, width, output, scratch })
    }
}

struct Passes<'a, T, E, F, O> {
    plan: &'a Separable<T>,
    image: ImageView<'a, E>,
    height: F,
    width: F,
    output: &'a mut O,
    scratch: &'a mut SeparableScratch<T>,
}

impl<T: Real, E: Sample<T>, F: Fold<T>, O: Target<T>> WithSimd for Passes<'_, T, E, F, O> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> bool {
        let Passes { plan, image, height: fold_height, width: fold_width, output, scratch } = self;
        let (height, width) = (&plan.height, &plan.width);
        let SeparableScratch { even, odd, lines, turned, folded, unfolded } = scratch;
        let (groups, planes) = (PANEL / GROUP, &image.planes);
        at_least(even, groups * height.even_in().max(width.even_in()));
        at_least(odd, groups * height.odd_in().max(width.odd_in()));
        at_least(turned, planes.count * planes.columns * height.width);
        at_least(folded, image.channels * height.width * width.width);
        let mut buffers = FoldBuffers { even, odd, lines };

        let offset = E::center(image.data);
        for plane in 0..planes.count {
            let from = Columns {
                data: image.data,
                base: image.start + plane * image.plane_stride,
                stride: image.row_stride,
            };
            let out = &mut turned[plane * planes.columns * height.width..];
            pass(simd, (height, fold_height), &from, (0, planes.columns), offset, &mut buffers, out);
        }
        let (row, channel) = (planes.row_step * height.width, planes.channel_step * height.width);
        let parts = [(0, height.even_used), (height.odd_start, height.odd_used)];
        for c in 0..image.channels {
            let from = Columns { data: turned.as_slice(), base: c * channel, stride: row };
            for (first, count) in parts {
                let out = &mut folded[(c * height.width + first) * width.width..];
                pass(simd, (width, fold_width), &from, (first, count), T::zero(), &mut buffers, out);
            }
        }
        Unfold { plan, folded, channels: image.channels, offset }.write(unfolded, output)
    }
}

/// Transforms `count` columns from `first` on; column `first + i` becomes row i of `out`.
#[inline(always)]
fn pass<T: Real, E: Sample<T>, F: Fold<T>, S: Simd>(
    simd: S,
    (axis, fold): (&FoldedAxis<T>, F),
    from: &Columns<'_, E>,
    (first, count): (usize, usize),
    offset: T,
    buffers: &mut FoldBuffers<'_, T>,
    out: &mut [T],
) {
    let mut done = 0;
    while done < count {
        let columns = PANEL.min(count - done);
        fold.fold(axis, from, (first + done, columns), offset, buffers);
        let panel = Panel { even: buffers.even, odd: buffers.odd, columns };
        multiply(simd, axis, &panel, &mut out[done * axis.width..]);
        done += columns;
    }
}
