//! Orientation of an image, from EXIF and XMP in all the places where Pillow's
//! `ImageOps.exif_transpose` finds it.

use std::io::Read;

use exif::{In, Reader, Tag};
use image::ImageFormat;
use image::metadata::Orientation;

use crate::data::decode::jpeg_stream::JpegStream;

/// Largest size of metadata to parse, in bytes.
const MAX_METADATA: u64 = 1 << 20;

/// EXIF data (without prefix) and XMP packet of a file, if it has them.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    exif: Vec<u8>,
    xmp: Vec<u8>,
}

impl Metadata {
    pub(crate) fn of_jpeg(stream: &JpegStream) -> Self {
        Self { exif: stream.exif.clone(), xmp: stream.xmp.clone() }
    }

    /// Reads the metadata of a PNG from its chunks; for other formats, takes the decoder's.
    pub(crate) fn of(format: ImageFormat, bytes: &[u8], exif: Option<Vec<u8>>, xmp: Option<Vec<u8>>) -> Self {
        match format {
            ImageFormat::Png => Self::of_png(bytes),
            _ => Self { exif: exif.unwrap_or_default(), xmp: xmp.unwrap_or_default() },
        }
    }

    /// Reads the chunks before and after the pixels; the decoder only knows those before them.
    fn of_png(bytes: &[u8]) -> Self {
        let mut found = Self::default();
        let mut at = 8;
        while let Some(header) = bytes.get(at..at + 8) {
            let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
            let Some(content) = bytes.get(at + 8..(at + 8).saturating_add(length)) else { break };
            match &header[4..] {
                b"eXIf" => found.exif = content.to_vec(),
                b"iTXt" => found.international_text(content),
                b"tEXt" | b"zTXt" if found.exif.is_empty() => found.raw_profile(&header[4..], content),
                b"IEND" => break,
                _ => {}
            }
            at += length + 12;
        }
        found
    }

    /// Parses `keyword 0 compressed method language 0 keyword 0 text`.
    fn international_text(&mut self, content: &[u8]) {
        let Some(rest) = content.strip_prefix(b"XML:com.adobe.xmp\0") else { return };
        let [compressed, _, rest @ ..] = rest else { return };
        let text = rest.splitn(3, |&b| b == 0).nth(2).unwrap_or_default();
        self.xmp = if *compressed == 1 { inflate(text) } else { text.to_vec() };
    }

    /// Parses ImageMagick's encoding: the name of the profile, its length, and its bytes as
    /// hexadecimal digits.
    fn raw_profile(&mut self, chunk: &[u8], content: &[u8]) {
        let Some(rest) = content.strip_prefix(b"Raw profile type exif\0") else { return };
        let text = match (chunk, rest) {
            (b"zTXt", [_, rest @ ..]) => inflate(rest),
            _ => rest.to_vec(),
        };
        let text = String::from_utf8_lossy(&text);
        let digits: Vec<u32> =
            text.lines().skip(3).flat_map(str::chars).filter_map(|c| c.to_digit(16)).collect();
        self.exif = digits.as_chunks::<2>().0.iter().map(|[high, low]| (high * 16 + low) as u8).collect();
    }

    /// Returns the orientation from the EXIF tag (of any integer type), otherwise from XMP's
    /// `tiff:Orientation`.
    pub(crate) fn orientation(&self) -> Orientation {
        let value = self.of_exif().or_else(|| of_xmp(&self.xmp));
        value.and_then(Orientation::from_exif).unwrap_or(Orientation::NoTransforms)
    }

    fn of_exif(&self) -> Option<u8> {
        let mut data = &self.exif[..];
        // Some programs write the prefix twice.
        while let Some(rest) = data.strip_prefix(b"Exif\0\0") {
            data = rest;
        }
        let mut reader = Reader::new();
        reader.continue_on_error(true);
        let parsed = reader.read_raw(data.to_vec()).or_else(|e| e.distill_partial_result(|_| {})).ok()?;
        let field = parsed.get_field(Tag::Orientation, In::PRIMARY)?;
        field.value.get_uint(0)?.try_into().ok()
    }
}

/// Finds `tiff:Orientation="6"` or `<tiff:Orientation>6</tiff:Orientation>`.
fn of_xmp(packet: &[u8]) -> Option<u8> {
    const NAME: &[u8] = b"tiff:Orientation";
    memchr::memmem::find_iter(packet, NAME).find_map(|at| {
        let rest = &packet[at + NAME.len()..];
        let rest = rest.strip_prefix(b"=\"").or_else(|| rest.strip_prefix(b">"))?;
        rest.first().filter(|digit| digit.is_ascii_digit()).map(|digit| digit - b'0')
    })
}

fn inflate(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    // Damaged metadata are ignored; the pixels may still be good.
    let read = flate2::read::ZlibDecoder::new(bytes).take(MAX_METADATA).read_to_end(&mut text);
    read.map(|_| text).unwrap_or_default()
}
