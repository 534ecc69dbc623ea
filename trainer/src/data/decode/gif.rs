//! The part of a GIF's screen that its first frame leaves free.

use image::DynamicImage;

/// Marks of blocks, and the label of the extension with the transparent color.
const EXTENSION: u8 = 0x21;
const FRAME: u8 = 0x2c;
const CONTROL: u8 = 0xf9;
/// Flag of a header that is followed by a color table.
const HAS_COLORS: u8 = 0x80;

/// Place of the first frame on the screen, and the color around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FirstFrame {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
    around: [u8; 3],
}

/// Gives the pixels around the first frame the color that Pillow gives them, that of the transparent
/// index or of index 0; the decoder leaves them black.
pub(crate) fn fill_around_frame(image: &mut DynamicImage, bytes: &[u8]) {
    let (Some(frame), DynamicImage::ImageRgba8(pixels)) = (first_frame(bytes), image) else { return };
    let columns = frame.left..frame.left + frame.width;
    let rows = frame.top..frame.top + frame.height;
    for (x, y, pixel) in pixels.enumerate_pixels_mut() {
        if !columns.contains(&x) || !rows.contains(&y) {
            pixel.0[..3].copy_from_slice(&frame.around);
        }
    }
}

/// Reads the headers up to the first frame; none if they are incomplete, which the decoder reports.
fn first_frame(bytes: &[u8]) -> Option<FirstFrame> {
    let global = colors(bytes, 10, 13)?;
    let mut at = 13 + global.len();
    let mut index = 0;
    while *bytes.get(at)? == EXTENSION {
        if *bytes.get(at + 1)? == CONTROL && bytes.get(at + 3)? & 1 == 1 {
            index = usize::from(*bytes.get(at + 6)?);
        }
        at = behind_blocks(bytes, at + 2)?;
    }
    let header = bytes.get(at..at + 10).filter(|header| header[0] == FRAME)?;
    let edge = |i: usize| u32::from(u16::from_le_bytes([header[i], header[i + 1]]));
    let own = colors(bytes, at + 9, at + 10)?;
    let table = if own.is_empty() { global } else { own };
    let around = table.as_chunks::<3>().0.get(index).copied().unwrap_or_default();
    Some(FirstFrame { left: edge(1), top: edge(3), width: edge(5), height: edge(7), around })
}

/// Returns the color table at `start`, empty if the flags say that there is none.
fn colors(bytes: &[u8], flags: usize, start: usize) -> Option<&[u8]> {
    let flags = *bytes.get(flags)?;
    let length = if flags & HAS_COLORS == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    bytes.get(start..start + length)
}

/// Returns the position behind a sequence of blocks, each with its length before it.
fn behind_blocks(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1 + length;
        if length == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_off_header_has_no_frame() {
        let screen = b"GIF89a\x05\0\x04\0\x80\0\0\x01\x02\x03\x04\x05\x06";
        let control = b"\x21\xf9\x04\x01\0\0\x01\0";
        let frame = b"\x2c\x01\0\x02\0\x03\0\x01\0\0";
        let whole = [&screen[..], control, frame].concat();
        let found = FirstFrame { left: 1, top: 2, width: 3, height: 1, around: [4, 5, 6] };
        assert_eq!(first_frame(&whole), Some(found));
        assert!((0..whole.len()).all(|end| first_frame(&whole[..end]).is_none()));
    }
}
