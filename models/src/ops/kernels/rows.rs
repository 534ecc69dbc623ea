//! Loops over rows of channels and over flat buffers.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::{Mutex, PoisonError};

use super::lanes::lane_sum_zip;
use super::{Compute, FusedLoop, Storage, parallel, vectorized, vectorized_fused};

/// Elements that one task of a flat loop works on: a few L1 caches, so that the pool's overhead
/// vanishes.
pub(super) const FLAT: usize = 1 << 15;

/// Rows per partial sum: fixed, so that sums do not depend on the number of threads.
const BLOCK_ROWS: usize = 256;

/// A new vector whose blocks of `block` elements `work` fills; it gets the number of the first and
/// the block.
///
/// # Safety
/// `work` writes every element of its block.
pub(super) unsafe fn fill_blocks<T: Storage>(
    len: usize,
    block: usize,
    work: impl Fn(usize, &mut [MaybeUninit<T>]) + Sync,
) -> Vec<T> {
    let mut out = Vec::with_capacity(len);
    let room = &mut out.spare_capacity_mut()[..len];
    parallel::chunks_mut(room, block, &|i, out| {
        vectorized(
            #[inline(always)]
            || work(i * block, out),
        );
    });
    // SAFETY: the blocks cover all `len` elements, and the caller promises that each was written.
    unsafe { out.set_len(len) };
    out
}

/// `y = f(x)`, element by element. What `f` captures by reference would be read again for each element,
/// and nothing would be vectorized; so it has to be a `move` closure, here and in the loops below.
pub(crate) fn map<S: Storage>(x: &[S], f: impl Fn(S::Real) -> S::Real + Copy + Sync) -> Vec<S> {
    // SAFETY: each block is as long as the part of `x` that it is filled from.
    unsafe {
        fill_blocks(
            x.len(),
            FLAT,
            #[inline(always)]
            |first, y| {
                let (x, f) = (&x[first..first + y.len()], f);
                for (y, &x) in y.iter_mut().zip(x) {
                    y.write(S::store(f(x.load())));
                }
            },
        )
    }
}

/// An element-wise function and its derivative.
pub(crate) trait Curve: Send + Sync + 'static {
    fn value<T: Compute, const FUSED: bool>(x: T) -> T;
    /// Derivative at `x` times `g`.
    fn slope<T: Compute, const FUSED: bool>(x: T, g: T) -> T;
}

/// `y = C(x)`, element by element.
pub(crate) fn curve<C: Curve, S: Storage>(x: &[S]) -> Vec<S> {
    let mut out = Vec::with_capacity(x.len());
    parallel::chunks_mut(&mut out.spare_capacity_mut()[..x.len()], FLAT, &|i, y| {
        let x = &x[i * FLAT..][..y.len()];
        vectorized_fused(Values::<C, S> { x, y, curve: PhantomData });
    });
    // SAFETY: the blocks cover all elements, and each of them was written.
    unsafe { out.set_len(x.len()) };
    out
}

/// The derivative of `C` at `x` times `g`, element by element.
pub(crate) fn curve_slope<C: Curve, S: Storage>(x: &[S], g: &[S]) -> Vec<S> {
    assert_eq!(x.len(), g.len(), "element-wise operands differ in length");
    let mut out = Vec::with_capacity(x.len());
    parallel::chunks_mut(&mut out.spare_capacity_mut()[..x.len()], FLAT, &|i, y| {
        let range = i * FLAT..i * FLAT + y.len();
        vectorized_fused(Slopes::<C, S> { x: &x[range.clone()], g: &g[range], y, curve: PhantomData });
    });
    // SAFETY: the blocks cover all elements, and each of them was written.
    unsafe { out.set_len(x.len()) };
    out
}

struct Values<'a, C, S> {
    x: &'a [S],
    y: &'a mut [MaybeUninit<S>],
    curve: PhantomData<C>,
}

impl<C: Curve, S: Storage> FusedLoop for Values<'_, C, S> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for (y, &x) in self.y.iter_mut().zip(self.x) {
            y.write(S::store(C::value::<S::Real, FUSED>(x.load())));
        }
    }
}

struct Slopes<'a, C, S> {
    x: &'a [S],
    g: &'a [S],
    y: &'a mut [MaybeUninit<S>],
    curve: PhantomData<C>,
}

impl<C: Curve, S: Storage> FusedLoop for Slopes<'_, C, S> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for ((y, &x), &g) in self.y.iter_mut().zip(self.x).zip(self.g) {
            y.write(S::store(C::slope::<S::Real, FUSED>(x.load(), g.load())));
        }
    }
}

/// The same numbers, stored in another way.
pub(crate) fn convert<S: Storage, O: Storage<Real = S::Real>>(x: &[S]) -> Vec<O> {
    // SAFETY: each block is as long as the part of `x` that it is filled from.
    unsafe {
        fill_blocks(
            x.len(),
            FLAT,
            #[inline(always)]
            |first, y| {
                let x = &x[first..first + y.len()];
                for (y, &x) in y.iter_mut().zip(x) {
                    y.write(O::store(x.load()));
                }
            },
        )
    }
}

/// `z = f(x, y)`, element by element, stored as `x` is.
pub(crate) fn zip<S: Storage, R: Storage<Real = S::Real>>(
    x: &[S],
    y: &[R],
    f: impl Fn(S::Real, S::Real) -> S::Real + Copy + Sync,
) -> Vec<S> {
    assert_eq!(x.len(), y.len(), "element-wise operands differ in length");
    // SAFETY: each block is as long as the parts of `x` and `y` that it is filled from.
    unsafe {
        fill_blocks(
            x.len(),
            FLAT,
            #[inline(always)]
            |first, z| {
                let (x, y, f) = (&x[first..first + z.len()], &y[first..first + z.len()], f);
                for ((z, &x), &y) in z.iter_mut().zip(x).zip(y) {
                    z.write(S::store(f(x.load(), y.load())));
                }
            },
        )
    }
}

/// `rows` rows of `c` elements: `row(r)` gives the function from a column to the element of row
/// `r`.
pub(crate) fn by_row<S: Storage, F: Fn(usize) -> S::Real>(
    rows: usize,
    c: usize,
    row: impl Fn(usize) -> F + Sync,
) -> Vec<S> {
    let height = (FLAT / c.max(1)).clamp(1, BLOCK_ROWS);
    // SAFETY: blocks are whole rows, and each element of a row is written.
    unsafe {
        fill_blocks(
            rows * c,
            height * c.max(1),
            #[inline(always)]
            |first, out| {
                for (i, out) in out.chunks_exact_mut(c).enumerate() {
                    let element = row(first / c + i);
                    for (j, out) in out.iter_mut().enumerate() {
                        out.write(S::store(element(j)));
                    }
                }
            },
        )
    }
}

/// `z = f(x, y)`, element by element, and the sums of `g(x, y)` and `h(x, y)` over all elements, in one
/// pass over memory: blocks in lanes, then in double precision and in order.
pub(crate) fn zip_and_sums<S: Storage>(
    x: &[S],
    y: &[S],
    f: impl Fn(S::Real, S::Real) -> S::Real + Copy + Sync,
    g: impl Fn(S::Real, S::Real) -> S::Real + Copy + Sync,
    h: impl Fn(S::Real, S::Real) -> S::Real + Copy + Sync,
) -> (Vec<S>, [f64; 2]) {
    assert_eq!(x.len(), y.len(), "element-wise operands differ in length");
    /// Small enough for the second and third loop to find a block in the cache.
    const BLOCK: usize = FLAT / 8;
    let mut out = Vec::with_capacity(x.len());
    let blocks: Vec<_> = out.spare_capacity_mut()[..x.len()].chunks_mut(BLOCK).map(Mutex::new).collect();
    let sums = parallel::collect(blocks.len(), &|i| {
        // Each is locked once.
        let mut z = blocks[i].lock().unwrap_or_else(PoisonError::into_inner);
        let range = i * BLOCK..i * BLOCK + z.len();
        let (x, y, z) = (&x[range.clone()], &y[range], &mut **z);
        vectorized(
            #[inline(always)]
            move || {
                for ((z, &x), &y) in z.iter_mut().zip(x).zip(y) {
                    z.write(S::store(f(x.load(), y.load())));
                }
                [lane_sum_zip(x, y, g).into_f64(), lane_sum_zip(x, y, h).into_f64()]
            },
        )
    });
    drop(blocks);
    // SAFETY: the blocks cover all elements, and each of them was written.
    unsafe { out.set_len(x.len()) };
    (out, sums.iter().fold([0.0; 2], |[a, b], [c, d]| [a + c, b + d]))
}

/// `x = f(x, y)`, element by element, in place.
pub(crate) fn update<T: Compute>(x: &mut [T], y: &[T], f: impl Fn(T, T) -> T + Copy + Send + Sync) {
    assert_eq!(x.len(), y.len(), "element-wise operands differ in length");
    parallel::chunks_mut(x, FLAT, &|i, x| {
        let y = &y[i * FLAT..][..x.len()];
        vectorized(
            #[inline(always)]
            move || {
                for (x, &y) in x.iter_mut().zip(y) {
                    *x = f(*x, y);
                }
            },
        );
    });
}

/// Sums of every column of a matrix with `c` columns.
pub(crate) fn column_sums<S: Storage>(x: &[S], c: usize) -> Vec<S::Real> {
    let rows = x.len() / c;
    let sums = block_sums(
        rows,
        c,
        #[inline(always)]
        |range, sums: &mut [S::Real]| {
            for row in x[range.start * c..range.end * c].chunks_exact(c) {
                for (s, &x) in sums.iter_mut().zip(row) {
                    *s += x.load();
                }
            }
        },
    );
    sums.into_iter().map(S::Real::of).collect()
}

/// Adds up `width` partial sums that `work` makes of each block of rows; blocks are summed in
/// double precision, in order.
pub(crate) fn block_sums<T: Compute>(
    rows: usize,
    width: usize,
    work: impl Fn(std::ops::Range<usize>, &mut [T]) + Sync,
) -> Vec<f64> {
    let blocks = rows.div_ceil(BLOCK_ROWS);
    let partial = parallel::collect(blocks, &|block| {
        let mut sums = vec![T::ZERO; width];
        let range = block * BLOCK_ROWS..rows.min((block + 1) * BLOCK_ROWS);
        vectorized(
            #[inline(always)]
            || work(range, &mut sums),
        );
        sums
    });
    let mut total = vec![0.0; width];
    for sums in &partial {
        for (t, s) in total.iter_mut().zip(sums) {
            *t += s.into_f64();
        }
    }
    total
}
