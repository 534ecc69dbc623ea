//! Which kind of tile a task is computed by.
#![allow(unsafe_code)]

use super::super::{Element, vectorised};
use super::pairs::{self, Native};
use super::tile::{Finish, Strip, TileShape};

/// How a task's tiles are computed: in the type of their sums, or in pairs of rounded numbers.
pub(super) enum Tiles {
    Whole,
    Pairs { native: Native, left: Vec<u32>, right: Vec<u32> },
}

impl Tiles {
    /// In pairs where the left factor is `rounded` already, and this machine can.
    pub(super) fn new(rounded: bool, tile: TileShape, strips: usize) -> Self {
        match Native::here() {
            Some(native) if rounded && [tile.rows, tile.cols] == [pairs::ROWS, pairs::COLS] => {
                Self::Pairs { native, left: vec![0; pairs::left_len(strips)], right: Vec::new() }
            }
            _ => Self::Whole,
        }
    }

    pub(super) fn take_right<T: Element>(&mut self, block: &[T], depth: usize) {
        if let (Self::Pairs { right, .. }, Some(block)) = (self, T::singles(block)) {
            vectorised(
                #[inline(always)]
                || pairs::pair_right(block, depth, right),
            );
        }
    }

    pub(super) fn take_left<T: Element>(&mut self, panels: &[T], depth: usize, by_rows: bool) {
        if let (Self::Pairs { left, .. }, Some(panels)) = (self, T::singles(panels)) {
            vectorised(
                #[inline(always)]
                || pairs::pair_left(panels, depth, by_rows, left),
            );
        }
    }

    /// Computes strip `i` of those whose left panels were taken last.
    ///
    /// # Safety
    /// That of [`Strip::run`].
    pub(super) unsafe fn run<T: Element>(&self, i: usize, strip: Strip<T>) {
        let Self::Pairs { native, left, right } = self else {
            // SAFETY: the caller's promise.
            return unsafe { strip.run() };
        };
        let finish = match strip.finish {
            Finish::Set(bias) => Finish::Set(bias.and_then(T::singles)),
            Finish::Add => Finish::Add,
        };
        // Rounded numbers are summed in `f32`: `T` is that type.
        let mut out = [std::ptr::null_mut::<f32>(); pairs::ROWS];
        out.iter_mut().zip(strip.out).for_each(|(to, from)| *to = from.cast());
        let left = &left[i * pairs::left_len(1)..][..pairs::left_len(1)];
        let pair_count = strip.depth.div_ceil(2);
        let out = &out[..strip.out.len()];
        // SAFETY: the caller's promise.
        let strip =
            unsafe { pairs::Strip::new(pair_count, (left, strip.by_rows), (right, strip.cols), out, finish) };
        native.run(&strip);
    }
}
