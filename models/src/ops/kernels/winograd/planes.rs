//! Tiles of images to and from the planes that are multiplied.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::lines::{InputTransform, LineTransform, OutputTransform, square};
use super::{EDGE, PLANES, RESULT};
use crate::ops::kernels::{Compute, Storage};

/// Most lanes of a vector; the channels of images are multiples of it.
pub(super) const MAX_LANES: usize = 16;

pub(super) const fn lanes<T: Compute, S: Simd>() -> usize {
    size_of::<T::Vector<S>>() / size_of::<T>()
}

/// Reads a vector of numbers, which may be stored in another type.
#[inline(always)]
pub(super) fn read<T: Compute, R: Storage<Real = T>, S: Simd>(from: &[R]) -> T::Vector<S> {
    let from = &from[..lanes::<T, S>()];
    if let Some(numbers) = R::as_compute(from) {
        // SAFETY: the slice holds as many numbers as the vector.
        return unsafe { numbers.as_ptr().cast::<T::Vector<S>>().read_unaligned() };
    }
    let mut held = [T::ZERO; MAX_LANES];
    for (to, from) in held.iter_mut().zip(from) {
        *to = from.load();
    }
    // SAFETY: a vector has at most as many lanes.
    unsafe { held.as_ptr().cast::<T::Vector<S>>().read_unaligned() }
}

/// Writes a vector to memory of its length, rounding the numbers if they are stored in another type.
#[inline(always)]
pub(super) fn write<T: Compute, R: Storage<Real = T>, S: Simd>(
    vector: T::Vector<S>,
    to: &mut [MaybeUninit<R>],
) {
    let to = &mut to[..lanes::<T, S>()];
    if R::EXACT {
        // SAFETY: the slice holds as many numbers as the vector, and they are of its type.
        return unsafe { to.as_mut_ptr().cast::<T::Vector<S>>().write_unaligned(vector) };
    }
    let mut held = [T::ZERO; MAX_LANES];
    // SAFETY: a vector has at most as many lanes.
    unsafe { held.as_mut_ptr().cast::<T::Vector<S>>().write_unaligned(vector) };
    for (to, from) in to.iter_mut().zip(held) {
        to.write(R::store(from));
    }
}

/// Division of a picture into tiles of [`RESULT`] x [`RESULT`] pixels, image by image and row by row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    /// Number of images.
    pub(super) n: usize,
    /// Height and width of an image.
    pub(super) size: [usize; 2],
}

impl Grid {
    /// Rows and columns of tiles of an image.
    fn tiles(&self) -> [usize; 2] {
        self.size.map(|size| size.div_ceil(RESULT))
    }

    /// Rows of tiles of all images.
    pub(super) fn rows(&self) -> usize {
        self.n * self.tiles()[0]
    }

    /// Tiles of a row.
    pub(super) fn columns(&self) -> usize {
        self.tiles()[1]
    }

    /// Tiles of all images.
    pub(super) fn len(&self) -> usize {
        self.rows() * self.columns()
    }

    /// Image of a tile, and its first pixel there.
    #[inline(always)]
    fn place(&self, tile: usize) -> (usize, [usize; 2]) {
        let [rows, columns] = self.tiles();
        let (row, column) = (tile / columns, tile % columns);
        (row / rows, [row % rows * RESULT, column * RESULT])
    }

    /// Number of pixel rows, of all images, before a row of tiles.
    pub(super) fn pixel_row(&self, row: usize) -> usize {
        let rows = self.tiles()[0];
        row / rows * self.size[0] + row % rows * RESULT
    }
}

/// The planes of some tiles: [`PLANES`] matrices with a row for each tile and a column for each
/// channel.
#[derive(Clone, Copy)]
pub(super) struct Planes<T> {
    start: *mut T,
    /// Rows of a plane that there is memory for.
    rows: usize,
    /// Distance of two rows.
    pub(super) width: usize,
    /// Distance of two planes.
    pub(super) distance: usize,
}

// SAFETY: tasks on other threads only write rows, each of them by one task alone (`ToPlanes::run`).
unsafe impl<T: Send> Sync for Planes<T> {}

impl<T> Planes<T> {
    /// Planes in memory for [`Self::len`] numbers, which outlives them.
    pub(super) fn new(memory: &mut [MaybeUninit<T>], rows: usize, width: usize) -> Self {
        assert!(memory.len() >= Self::len(rows, width), "planes need more memory");
        let distance = Self::distance(rows, width);
        Self { start: memory.as_mut_ptr().cast(), rows, width, distance }
    }

    /// Numbers of all planes.
    pub(super) fn len(rows: usize, width: usize) -> usize {
        PLANES * Self::distance(rows, width)
    }

    /// The first `count` rows of a plane.
    ///
    /// # Safety
    /// They have been written, and nothing writes to them while the slice is in use.
    pub(super) unsafe fn rows<'a>(self, plane: usize, count: usize) -> &'a [T] {
        assert!(plane < PLANES && count <= self.rows, "a plane has fewer rows");
        // SAFETY: the memory of the rows is there and was written, as the caller promises.
        unsafe { std::slice::from_raw_parts(self.start.add(plane * self.distance), count * self.width) }
    }

    /// A cache line more than a plane, so that the same element of all planes does not fall into
    /// the same set of a cache.
    fn distance(rows: usize, width: usize) -> usize {
        rows * width + 64 / size_of::<T>()
    }
}

/// Images that tiles are taken from.
#[derive(Clone, Copy)]
pub(super) struct Image<'a, R> {
    /// Pixels `[n, h, w, c]`.
    pub(super) x: &'a [R],
    /// Height and width.
    pub(super) size: [usize; 2],
    pub(super) c: usize,
    /// Pixels outside the image before its first row and column, which are zero.
    pub(super) pad: usize,
    /// A pixel outside.
    pub(super) zeros: &'a [R],
}

impl<'a, R> Image<'a, R> {
    /// The window of a tile, pixel by pixel.
    #[inline(always)]
    fn window<const N: usize>(&self, (image, first): (usize, [usize; 2])) -> [[&'a [R]; N]; N] {
        let [h, w] = self.size;
        let mut window = [[self.zeros; N]; N];
        for (i, row) in window.iter_mut().enumerate() {
            let y = (first[0] + i).wrapping_sub(self.pad);
            if y >= h {
                continue;
            }
            for (j, pixel) in row.iter_mut().enumerate() {
                let x = (first[1] + j).wrapping_sub(self.pad);
                if x < w {
                    *pixel = &self.x[((image * h + y) * w + x) * self.c..][..self.c];
                }
            }
        }
        window
    }
}

/// Windows of `N` x `N` pixels, mapped by `M` to the planes.
pub(super) struct ToPlanes<'a, M, R: Storage, const N: usize> {
    image: &'a Image<'a, R>,
    grid: Grid,
    tiles: Range<usize>,
    to: Planes<R::Real>,
    /// Row of the planes that the first tile goes to.
    first: usize,
    map: std::marker::PhantomData<M>,
}

impl<'a, M: LineTransform<N, EDGE>, R: Storage, const N: usize> ToPlanes<'a, M, R, N> {
    /// Fills the rows from `first` on with the tiles `tiles`.
    ///
    /// # Safety
    /// The planes' memory is there, and nothing else touches these rows meanwhile.
    pub(super) unsafe fn run(
        image: &'a Image<'a, R>,
        grid: Grid,
        tiles: Range<usize>,
        to: Planes<R::Real>,
        first: usize,
    ) {
        assert!(first + tiles.len() <= to.rows && to.width == image.c, "tiles are not in the planes");
        assert!(image.c.is_multiple_of(MAX_LANES) && image.zeros.len() >= image.c, "channels fill no vector");
        pulp::Arch::new().dispatch(Self { image, grid, tiles, to, first, map: std::marker::PhantomData });
    }
}

impl<M: LineTransform<N, EDGE>, R: Storage, const N: usize> WithSimd for ToPlanes<'_, M, R, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let zero = R::Real::ZERO.splat(simd);
        for (row, tile) in self.tiles.clone().enumerate() {
            let window = self.image.window::<N>(self.grid.place(tile));
            let to = (self.first + row) * self.to.width;
            for channel in (0..self.image.c).step_by(lanes::<R::Real, S>()) {
                let mut x = [[zero; N]; N];
                for i in 0..N {
                    for j in 0..N {
                        x[i][j] = read::<_, R, S>(&window[i][j][channel..]);
                    }
                }
                let y = square::<M, R::Real, S, N, EDGE>(simd, &x);
                for (plane, y) in y.as_flattened().iter().enumerate() {
                    // SAFETY: `run` checked that row and channels are in each plane, and its caller
                    // that they are this task's alone.
                    unsafe {
                        let to = self.to.start.add(plane * self.to.distance + to + channel);
                        to.cast::<<R::Real as Compute>::Vector<S>>().write_unaligned(*y);
                    }
                }
            }
        }
    }
}

/// The planes of images.
pub(super) type InputToPlanes<'a, R> = ToPlanes<'a, InputTransform, R, EDGE>;

/// Numbers that are added to the pixels of images.
#[derive(Clone, Copy)]
pub(super) struct Addend<'a, O: Storage> {
    /// One for each channel.
    pub(super) bias: Option<&'a [O::Real]>,
    /// One for each channel of each pixel of all images.
    pub(super) pixels: Option<&'a [O]>,
}

/// Planes of whole rows of tiles, mapped to the pixels of images.
pub(super) struct FromPlanes<'a, O: Storage> {
    /// Planes, one after another, with a row for each tile.
    pub(super) from: &'a [O::Real],
    pub(super) distance: usize,
    pub(super) plus: Addend<'a, O>,
    pub(super) grid: Grid,
    /// Rows of tiles.
    pub(super) rows: Range<usize>,
    pub(super) c: usize,
    /// Pixels of these rows.
    pub(super) out: &'a mut [MaybeUninit<O>],
}

impl<O: Storage> FromPlanes<'_, O> {
    /// Writes all pixels of the rows.
    pub(super) fn run(self) {
        pulp::Arch::new().dispatch(self);
    }
}

impl<O: Storage> WithSimd for FromPlanes<'_, O> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { from, distance, plus, grid, rows, c, out } = self;
        let ([h, w], columns) = (grid.size, grid.columns());
        let before = grid.pixel_row(rows.start);
        let zero = O::Real::ZERO.splat(simd);
        for (row, tile) in (rows.start * columns..rows.end * columns).enumerate() {
            let (image, [y, x]) = grid.place(tile);
            let (height, width) = (RESULT.min(h - y), RESULT.min(w - x));
            let first = (image * h + y - before) * w + x;
            for channel in (0..c).step_by(lanes::<O::Real, S>()) {
                let mut sums = [[zero; EDGE]; EDGE];
                for (plane, sum) in sums.as_flattened_mut().iter_mut().enumerate() {
                    *sum = read::<_, O::Real, S>(&from[plane * distance + row * c + channel..]);
                }
                let pixels = square::<OutputTransform, O::Real, S, EDGE, RESULT>(simd, &sums);
                let bias = plus.bias.map_or(zero, |bias| read::<_, O::Real, S>(&bias[channel..]));
                for (i, line) in pixels.iter().enumerate().take(height) {
                    for (j, &pixel) in line.iter().enumerate().take(width) {
                        let at = (first + i * w + j) * c + channel;
                        let mut pixel = O::Real::add_lanes(simd, pixel, bias);
                        if let Some(more) = plus.pixels {
                            let more = read::<_, O, S>(&more[before * w * c + at..]);
                            pixel = O::Real::add_lanes(simd, pixel, more);
                        }
                        write::<_, O, S>(pixel, &mut out[at..]);
                    }
                }
            }
        }
    }
}
