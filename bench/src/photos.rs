//! JPEG files in memory, as a data set.

use std::io::Cursor;

use efficienttrain::DataError;
use efficienttrain::data::{DEFAULT_IMAGE_LIMIT, Decoded, Divisor, Source, decode, decode_reduced};
use image::codecs::jpeg::JpegEncoder;
use image::{ImageFormat, Rgb, RgbImage};

/// Returns an image with edges, gradients and some noise, so that its file is about as large as a
/// photograph's.
pub fn photo(width: u32, height: u32, seed: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let wave = (f64::from(x + 7 * seed) / 23.0).sin() * (f64::from(y) / 31.0).cos();
        let noise = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503) ^ seed) >> 13 & 15;
        let level = |shift: f64| (120.0 + 90.0 * (wave + shift).sin() + f64::from(noise)) as u8;
        if (x / 40 + y / 50 + seed).is_multiple_of(5) {
            Rgb([40, 60, 90])
        } else {
            Rgb([level(0.0), level(0.7), level(1.9)])
        }
    })
}

/// Returns the file of an image: a JPEG of quality 90, or a PNG.
///
/// # Panics
/// When the encoder fails, which it does not in memory.
pub fn file(image: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoded = match format {
        ImageFormat::Jpeg => JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(image),
        other => image.write_to(&mut Cursor::new(&mut bytes), other),
    };
    encoded.expect("memory takes every image");
    bytes
}

/// Some JPEG files of 500 x 375 pixels, in two classes.
pub struct Photos {
    files: Vec<Vec<u8>>,
    classes: Vec<String>,
}

impl Photos {
    /// Encodes `count` images.
    pub fn new(count: u32) -> Self {
        let files = (0..count).map(|seed| file(&photo(500, 375, seed), ImageFormat::Jpeg)).collect();
        Self { files, classes: vec!["a".into(), "b".into()] }
    }
}

impl Source for Photos {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        index as u32 % 2
    }

    fn name(&self, index: usize) -> String {
        index.to_string()
    }

    fn load(&self, index: usize) -> Result<RgbImage, DataError> {
        decode(&self.files[index], &self.name(index), DEFAULT_IMAGE_LIMIT)
    }

    fn load_reduced(&self, index: usize, divisor: Divisor) -> Result<Decoded, DataError> {
        decode_reduced(&self.files[index], &self.name(index), DEFAULT_IMAGE_LIMIT, divisor)
    }
}
