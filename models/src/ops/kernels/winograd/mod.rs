//! Winograd convolution (minimal filtering; Lavin and Gray, 2016) for kernels of 3x3 and stride 1:
//! tiles of 4x4 pixels of the result take 36 multiplications in place of 144.
//!
//! A tile sees 6x6 pixels. A linear map makes 36 numbers of them, another one 36 of the kernel; the
//! sums over channels of their products are mapped to the pixels of the result. So there are 36
//! matrix products of a row for each tile, and the numbers at one place of all tiles form a plane.
//! The gradients go the same way: that of the image is a convolution itself, that of the kernel
//! comes back through the transposed maps.
//!
//! In single precision the error is some four times that of the plain sums: relative to the root mean
//! square of all results, that of the errors is 1e-6 to 2e-6 with 256 channels. A result depends on
//! its own image alone, and not on how many others there are.
#![allow(unsafe_code)]

mod kernel;
mod lines;
mod planes;
#[cfg(test)]
mod tests;

use std::mem::MaybeUninit;
use std::ops::Range;

use kernel::{KernelPlanes, Taps};
use lines::OutputGradientTransform;
use planes::{Addend, FromPlanes, Grid, Image, InputToPlanes, MAX_LANES, Planes, ToPlanes};

use super::conv::Geometry;
use super::product::{Left, Right, panel_product, panel_rows, product_serial, product_serial_onto};
use super::{Compute, Storage, parallel};

/// Rows and columns of pixels of the result that a tile computes, and of those that it sees.
const RESULT: usize = 4;
const EDGE: usize = 6;
/// Numbers of a tile.
const PLANES: usize = EDGE * EDGE;

/// Tiles of a task: their planes fit a large cache, and each panel of the kernel serves many of them.
const TASK_TILES: usize = 64;
/// Bytes of the planes that are held for the gradient of a kernel.
const HELD: usize = 32 << 20;
/// Results of a task of a kernel's gradient.
const TASK_RESULTS: usize = 128;

/// Multiplications that an image must save for each pair of channels, in products that are as fast as
/// those over windows: the kernel has to be transformed, whatever the number of images. Measured for
/// batches of 8 and 32 on two cores.
const LEAST_SAVING: usize = 190;
/// The same for a transformed kernel that no cache holds, of more bytes than [`LARGE_KERNEL`].
const LEAST_SAVING_LARGE: usize = 600;
const LARGE_KERNEL: usize = 16 << 20;

/// Tells if a convolution is faster this way. A function of the shape of one image, so that the
/// number of images does not change a result.
pub(crate) fn is_faster(g: &Geometry) -> bool {
    if (g.kh, g.kw, g.stride, g.dilation) != (3, 3, 1, 1) || g.pad > 2 {
        return false;
    }
    let tiles = g.ho.div_ceil(RESULT) * g.wo.div_ceil(RESULT);
    // Transforms make a tile cost a tenth more than its products.
    let saving = (9 * g.ho * g.wo).saturating_sub(40 * tiles);
    let large = size_of::<f32>() * PLANES * g.c * g.o > LARGE_KERNEL;
    let channels = g.c.is_multiple_of(MAX_LANES) && g.o.is_multiple_of(MAX_LANES);
    channels && saving > if large { LEAST_SAVING_LARGE } else { LEAST_SAVING }
}

/// `y = conv(x, w) + bias`, for the weight `[o, c, 3, 3]`.
pub(crate) fn forward<S: Storage>(x: &[S], w: &[S::Real], bias: Option<&[S::Real]>, g: &Geometry) -> Vec<S> {
    let taps = Taps { w, k: g.c, n: g.o, stride: [9, g.c * 9], flipped: false };
    let zeros = vec![S::store(S::Real::ZERO); g.c];
    let image = Image { x, size: [g.h, g.w], c: g.c, pad: g.pad, zeros: &zeros };
    convolve(&image, Grid { n: g.n, size: [g.ho, g.wo] }, taps, Addend { bias, pixels: None })
}

/// Gradient of the image, plus `onto`.
pub(crate) fn backward_data<S: Storage>(dy: &[S], w: &[S::Real], onto: Option<&[S]>, g: &Geometry) -> Vec<S> {
    let taps = Taps { w, k: g.o, n: g.c, stride: [g.c * 9, 9], flipped: true };
    let zeros = vec![S::store(S::Real::ZERO); g.o];
    let image = Image { x: dy, size: [g.ho, g.wo], c: g.o, pad: 2 - g.pad, zeros: &zeros };
    convolve(&image, Grid { n: g.n, size: [g.h, g.w] }, taps, Addend { bias: None, pixels: onto })
}

fn convolve<S: Storage>(image: &Image<S>, grid: Grid, taps: Taps<S::Real>, plus: Addend<S>) -> Vec<S> {
    let (k, n) = (taps.k, taps.n);
    let kernel = KernelPlanes::new(taps);
    let len = grid.pixel_row(grid.rows()) * grid.size[1] * n;
    let mut out = Vec::with_capacity(len);
    let mut tasks = tasks(grid, n, &mut out.spare_capacity_mut()[..len]);
    parallel::chunks_mut(&mut tasks, 1, &|_, task| {
        for (rows, out) in task {
            let tiles = rows.start * grid.columns()..rows.end * grid.columns();
            S::Real::with_scratch(|scratch| {
                let (count, whole) = (tiles.len(), tiles.len().next_multiple_of(panel_rows::<S::Real>()));
                let (left, right) = (Planes::<S::Real>::len(whole, k), Planes::<S::Real>::len(count, n));
                if scratch.len() < left + right {
                    scratch.resize(left + right, S::Real::ZERO);
                }
                let (left, sums) = scratch.split_at_mut(left);
                let sums = &mut sums[..right];
                // SAFETY: planes are only written with numbers, and `left` is this task's alone.
                let planes = unsafe {
                    let planes = Planes::new(uninit(left), whole, k);
                    InputToPlanes::run(image, grid, tiles, planes, 0);
                    planes
                };
                let distance = multiply(left, planes.distance, &kernel, sums, [count, k, n]);
                let rows = rows.clone();
                FromPlanes { from: sums, distance, plus, grid, rows, c: n, out }.run();
            });
        }
    });
    // SAFETY: the tasks wrote all pixels.
    unsafe { out.set_len(len) };
    out
}

/// Sums of `count` tiles: for each plane the product of `count` x `k` by `k` x `n`. Returns the
/// distance of the planes of sums.
fn multiply<T: Compute>(
    left: &[T],
    left_distance: usize,
    kernel: &KernelPlanes<T>,
    sums: &mut [T],
    [count, k, n]: [usize; 3],
) -> usize {
    let distance = sums.len() / PLANES;
    let (columns, depth) = (kernel.layout().columns, kernel.layout().depth);
    for plane in 0..PLANES {
        let left = &left[plane * left_distance..];
        let sums = &mut sums[plane * distance..][..count * n];
        for (panel, column) in (0..n).step_by(columns).enumerate() {
            for from in (0..k).step_by(depth) {
                panel_product(
                    [count, columns.min(n - column), depth.min(k - from)],
                    (&left[from..], k),
                    kernel.panel(panel, plane, from),
                    (&mut sums[column..], n),
                    from > 0,
                );
            }
        }
    }
    distance
}

/// Rows of tiles, and the pixels that they compute.
type Task<'a, S> = (Range<usize>, &'a mut [MaybeUninit<S>]);

/// Divides the tiles into tasks of whole rows, for results of `n` channels.
fn tasks<S>(grid: Grid, n: usize, mut out: &mut [MaybeUninit<S>]) -> Vec<Task<'_, S>> {
    let fair = grid.len().div_ceil(2 * rayon::current_num_threads());
    let rows = (TASK_TILES.min(fair) / grid.columns().max(1)).max(1);
    let mut tasks = Vec::new();
    for first in (0..grid.rows()).step_by(rows) {
        let rows = first..grid.rows().min(first + rows);
        let pixels = (grid.pixel_row(rows.end) - grid.pixel_row(rows.start)) * grid.size[1];
        let (part, rest) = out.split_at_mut(pixels * n);
        tasks.push((rows, part));
        out = rest;
    }
    tasks
}

/// The same memory, to be written.
///
/// # Safety
/// Only initialized numbers are written to it.
unsafe fn uninit<T: Copy>(memory: &mut [T]) -> &mut [MaybeUninit<T>] {
    // SAFETY: both types have the same layout, and the caller keeps the numbers initialized.
    unsafe { &mut *(std::ptr::from_mut(memory) as *mut [MaybeUninit<T>]) }
}

/// Gradient of the weight `[o, c, 3, 3]`.
pub(crate) fn backward_weight<S: Storage>(x: &[S], dy: &[S], g: &Geometry) -> Vec<S::Real> {
    let zeros = vec![S::store(S::Real::ZERO); g.c.max(g.o)];
    let images = Image { x, size: [g.h, g.w], c: g.c, pad: g.pad, zeros: &zeros };
    let gradients = Image { x: dy, size: [g.ho, g.wo], c: g.o, pad: 0, zeros: &zeros };
    let grid = Grid { n: g.n, size: [g.ho, g.wo] };
    // A function of the shape alone, because the order of the sum depends on it.
    let at_once = (HELD / (PLANES * (g.c + g.o) * size_of::<S::Real>())).clamp(1, grid.len().max(1));
    let (of_x, of_dy) = (Planes::<S::Real>::len(at_once, g.c), Planes::<S::Real>::len(at_once, g.o));
    let mut memory: Vec<S::Real> = Vec::with_capacity(of_x + of_dy);
    let (room_x, room_dy) = memory.spare_capacity_mut()[..of_x + of_dy].split_at_mut(of_x);
    let (to_x, to_dy) = (Planes::new(room_x, at_once, g.c), Planes::new(room_dy, at_once, g.o));
    let mut sums = vec![S::Real::ZERO; PLANES * g.o * g.c];
    for first in (0..grid.len()).step_by(at_once) {
        let count = at_once.min(grid.len() - first);
        let part = count.div_ceil(4 * rayon::current_num_threads()).max(8);
        parallel::for_each(count.div_ceil(part), &|i| {
            let rows = i * part..count.min((i + 1) * part);
            let tiles = first + rows.start..first + rows.end;
            // SAFETY: `memory` lives until the planes have been read and is used through them alone, and tasks
            // have rows of their own.
            unsafe {
                InputToPlanes::run(&images, grid, tiles.clone(), to_x, rows.start);
                ToPlanes::<OutputGradientTransform, S, RESULT>::run(
                    &gradients, grid, tiles, to_dy, rows.start,
                );
            }
        });
        // SAFETY: all rows below `count` were written, for all channels.
        unsafe { multiply_planes([to_dy, to_x], count, first > 0, &mut sums) };
    }
    kernel::gradient(&sums, [g.o, g.c])
}

/// Adds `a^T * b` to, or stores it in, each plane of `sums`, for the first `count` rows.
///
/// # Safety
/// These rows of the planes have been written, and nothing writes to them.
unsafe fn multiply_planes<T: Compute>([a, b]: [Planes<T>; 2], count: usize, add: bool, sums: &mut [T]) {
    let (m, n) = (a.width, b.width);
    let mut tasks: Vec<(usize, usize, &mut [T])> = Vec::new();
    for (plane, sums) in sums.chunks_exact_mut(m * n).enumerate() {
        let parts = sums.chunks_mut(TASK_RESULTS * n).enumerate();
        tasks.extend(parts.map(|(i, part)| (plane, i * TASK_RESULTS, part)));
    }
    parallel::chunks_mut(&mut tasks, 1, &|_, task| {
        for (plane, first, out) in task {
            // SAFETY: the caller's promise.
            let (a, b) = unsafe { (a.rows(*plane, count), b.rows(*plane, count)) };
            let shape = (out.len() / n, n, count);
            let (a, b) = (Left::Columns(&a[*first..], m), Right::Rows(b, n));
            if add {
                product_serial_onto(shape, a, b, out, n);
            } else {
                product_serial(shape, a, b, out, n);
            }
        }
    });
}
