//! Rows that are windows of channels-last pictures: what a convolution multiplies, never written to memory as a whole.

use std::ops::Range;

use super::super::Element;

/// Windows of `kernel` pixels of pictures `[n, h, w, c]`, `step` apart; pixels outside the picture are zero.
///
/// Row `r` of the matrix is window `r`, image by image and row by row; its columns are `(y, x, channel)` of the window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows<'a, T> {
    pub(crate) x: &'a [T],
    /// Height and width of a picture.
    pub(crate) size: [usize; 2],
    pub(crate) c: usize,
    /// Rows and columns of windows of each picture.
    pub(crate) count: [usize; 2],
    pub(crate) step: usize,
    /// Where the first window begins, possibly before the picture.
    pub(crate) origin: [isize; 2],
    pub(crate) kernel: [usize; 2],
}

impl<T: Element> Windows<'_, T> {
    /// Copies columns `ks` of row `row` to `out`.
    #[inline]
    pub(super) fn copy(&self, row: usize, ks: Range<usize>, out: &mut [T]) {
        let ([h, w], [rows, cols]) = (self.size, self.count);
        let (image, place) = (row / (rows * cols), row % (rows * cols));
        let top = (place / cols * self.step) as isize + self.origin[0];
        let left = (place % cols * self.step) as isize + self.origin[1];
        // Elements of a window row, and those before and behind the ones inside the picture.
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
                piece.fill(T::ZERO);
                continue;
            }
            // Index of the window row's first element, were it inside.
            let start = ((image * h + y as usize) * w) as isize * self.c as isize + left * self.c as isize;
            let (a, b) = (inside.start.clamp(from, to), inside.end.clamp(from, to));
            let b = b.max(a);
            piece[..a - from].fill(T::ZERO);
            if a < b {
                let source = (start + a as isize) as usize;
                piece[a - from..b - from].copy_from_slice(&self.x[source..source + (b - a)]);
            }
            piece[b - from..].fill(T::ZERO);
        }
    }
}
