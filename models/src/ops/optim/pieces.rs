//! Work on a parameter piece by piece, and on its moving average while a piece is in the cache.

use rayon::prelude::*;

use super::{Average, Stepped};
use crate::Result;
use crate::ops::kernels::Compute;
use crate::ops::view::{View, change, change_if_any};

/// Elements of a piece. Sums go piece by piece, so they do not depend on the number of threads.
pub(super) const PIECE: usize = 1 << 14;

/// Numbers of an update of a moving average.
#[derive(Clone, Copy)]
pub(super) struct Blend<T> {
    decay: T,
    fresh: T,
}

impl<T: Compute> Blend<T> {
    /// The numbers of `average`; those of an average that stays as it is, if there is none.
    pub(super) fn of(average: Option<Average>) -> Self {
        let decay = average.map_or(1.0, |average| average.decay);
        Self { decay: T::of(decay), fresh: T::of(1.0 - decay) }
    }

    /// Moves a piece of an average towards its parameter.
    #[inline(always)]
    pub(super) fn update(self, average: &mut [T], param: &[T]) {
        for (average, &param) in average.iter_mut().zip(param) {
            *average = self.decay * *average + self.fresh * param;
        }
    }
}

/// Memory of a parameter, its gradient, its two moments and its average, which has no elements if
/// there is none.
pub(super) struct Slices<'a, T> {
    pub(super) p: &'a mut [T],
    pub(super) g: &'a [T],
    pub(super) m: &'a mut [T],
    pub(super) v: &'a mut [T],
    pub(super) average: &'a mut [T],
}

/// Changes a parameter with two moments and its average in place.
pub(super) fn change_all<T: Compute>(
    op: &'static str,
    t: &Stepped,
    work: impl FnOnce(Slices<T>),
) -> Result<()> {
    let grad = t.grad.contiguous()?;
    let view = View::new(op, &grad)?;
    let g = view.slice::<T>()?;
    change::<T>(op, t.param, |p| {
        change::<T>(op, t.kept[0], |m| {
            change::<T>(op, t.kept[1], |v| {
                change_if_any::<T>(op, t.average.map(|average| average.tensor), |average| {
                    work(Slices { p, g, m, v, average });
                    Ok(())
                })
            })
        })
    })
}

/// Calls `work` with each of `pieces` and the piece of the average that belongs to it; an average
/// without elements has none.
pub(super) fn for_each_with_average<P: IndexedParallelIterator, T: Compute>(
    pieces: P,
    average: &mut [T],
    work: impl Fn(P::Item, &mut [T]) + Sync + Send,
) {
    if average.is_empty() {
        pieces.for_each(|piece| work(piece, &mut []));
    } else {
        pieces.zip(average.par_chunks_mut(PIECE)).for_each(|(piece, average)| work(piece, average));
    }
}
