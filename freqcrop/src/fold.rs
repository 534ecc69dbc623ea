//! Folding: the even and odd parts of image columns, gathered into the panels that the kernel
//! reads.

use crate::axis::FoldedAxis;
use crate::kernel::GROUP;
use crate::real::{Real, Sample};

/// Columns folded at a time: the panel and one matrix tile then share the first-level cache.
pub(crate) const PANEL: usize = 4 * GROUP;

/// Columns in memory: element `(n, c)` is `data[base + n * stride + c]`.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a, E> {
    pub(crate) data: &'a [E],
    pub(crate) base: usize,
    pub(crate) stride: usize,
}

impl<'a, E> Columns<'a, E> {
    #[inline(always)]
    pub(crate) fn row(&self, n: usize, first: usize, count: usize) -> &'a [E] {
        let start = self.base + n * self.stride + first;
        &self.data[start..start + count]
    }
}

/// Folded columns, each `[group][n][GROUP]`, and working memory.
pub(crate) struct FoldBuffers<'a, T> {
    pub(crate) even: &'a mut [[T; GROUP]],
    pub(crate) odd: &'a mut [[T; GROUP]],
    /// Columns before a resize.
    pub(crate) lines: &'a mut Vec<[T; GROUP]>,
}

/// A way of reading the columns that are folded.
pub(crate) trait Fold<T>: Copy {
    /// Folds `count` columns from `first` on, `offset` subtracted, into the even and odd parts of
    /// `buffers`.
    fn fold<E: Sample<T>>(
        self,
        axis: &FoldedAxis<T>,
        source: &Columns<'_, E>,
        range: (usize, usize),
        offset: T,
        buffers: &mut FoldBuffers<'_, T>,
    );
}

/// Folds the columns of the source themselves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unchanged;

impl<T: Real> Fold<T> for Unchanged {
    #[inline(always)]
    fn fold<E: Sample<T>>(
        self,
        axis: &FoldedAxis<T>,
        source: &Columns<'_, E>,
        (first, count): (usize, usize),
        offset: T,
        FoldBuffers { even, odd, .. }: &mut FoldBuffers<'_, T>,
    ) {
        let (len, even_in, odd_in) = (axis.shape.n, axis.even_in(), axis.odd_in());
        let doubled = offset + offset;
        copy_row(source.row(0, first, count), offset, even, even_in, 0);
        if len.is_multiple_of(2) {
            copy_row(source.row(len / 2, first, count), offset, even, even_in, len / 2);
        }
        for n in 1..=odd_in {
            let (top, bottom) = (source.row(n, first, count), source.row(len - n, first, count));
            let (top_groups, top_rest) = top.as_chunks::<GROUP>();
            let (bottom_groups, bottom_rest) = bottom.as_chunks::<GROUP>();
            for (group, (a, b)) in top_groups.iter().zip(bottom_groups).enumerate() {
                // Whole arrays by value: element by element, the compiler would assume that the
                // outputs may overlap.
                let (sums, differences) = sum_and_difference(*a, *b, doubled);
                even[group * even_in + n] = sums;
                odd[group * odd_in + n - 1] = differences;
            }
            for (i, (a, b)) in top_rest.iter().zip(bottom_rest).enumerate() {
                let (a, b): (T, T) = (a.get(), b.get());
                even[top_groups.len() * even_in + n][i] = a + b - doubled;
                odd[top_groups.len() * odd_in + n - 1][i] = a - b;
            }
        }
    }
}

/// Copies a row that is its own mirror image, which has no odd part.
#[inline(always)]
fn copy_row<T: Real, E: Sample<T>>(row: &[E], offset: T, even: &mut [[T; GROUP]], even_in: usize, n: usize) {
    for (group, values) in row.chunks(GROUP).enumerate() {
        for (to, from) in even[group * even_in + n].iter_mut().zip(values) {
            *to = from.get() - offset;
        }
    }
}

#[inline(always)]
fn sum_and_difference<T: Real, E: Sample<T>>(
    a: [E; GROUP],
    b: [E; GROUP],
    doubled: T,
) -> ([T; GROUP], [T; GROUP]) {
    let (a, b): ([T; GROUP], [T; GROUP]) = (a.map(Sample::get), b.map(Sample::get));
    (std::array::from_fn(|i| a[i] + b[i] - doubled), std::array::from_fn(|i| a[i] - b[i]))
}
