//! The separable backend: fold and multiply along the height, then along the width, then unfold.
//!
//! Each pass transforms the leading axis and moves it to the end, so two passes bring the image back upright:
//! `X[n, w] -> T[w, p] -> O[p, q]`, with p and q in folded order (even part, then odd part).
//!
//! A value near the middle of the image's is subtracted first and added last. Exact arithmetic would not notice, since a
//! constant image is kept as it is; rounding errors shrink with the size of the sums, by about half for photographs.

use std::marker::PhantomData;

use pulp::{Arch, Simd, WithSimd};

use crate::axis::Axis;
use crate::fold::{Columns, PANEL, fold};
use crate::image::{Geometry, Target};
use crate::kernel::{self, GROUP, Panel, multiply};
use crate::matrix::AxisShape;
use crate::real::{Real, Sample};
use crate::unfold::{Unfold, at_least};

/// Both axes, planned for the instruction set of this machine.
#[derive(Debug)]
pub(crate) struct Separable<T> {
    pub(crate) arch: Arch,
    pub(crate) height: Axis<T>,
    pub(crate) width: Axis<T>,
    /// Both kept sizes are even, so the unpaired frequencies leave a correction.
    pub(crate) corrected: bool,
}

/// Working memory; grows to what the largest image so far needed.
#[derive(Debug, Default)]
pub(crate) struct Workspace<T> {
    pub(crate) even: Vec<[T; GROUP]>,
    pub(crate) odd: Vec<[T; GROUP]>,
    /// `T[w, p]` for all channels.
    pub(crate) turned: Vec<T>,
    /// `O[p, q]` for all channels.
    pub(crate) folded: Vec<T>,
    pub(crate) lines: Vec<T>,
}

impl<T: Real> Separable<T> {
    pub(crate) fn new(height: AxisShape, width: AxisShape) -> Self {
        let arch = Arch::new();
        let (lanes, vectors) = arch.dispatch(kernel::Geometry::<T>(PhantomData));
        let corrected = height.b.is_multiple_of(2) && width.b.is_multiple_of(2);
        Self {
            arch,
            height: Axis::new(height, corrected, lanes, vectors),
            width: Axis::new(width, corrected, lanes, vectors),
            corrected,
        }
    }

    /// Runs one image. False if the result is not finite.
    pub(crate) fn run<E: Sample<T>, O: Target<T>>(
        &self,
        image: Geometry,
        input: &[E],
        output: &mut O,
        work: &mut Workspace<T>,
    ) -> bool {
        self.arch.dispatch(Run { plan: self, image, input, output, work })
    }
}

struct Run<'a, T, E, O> {
    plan: &'a Separable<T>,
    image: Geometry,
    input: &'a [E],
    output: &'a mut O,
    work: &'a mut Workspace<T>,
}

impl<T: Real, E: Sample<T>, O: Target<T>> WithSimd for Run<'_, T, E, O> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> bool {
        let Run { plan, image, input, output, work } = self;
        let (height, width) = (&plan.height, &plan.width);
        let Workspace { even, odd, turned, folded, lines } = work;
        let groups = PANEL / GROUP;
        at_least(even, groups * height.even_in().max(width.even_in()));
        at_least(odd, groups * height.odd_in().max(width.odd_in()));
        at_least(turned, image.channels * width.shape.n * height.width);
        at_least(folded, image.channels * height.width * width.width);
        let mut panels = (even.as_mut_slice(), odd.as_mut_slice());

        let offset = E::center(input);
        let planes = image.planes(width.shape.n);
        for plane in 0..planes.count {
            let from = Columns {
                data: input,
                base: plane * planes.input_step(height.shape.n),
                stride: planes.columns,
            };
            let start = plane * planes.columns * height.width;
            pass(simd, height, &from, (0, planes.columns), offset, &mut panels, &mut turned[start..]);
        }
        let (row, channel) = (planes.row_step * height.width, planes.channel_step * height.width);
        let parts = [(0, height.even_used), (height.odd_start, height.odd_used)];
        for c in 0..image.channels {
            let from = Columns { data: turned.as_slice(), base: c * channel, stride: row };
            for (first, count) in parts {
                let start = (c * height.width + first) * width.width;
                pass(simd, width, &from, (first, count), T::zero(), &mut panels, &mut folded[start..]);
            }
        }
        Unfold { plan, folded, channels: image.channels, offset }.write(lines, output)
    }
}

/// Transforms `count` columns from `first` on; column `first + i` becomes row i of `out`.
#[inline(always)]
fn pass<T: Real, E: Sample<T>, S: Simd>(
    simd: S,
    axis: &Axis<T>,
    from: &Columns<'_, E>,
    (first, count): (usize, usize),
    offset: T,
    (even, odd): &mut (&mut [[T; GROUP]], &mut [[T; GROUP]]),
    out: &mut [T],
) {
    let mut done = 0;
    while done < count {
        let columns = PANEL.min(count - done);
        fold(axis, from, (first + done, columns), offset, even, odd);
        let panel = Panel { even, odd, columns };
        multiply(simd, axis, &panel, &mut out[done * axis.width..]);
        done += columns;
    }
}
