//! JPEG decoding with the pixels of libjpeg.
//!
//! Uses one of two decoders, depending on the headers of the file. `libjpeg-turbo-rs` returns the
//! same bytes as libjpeg-turbo but does not support all layouts; `jpeg-decoder` decodes those (they
//! are rare), up to rounding and its own chroma upsampling. Compared with libjpeg for every layout
//! that its `cjpeg` writes: sampling factors, scan scripts, restart markers, progressive and
//! arithmetic coding, one to four components.

use image::{DynamicImage, GrayImage, RgbImage};
use libjpeg_turbo_rs::decode::pipeline::Decoder;
use libjpeg_turbo_rs::{JpegError, PixelFormat, ScalingFactor};

use crate::data::decode::jpeg_stream::{Frame, JpegStream};

/// A JPEG whose headers have been read.
pub(crate) struct Jpeg<'a> {
    bytes: &'a [u8],
    pub(crate) frame: Frame,
    needs_second_decoder: bool,
    keeps_coefficients: bool,
}

impl<'a> Jpeg<'a> {
    /// Checks that a file is complete and has a frame header.
    pub(crate) fn new(bytes: &'a [u8], stream: &JpegStream) -> Result<Self, String> {
        if !stream.is_whole {
            return Err("the JPEG is cut off: it has no end-of-image marker".into());
        }
        let frame = stream.frame.clone().ok_or("the JPEG has no frame header")?;
        if !stream.has_all_components() {
            return Err("the JPEG's data end early: a scan is missing".into());
        }
        Ok(Self {
            bytes,
            needs_second_decoder: needs_second_decoder(&frame, &stream.scans),
            keeps_coefficients: frame.keeps_coefficients(&stream.scans),
            frame,
        })
    }

    /// Returns the memory for decoding at 1/`divisor` of the size, pixels included, in bytes.
    pub(crate) fn memory(&self, divisor: u32) -> u64 {
        let Frame { width, height, ref sampling, .. } = self.frame;
        let divisor = if self.needs_second_decoder { 1 } else { divisor };
        let pixels = u64::from(width.div_ceil(divisor)) * u64::from(height.div_ceil(divisor));
        let channels = if sampling.len() == 1 { 1 } else { sampling.len().max(3) as u64 };
        let samples = self.frame.samples();
        let coefficients = if self.keeps_coefficients { 2 * samples } else { 0 };
        channels * pixels + samples / u64::from(divisor * divisor) + coefficients
    }

    /// Decodes to gray or RGB pixels, at 1/`divisor` of the size (rounded up) if the decoder
    /// supports it.
    pub(crate) fn decode(&self, divisor: u32, limit: u64) -> Result<DynamicImage, String> {
        if self.needs_second_decoder {
            return self.decode_second(limit);
        }
        let format = match self.frame.sampling.len() {
            1 => PixelFormat::Grayscale,
            4 => PixelFormat::Cmyk,
            _ => PixelFormat::Rgb,
        };
        let mut decoder = Decoder::new(self.bytes).map_err(|e| explain(&e))?;
        decoder.set_output_format(format);
        decoder.set_scale(ScalingFactor::try_new(1, divisor).map_err(|e| explain(&e))?);
        let decoded = decoder.decode_image().map_err(|e| explain(&e))?;
        image_of(decoded.width, decoded.height, format.bytes_per_pixel(), decoded.data)
    }

    fn decode_second(&self, limit: u64) -> Result<DynamicImage, String> {
        use jpeg_decoder::PixelFormat::{CMYK32, L8, L16, RGB24};
        let mut decoder = jpeg_decoder::Decoder::new(self.bytes);
        decoder.set_max_decoding_buffer_size(usize::try_from(limit).unwrap_or(usize::MAX));
        let mut pixels = decoder.decode().map_err(|e| e.to_string())?;
        let info = decoder.info().ok_or("the JPEG has no frame header")?;
        let channels = match info.pixel_format {
            L8 => 1,
            RGB24 => 3,
            CMYK32 => {
                // This decoder inverts CMYK values, because Adobe's programs store them inverted;
                // the other decoder does not.
                pixels.iter_mut().for_each(|ink| *ink = 255 - *ink);
                4
            }
            L16 => return Err("the JPEG has 16 bits per sample; expected 8".into()),
        };
        image_of(info.width.into(), info.height.into(), channels, pixels)
    }
}

/// Returns true for layouts that the first decoder rejects or decodes incorrectly.
fn needs_second_decoder(frame: &Frame, scans: &[usize]) -> bool {
    let components = frame.sampling.len();
    let [first, rest @ ..] = &frame.sampling[..] else { return false };
    let sampled_finer = rest.iter().any(|s| s.0 > first.0 || s.1 > first.1);
    let sequential = matches!(frame.kind, 0xc0 | 0xc1);
    let partly_interleaved = scans.iter().any(|&count| count > 1 && count < components);
    let subsampled_inks = components == 4 && rest.iter().any(|s| s != first);
    sampled_finer || (sequential && partly_interleaved) || subsampled_inks
}

fn explain(error: &JpegError) -> String {
    match error {
        JpegError::UnexpectedEof => "the JPEG's data end early: a part of its pixels is missing".into(),
        other => other.to_string(),
    }
}

/// Creates an image from interleaved samples: gray, RGB, or inverted CMYK.
fn image_of(width: usize, height: usize, channels: usize, data: Vec<u8>) -> Result<DynamicImage, String> {
    let (width, height) = (width as u32, height as u32);
    let image = match channels {
        1 => GrayImage::from_raw(width, height, data).map(DynamicImage::from),
        4 => RgbImage::from_raw(width, height, rgb_of_inks(data)).map(DynamicImage::from),
        _ => RgbImage::from_raw(width, height, data).map(DynamicImage::from),
    };
    image.ok_or_else(|| "the decoded image does not have the size in the JPEG header".into())
}

/// Converts inverted CMYK (255 is no ink) to RGB with Pillow's rounding (`Convert.c`, `cmyk2rgb`).
fn rgb_of_inks(mut pixels: Vec<u8>) -> Vec<u8> {
    let count = pixels.len() / 4;
    for i in 0..count {
        let [c, m, y, light] = [0, 1, 2, 3].map(|k| pixels[4 * i + k]);
        for (k, ink) in [c, m, y].into_iter().enumerate() {
            let product = u32::from(255 - ink) * u32::from(light) + 128;
            pixels[3 * i + k] = light - (((product >> 8) + product) >> 8) as u8;
        }
    }
    pixels.truncate(3 * count);
    pixels
}
