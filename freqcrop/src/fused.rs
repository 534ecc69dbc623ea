//! Resize and crop of 8-bit images as one operator.

use pulp::{Simd, WithSimd};

use crate::axis::Axis;
use crate::fold::{Columns, PANEL};
use crate::image::Bytes;
use crate::kernel::{GROUP, Panel, multiply};
use crate::plan::Plan;
use crate::real::Sample;
use crate::resample::{Resampling, fold_resampled};
use crate::scratch::Scratch;
use crate::separable::{Separable, Workspace};
use crate::unfold::{Unfold, at_least};
use crate::{Error, Result};

/// A rectangle of an interleaved 8-bit RGB image.
#[derive(Debug, Clone, Copy)]
pub struct RgbWindow<'a> {
    /// All pixels of the image, row after row.
    pub pixels: &'a [u8],
    /// Width of the image, in pixels.
    pub image_width: usize,
    /// First row of the rectangle.
    pub top: usize,
    /// First column.
    pub left: usize,
}

impl RgbWindow<'_> {
    fn check(&self, height: usize, width: usize) -> Result<()> {
        let inside = |last: usize| {
            let row = self.top.checked_add(last)?.checked_mul(self.image_width)?;
            row.checked_add(self.left)?.checked_add(width)?.checked_mul(3)
        };
        let end = height.checked_sub(1).and_then(inside);
        let fits = self.left.checked_add(width).is_some_and(|right| right <= self.image_width);
        if width > 0 && fits && end.is_some_and(|end| end <= self.pixels.len()) {
            return Ok(());
        }
        let detail = format!(
            "{height} x {width} pixels from ({}, {}) of rows of {} pixels",
            self.top, self.left, self.image_width
        );
        Err(Error::WrongLength {
            what: "window",
            found: self.pixels.len(),
            expected: end.unwrap_or(usize::MAX),
            detail,
        })
    }
}

impl Plan<f32> {
    /// Resizes a part of an image to the plan's input size and processes it, as one linear operator.
    ///
    /// `rows` and `columns` are the resize: from the window's height and width to the plan's input size. The exact result
    /// is that of resizing in real numbers, then [`apply_rgb8`](Self::apply_rgb8); only the outcome is rounded and clamped.
    ///
    /// # Shapes
    /// `output` is `[Bh, Bw, 3]`.
    ///
    /// # Errors
    /// [`Error::WrongLength`] if `output` or a resize has another length, or the window leaves the image;
    /// [`Error::NotSeparable`] if the plan's backend is not [`Backend::Separable`](crate::Backend::Separable).
    pub fn apply_rgb8_resampled(
        &self,
        window: RgbWindow<'_>,
        (rows, columns): (&Resampling, &Resampling),
        output: &mut [u8],
        scratch: &mut Scratch<f32>,
    ) -> Result<()> {
        let plan = self.separable().ok_or(Error::NotSeparable)?;
        self.check_slice("output", self.output_size(), 3, output.len())?;
        window.check(rows.input_len(), columns.input_len())?;
        let (height, width) = self.input_size();
        for (what, map, expected) in [("rows", rows, height), ("columns", columns, width)] {
            let found = map.output_len();
            if found != expected {
                let detail = "one output a pixel of the plan's input".into();
                return Err(Error::WrongLength { what, found, expected, detail });
            }
        }
        let out = Bytes { out: output, width: self.output_size().1 };
        let Scratch { separable: work, lines, .. } = scratch;
        plan.arch.dispatch(Fused { plan, window, maps: (rows, columns), out, work, lines });
        Ok(())
    }
}

struct Fused<'a> {
    plan: &'a Separable<f32>,
    window: RgbWindow<'a>,
    maps: (&'a Resampling, &'a Resampling),
    out: Bytes<'a>,
    work: &'a mut Workspace<f32>,
    lines: &'a mut Vec<[f32; GROUP]>,
}

impl WithSimd for Fused<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Fused { plan, window, maps: (rows, columns), mut out, work, lines } = self;
        let (height, width) = (&plan.height, &plan.width);
        let Workspace { even, odd, turned, folded, lines: unfolded } = work;
        let groups = PANEL / GROUP;
        at_least(even, groups * height.even_in().max(width.even_in()));
        at_least(odd, groups * height.odd_in().max(width.odd_in()));
        let across = columns.input_len() * 3;
        at_least(turned, across * height.width);
        at_least(folded, 3 * height.width * width.width);
        let mut memory = Memory { even, odd, lines };
        let offset = u8::center(window.pixels);

        let stride = window.image_width * 3;
        let from = Columns { data: window.pixels, base: window.top * stride + window.left * 3, stride };
        pass(simd, (height, rows), &from, (0, across), offset, &mut memory, turned);
        let parts = [(0, height.even_used), (height.odd_start, height.odd_used)];
        for channel in 0..3 {
            let from =
                Columns { data: turned.as_slice(), base: channel * height.width, stride: 3 * height.width };
            for (first, count) in parts {
                let start = (channel * height.width + first) * width.width;
                pass(simd, (width, columns), &from, (first, count), 0.0, &mut memory, &mut folded[start..]);
            }
        }
        // Bytes are finite and so are weights that were given as such; others end as bytes all the same.
        Unfold { plan, folded, channels: 3, offset }.write(unfolded, &mut out);
    }
}

struct Memory<'a> {
    even: &'a mut Vec<[f32; GROUP]>,
    odd: &'a mut Vec<[f32; GROUP]>,
    lines: &'a mut Vec<[f32; GROUP]>,
}

/// As the separable backend's pass, through a resize.
#[inline(always)]
fn pass<E: Sample<f32>, S: Simd>(
    simd: S,
    (axis, map): (&Axis<f32>, &Resampling),
    from: &Columns<'_, E>,
    (first, count): (usize, usize),
    offset: f32,
    memory: &mut Memory<'_>,
    out: &mut [f32],
) {
    let mut done = 0;
    while done < count {
        let columns = PANEL.min(count - done);
        let Memory { even, odd, lines } = memory;
        fold_resampled((axis, map), from, (first + done, columns), offset, lines, (even, odd));
        multiply(simd, axis, &Panel { even, odd, columns }, &mut out[done * axis.width..]);
        done += columns;
    }
}
