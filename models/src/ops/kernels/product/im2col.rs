//! The matrix whose rows are windows of channels-last images (im2col), which is never written to
//! memory as a whole.

use std::ops::Range;

use crate::ops::kernels::{Compute, Storage};

/// Windows of `kernel` pixels, `dilation` apart, of images `[n, h, w, c]`; windows are `step`
/// apart, and pixels outside the image are zero.
///
/// Row `r` of the matrix is window `r`, image by image and row by row; its columns are `(y, x,
/// channel)` of the window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Im2col<'a, S> {
    pub(crate) x: &'a [S],
    /// Height and width of an image.
    pub(crate) size: [usize; 2],
    pub(crate) c: usize,
    /// Rows and columns of windows of each image.
    pub(crate) count: [usize; 2],
    pub(crate) step: usize,
    /// First pixel of the first window, possibly outside the image.
    pub(crate) origin: [isize; 2],
    pub(crate) kernel: [usize; 2],
    /// Pixels from one of a window to the next.
    pub(crate) dilation: usize,
}

impl<S: Storage> Im2col<'_, S> {
    /// Copies columns `ks` of row `row` to `out`.
    #[inline]
    pub(super) fn copy(&self, row: usize, ks: Range<usize>, out: &mut [S::Real]) {
        self.copy_as(row, ks, out, S::Real::ZERO, load);
    }

    /// Copies like [`Self::copy`], to numbers of another type; `take` converts a slice.
    #[inline(always)]
    pub(super) fn copy_as<O: Copy>(
        &self,
        row: usize,
        ks: Range<usize>,
        out: &mut [O],
        zero: O,
        take: impl Fn(&[S], &mut [O]),
    ) {
        let ([h, w], [rows, cols]) = (self.size, self.count);
        let (image, place) = (row / (rows * cols), row % (rows * cols));
        let top = (place / cols * self.step) as isize + self.origin[0];
        let left = (place % cols * self.step) as isize + self.origin[1];
        if self.dilation > 1 {
            return self.copy_dilated([image * h, top as usize, left as usize], ks, out, zero, take);
        }
        // Elements of a window row, and those before and behind the ones inside the image.
        let span = self.kernel[1] * self.c;
        let inside = (0 - left).clamp(0, self.kernel[1] as isize) as usize * self.c
            ..(w as isize - left).clamp(0, self.kernel[1] as isize) as usize * self.c;
        let mut at = ks.start;
        let mut out = out;
        while at < ks.end {
            let (ky, from) = (at / span, at % span);
            let to = span.min(from + ks.end - at);
            let (piece, rest) = out.split_at_mut(to - from);
            out = rest;
            at += to - from;
            let y = top + ky as isize;
            if y < 0 || y >= h as isize || inside.is_empty() {
                piece.fill(zero);
                continue;
            }
            // Index of the window row's first element, were it inside.
            let start = ((image * h + y as usize) * w) as isize * self.c as isize + left * self.c as isize;
            let (a, b) = (inside.start.clamp(from, to), inside.end.clamp(from, to));
            let b = b.max(a);
            piece[..a - from].fill(zero);
            if a < b {
                let source = (start + a as isize) as usize;
                take(&self.x[source..source + (b - a)], &mut piece[a - from..b - from]);
            }
            piece[b - from..].fill(zero);
        }
    }

    /// Does the same as [`Self::copy`] pixel by pixel, for the window at `top` and `left` of the
    /// image whose first row is `row`; places before the image have wrapped around.
    fn copy_dilated<O: Copy>(
        &self,
        [row, top, left]: [usize; 3],
        ks: Range<usize>,
        mut out: &mut [O],
        zero: O,
        take: impl Fn(&[S], &mut [O]),
    ) {
        let ([h, w], c) = (self.size, self.c);
        let mut at = ks.start;
        while at < ks.end {
            let (pixel, from) = (at / c, at % c);
            let len = (c - from).min(ks.end - at);
            let (piece, rest) = out.split_at_mut(len);
            (out, at) = (rest, at + len);
            let y = top.wrapping_add(pixel / self.kernel[1] * self.dilation);
            let x = left.wrapping_add(pixel % self.kernel[1] * self.dilation);
            if y < h && x < w {
                take(&self.x[((row + y) * w + x) * c + from..][..len], piece);
            } else {
                piece.fill(zero);
            }
        }
    }
}

/// Copies numbers that are as many, as what they are computed with.
#[inline(always)]
pub(super) fn load<S: Storage>(from: &[S], to: &mut [S::Real]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = from.load();
    }
}
