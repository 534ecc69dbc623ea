//! Kernels of convolutions to planes, and the gradients of planes back.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use pulp::{Simd, WithSimd};

use super::lines::{KernelGradientTransform, KernelTransform, square};
use super::planes::{MAX_LANES, lanes, read, write};
use super::{EDGE, PLANES};
use crate::ops::kernels::product::{PANEL_DEPTH, panel_columns};
use crate::ops::kernels::{Compute, parallel};

/// Rows and columns of a kernel.
const KERNEL: usize = 3;
const TAPS: usize = KERNEL * KERNEL;

/// A kernel as one matrix for each of its taps, from inner indices to columns.
#[derive(Clone, Copy)]
pub(super) struct Taps<'a, T> {
    /// The weight `[o, c, 3, 3]`.
    pub(super) w: &'a [T],
    /// Inner indices, and columns.
    pub(super) k: usize,
    pub(super) n: usize,
    /// Distance of two inner indices and of two columns in `w`.
    pub(super) stride: [usize; 2],
    /// Taps in reverse order.
    pub(super) flipped: bool,
}

/// Transformed kernel: for each panel of columns and piece of inner indices, the panel of each plane.
pub(super) struct KernelPlanes<T> {
    data: Vec<T>,
    layout: Layout,
}

/// Where the panels are.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// Inner indices.
    k: usize,
    /// Columns of a panel.
    pub(super) columns: usize,
    /// Inner indices of a piece; the last one may have fewer.
    pub(super) depth: usize,
    /// Distance of the panels of two planes: a cache line more than a panel, so that the same element
    /// of all planes does not fall into the same set of a cache.
    distance: usize,
}

impl Layout {
    fn new<T: Compute>(k: usize) -> Self {
        let columns = panel_columns::<T>();
        let depth = k.div_ceil(k.div_ceil(PANEL_DEPTH).max(1)).max(1);
        Self { k, columns, depth, distance: depth * columns + 64 / size_of::<T>() }
    }

    /// Numbers of all pieces and planes of a panel.
    fn panel(&self) -> usize {
        self.k.div_ceil(self.depth) * PLANES * self.distance
    }
}

impl<T: Compute> KernelPlanes<T> {
    pub(super) fn new(taps: Taps<T>) -> Self {
        let layout = Layout::new::<T>(taps.k);
        let len = taps.n.div_ceil(layout.columns) * layout.panel();
        let mut data = Vec::with_capacity(len);
        parallel::chunks_mut(&mut data.spare_capacity_mut()[..len], layout.panel(), &|i, panel| {
            let first = i * layout.columns;
            pulp::Arch::new().dispatch(Pack { taps, first, layout, out: panel });
        });
        // SAFETY: `Pack` wrote all of each panel.
        unsafe { data.set_len(len) };
        Self { data, layout }
    }

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// The panel of a plane that begins at inner index `k`, the first of a piece.
    pub(super) fn panel(&self, panel: usize, plane: usize, k: usize) -> &[T] {
        let Layout { depth, columns, distance, .. } = self.layout;
        let start = panel * self.layout.panel() + (k / depth * PLANES + plane) * distance;
        &self.data[start..][..depth.min(self.layout.k - k) * columns]
    }
}

/// Fills one panel of columns.
struct Pack<'a, T> {
    taps: Taps<'a, T>,
    /// First column.
    first: usize,
    layout: Layout,
    out: &'a mut [MaybeUninit<T>],
}

impl<T: Compute> Pack<'_, T> {
    /// The taps of one inner index, for some columns from `column` on; zero where there are none.
    #[inline(always)]
    fn numbers(&self, inner: usize, column: usize, lanes: usize) -> [[T; MAX_LANES]; TAPS] {
        let Taps { w, n, stride, flipped, .. } = self.taps;
        let mut numbers = [[T::ZERO; MAX_LANES]; TAPS];
        for lane in 0..lanes.min(n.saturating_sub(column)) {
            let taps = &w[inner * stride[0] + (column + lane) * stride[1]..][..TAPS];
            for (tap_index, &tap) in taps.iter().enumerate() {
                numbers[if flipped { TAPS - 1 - tap_index } else { tap_index }][lane] = tap;
            }
        }
        numbers
    }
}

impl<T: Compute> WithSimd for Pack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (lanes, zero) = (lanes::<T, S>(), T::ZERO.splat(simd));
        let Layout { k, columns, depth, distance } = self.layout;
        for inner in 0..depth * k.div_ceil(depth) {
            let start = inner / depth * PLANES * distance + inner % depth * columns;
            for column in (0..columns).step_by(lanes) {
                let mut x = [[zero; KERNEL]; KERNEL];
                if inner < k {
                    let numbers = self.numbers(inner, self.first + column, lanes);
                    for (x, numbers) in x.as_flattened_mut().iter_mut().zip(&numbers) {
                        *x = read::<_, T, S>(numbers);
                    }
                }
                let planes = square::<KernelTransform, T, S, KERNEL, EDGE>(simd, &x);
                for (plane, vector) in planes.as_flattened().iter().enumerate() {
                    write::<T, T, S>(*vector, &mut self.out[start + plane * distance + column..]);
                }
            }
        }
        for gap in self.out.chunks_exact_mut(distance) {
            gap[depth * columns..].fill(MaybeUninit::new(T::ZERO));
        }
    }
}

/// Gradient of the weight `[o, c, 3, 3]` from those of its planes, each `[o, c]`.
pub(super) fn gradient<T: Compute>(planes: &[T], [o, c]: [usize; 2]) -> Vec<T> {
    assert!(planes.len() == PLANES * o * c && c.is_multiple_of(MAX_LANES), "planes of another kernel");
    let mut out = vec![T::ZERO; o * c * TAPS];
    parallel::chunks_mut(&mut out, c * TAPS, &|row, out| {
        pulp::Arch::new().dispatch(Unpack { planes, distance: o * c, first: row * c, out });
    });
    out
}

/// Fills the gradient of one result's taps.
struct Unpack<'a, T> {
    planes: &'a [T],
    distance: usize,
    first: usize,
    out: &'a mut [T],
}

impl<T: Compute> WithSimd for Unpack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (lanes, zero) = (lanes::<T, S>(), T::ZERO.splat(simd));
        for (i, out) in self.out.chunks_exact_mut(lanes * TAPS).enumerate() {
            let mut sums = [[zero; EDGE]; EDGE];
            for (plane, sum) in sums.as_flattened_mut().iter_mut().enumerate() {
                *sum = read::<_, T, S>(&self.planes[plane * self.distance + self.first + i * lanes..]);
            }
            let taps = square::<KernelGradientTransform, T, S, EDGE, KERNEL>(simd, &sums);
            for (tap_index, vector) in taps.as_flattened().iter().enumerate() {
                let mut numbers = [T::ZERO; MAX_LANES];
                // SAFETY: a vector has at most as many lanes.
                unsafe { numbers.as_mut_ptr().cast::<T::Vector<S>>().write_unaligned(*vector) };
                for (lane, &number) in numbers.iter().enumerate().take(lanes) {
                    out[lane * TAPS + tap_index] = number;
                }
            }
        }
    }
}
