//! Memory layouts of images, and storing finished rows.

use crate::real::Real;

/// Order of the axes of a contiguous image in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `[channel, row, column]`: one plane per channel.
    Chw,
    /// `[row, column, channel]`: interleaved pixels, as decoders return them.
    Hwc,
}

/// One image's layout and channel count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChannelLayout {
    pub(crate) layout: Layout,
    pub(crate) channels: usize,
}

/// Interleaved RGB.
pub(crate) const RGB: ChannelLayout = ChannelLayout { layout: Layout::Hwc, channels: 3 };

/// The image as planes of `columns` contiguous columns, and the index of `(w, channel)` among all
/// columns: `w * row_step + channel * channel_step`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planes {
    pub(crate) count: usize,
    pub(crate) columns: usize,
    pub(crate) row_step: usize,
    pub(crate) channel_step: usize,
}

impl ChannelLayout {
    pub(crate) fn planes(self, width: usize) -> Planes {
        match self.layout {
            Layout::Chw => Planes { count: self.channels, columns: width, row_step: 1, channel_step: width },
            // Interleaved channels are just more columns.
            Layout::Hwc => {
                Planes { count: 1, columns: width * self.channels, row_step: self.channels, channel_step: 1 }
            }
        }
    }
}

/// Destination of finished rows.
pub(crate) trait Target<T> {
    /// Stores row `p`; `lines` holds it for all channels, `[channel][column]`.
    fn store(&mut self, p: usize, lines: &[T]);
}

/// Rows of plane after plane.
pub(crate) struct Planar<'a, T> {
    pub(crate) out: &'a mut [T],
    pub(crate) height: usize,
    pub(crate) width: usize,
}

impl<T: Real> Target<T> for Planar<'_, T> {
    #[inline(always)]
    fn store(&mut self, p: usize, lines: &[T]) {
        for (channel, line) in lines.chunks_exact(self.width).enumerate() {
            let start = (channel * self.height + p) * self.width;
            self.out[start..start + self.width].copy_from_slice(line);
        }
    }
}

/// Interleaved pixels.
pub(crate) struct Interleaved<'a, T> {
    pub(crate) out: &'a mut [T],
    pub(crate) width: usize,
}

impl<T: Real> Target<T> for Interleaved<'_, T> {
    #[inline(always)]
    fn store(&mut self, p: usize, lines: &[T]) {
        interleave(self.out, self.width, p, lines, |value| value);
    }
}

/// Interleaved bytes: rounded to the nearest integer, halves to even, clamped to 0..=255.
pub(crate) struct Bytes<'a> {
    pub(crate) out: &'a mut [u8],
    pub(crate) width: usize,
}

impl Target<f32> for Bytes<'_> {
    #[inline(always)]
    fn store(&mut self, p: usize, lines: &[f32]) {
        interleave(self.out, self.width, p, lines, to_byte);
    }
}

#[inline(always)]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn to_byte(value: f32) -> u8 {
    value.round_ties_even().clamp(0.0, 255.0) as u8
}

#[inline(always)]
fn interleave<T: Copy, O: Copy>(
    out: &mut [O],
    width: usize,
    p: usize,
    lines: &[T],
    convert: impl Fn(T) -> O,
) {
    let pixels = lines.len() / width;
    let row = &mut out[p * lines.len()..(p + 1) * lines.len()];
    if pixels == 3 {
        // The usual case has its own branch: with a constant step the compiler can use vector
        // shuffles.
        let (red, rest) = lines.split_at(width);
        let (green, blue) = rest.split_at(width);
        for (((pixel, &r), &g), &b) in row.as_chunks_mut::<3>().0.iter_mut().zip(red).zip(green).zip(blue) {
            *pixel = [convert(r), convert(g), convert(b)];
        }
        return;
    }
    for (channel, line) in lines.chunks_exact(width).enumerate() {
        for (to, &from) in row[channel..].iter_mut().step_by(pixels).zip(line) {
            *to = convert(from);
        }
    }
}
