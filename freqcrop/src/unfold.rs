//! Unfolding: the four parity blocks of a channel back into rows, minus the checkerboard
//! correction.

use crate::layout::Target;
use crate::real::Real;
use crate::separable::Separable;

/// The folded result `[channel][p][q]` of both passes.
pub(crate) struct Unfold<'a, T> {
    pub(crate) plan: &'a Separable<T>,
    pub(crate) folded: &'a [T],
    pub(crate) channels: usize,
    /// Value that was subtracted from the input.
    pub(crate) offset: T,
}

/// Products of the image with the unpaired waves, named height wave first: `cs` is cosine by sine.
#[derive(Clone, Copy)]
struct Unpaired<T> {
    cc: T,
    cs: T,
    sc: T,
    ss: T,
}

impl<T: Real> Unfold<'_, T> {
    /// Writes every row. Returns false if a channel is not finite.
    ///
    /// A NaN or infinity in the input reaches every sum of its channel, and no such sum becomes
    /// finite again, so the first row of each channel is enough to check.
    #[inline(always)]
    pub(crate) fn write<O: Target<T>>(&self, lines: &mut Vec<T>, output: &mut O) -> bool {
        let (height, width) = (&self.plan.height, &self.plan.width);
        let columns = width.shape.p;
        at_least(lines, 2 * self.channels * columns + 2 * width.width);
        let (rows, sums) = lines.split_at_mut(2 * self.channels * columns);
        let (rows, mirrored) = rows.split_at_mut(self.channels * columns);
        let mut finite = true;
        for p in 0..height.even_out() {
            let has_mirror = p >= 1 && p <= height.odd_out();
            for channel in 0..self.channels {
                let (near, far) = sums.split_at_mut(width.width);
                self.combine(channel, p, near, far);
                let line = channel * columns..(channel + 1) * columns;
                self.spread(near, &mut rows[line.clone()]);
                if has_mirror {
                    self.spread(far, &mut mirrored[line]);
                }
                finite &= p > 0 || near[0].finite();
            }
            output.store(p, rows);
            if has_mirror {
                output.store(height.shape.p - p, mirrored);
            }
        }
        finite
    }

    /// Rows p and P - p, still folded along the width: the sum and the difference of the two height
    /// parities.
    #[inline(always)]
    fn combine(&self, channel: usize, p: usize, near: &mut [T], far: &mut [T]) {
        let height = &self.plan.height;
        let even = self.folded_row(channel, p);
        if p == 0 || p > height.odd_out() {
            near.copy_from_slice(even);
            self.correct(channel, p, T::one(), T::zero(), near);
            self.add_offset(near);
            return;
        }
        let odd = self.folded_row(channel, height.odd_start + p - 1);
        for (((near, far), &e), &o) in near.iter_mut().zip(far.iter_mut()).zip(even).zip(odd) {
            *near = e + o;
            *far = e - o;
        }
        self.correct(channel, p, T::one(), T::one(), near);
        self.correct(channel, p, T::one(), T::zero() - T::one(), far);
        self.add_offset(near);
        self.add_offset(far);
    }

    /// A constant is all in the even part.
    #[inline(always)]
    fn add_offset(&self, row: &mut [T]) {
        for value in &mut row[..self.plan.width.even_out()] {
            *value = *value + self.offset;
        }
    }

    /// Subtracts `D_h X D_w^T`, where `D = sin_out cos_in^T - cos_out sin_in^T`.
    #[inline(always)]
    fn correct(&self, channel: usize, p: usize, even_sign: T, odd_sign: T, row: &mut [T]) {
        if !self.plan.corrected {
            return;
        }
        let (height, width) = (&self.plan.height, &self.plan.width);
        let waves = self.unpaired(channel);
        let cosine = height.wave_even[p] * even_sign;
        let sine =
            if p >= 1 && p <= height.odd_out() { height.wave_odd[p - 1] * odd_sign } else { T::zero() };
        let even = cosine * waves.ss - sine * waves.cs;
        for (value, &wave) in row.iter_mut().zip(&width.wave_even) {
            *value = *value - even * wave;
        }
        if width.shape.p > width.shape.b {
            let odd = sine * waves.cc - cosine * waves.sc;
            for (value, &wave) in row[width.odd_start..].iter_mut().zip(&width.wave_odd) {
                *value = *value - odd * wave;
            }
        }
    }

    /// Reads the extra row and column of both passes.
    #[inline(always)]
    fn unpaired(&self, channel: usize) -> Unpaired<T> {
        let (height, width) = (&self.plan.height, &self.plan.width);
        let (sine_row, sine_column) =
            (height.odd_start + height.odd_used - 1, width.odd_start + width.odd_used - 1);
        // Without a cosine column (the crop) the output sine is zero, and the value read here is
        // multiplied by it.
        let (cosine_row, cosine_column) = (height.even_used - 1, width.even_used - 1);
        let at = |row, column: usize| self.folded_row(channel, row)[column];
        Unpaired {
            cc: at(cosine_row, cosine_column),
            cs: at(cosine_row, sine_column),
            sc: at(sine_row, cosine_column),
            ss: at(sine_row, sine_column),
        }
    }

    #[inline(always)]
    fn folded_row(&self, channel: usize, row: usize) -> &[T] {
        let width = self.plan.width.width;
        let start = (channel * self.plan.height.width + row) * width;
        &self.folded[start..start + width]
    }

    /// Unfolds one row along the width.
    #[inline(always)]
    fn spread(&self, folded: &[T], row: &mut [T]) {
        let axis = &self.plan.width;
        let (even, odd) = folded.split_at(axis.odd_start);
        let pairs = axis.odd_out();
        row[0] = even[0];
        if axis.even_out() > pairs + 1 {
            row[pairs + 1] = even[pairs + 1];
        }
        let (even, odd) = (&even[1..=pairs], &odd[..pairs]);
        let (left, right) = row[1..].split_at_mut(pairs);
        let start = right.len() - pairs;
        let right = right[start..].iter_mut().rev();
        for (((l, r), &e), &o) in left.iter_mut().zip(right).zip(even).zip(odd) {
            *l = e + o;
            *r = e - o;
        }
    }
}

/// Makes `buffer` at least `len` long; its contents are unspecified.
#[inline(always)]
pub(crate) fn at_least<V: Copy + Default>(buffer: &mut Vec<V>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, V::default());
    }
}
