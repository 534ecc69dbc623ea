//! Built-in image set, generated from a seed, for demonstrations and tests without data.
//!
//! Ten classes: five coarse shapes, each with fine stripes in one of two directions. The stripes
//! have 24 periods per image, so they vanish below a bandwidth of 48: low frequencies distinguish
//! shapes, but not all classes.

use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};
use rand::{Rng, RngExt};
use randaug::sample_rng;
use rayon::prelude::*;

use crate::data::decode::{DEFAULT_IMAGE_LIMIT, decode};
use crate::data::source::Source;
use crate::error::DataError;
use crate::util::purposes::SYNTHETIC_IMAGE;

const SHAPES: [&str; 5] = ["disc", "square", "triangle", "cross", "ring"];
const TEXTURES: [&str; 2] = ["horizontal", "vertical"];
/// Number of stripes across an image.
const PERIODS: f32 = 24.0;
/// Half the difference between light and dark stripes, in levels of 0..255.
const AMPLITUDE: f32 = 28.0;
const JPEG_QUALITY: u8 = 92;

/// Labeled images, JPEG-encoded in memory.
#[derive(Debug)]
pub struct Synthetic {
    classes: Vec<String>,
    files: Vec<Vec<u8>>,
}

/// Split of the built-in set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Split {
    /// Training images.
    Train,
    /// Evaluation images; none of them is a training image.
    Val,
}

impl Synthetic {
    /// Generates `images` images of `edge` x `edge` pixels with alternating classes.
    ///
    /// # Errors
    /// Returns an error if `images` is 0, or `edge` is below 48, which is too small for the
    /// stripes.
    pub fn new(seed: u64, split: Split, images: usize, edge: u32) -> Result<Self, DataError> {
        if images == 0 || edge < 2 * PERIODS as u32 {
            let what = format!(
                "a synthetic set needs at least 1 image of at least 48 pixels, got {images} of {edge}"
            );
            return Err(DataError::Setting(what));
        }
        let classes = SHAPES.iter().flat_map(|s| TEXTURES.iter().map(move |t| format!("{s}-{t}"))).collect();
        let stream = match split {
            Split::Train => 0,
            Split::Val => 1,
        };
        let make = |index: usize| {
            let image =
                draw(label(index), edge, &mut sample_rng(seed, stream, index as u64, SYNTHETIC_IMAGE));
            let mut bytes = Vec::new();
            let encoded = JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY).encode_image(&image);
            encoded.map_err(|e| DataError::Setting(format!("cannot encode a synthetic image: {e}")))?;
            Ok(bytes)
        };
        let files = (0..images).into_par_iter().map(make).collect::<Result<_, DataError>>()?;
        Ok(Self { classes, files })
    }
}

fn label(index: usize) -> u32 {
    (index % (SHAPES.len() * TEXTURES.len())) as u32
}

/// Draws an image of class `label`: a smooth background, a shape, stripes over both, and a little
/// noise.
fn draw(label: u32, edge: u32, rng: &mut impl Rng) -> RgbImage {
    let shape = label as usize / TEXTURES.len();
    let vertical = label as usize % TEXTURES.len() == 1;
    let ground = color(rng);
    let drift: [f32; 3] = std::array::from_fn(|_| rng.random_range(-50.0..50.0));
    // The shape differs in brightness by at least 50 levels, in one direction or the other.
    let lift: f32 = rng.random_range(50.0..90.0) * if rng.random_bool(0.5) { 1.0 } else { -1.0 };
    let tint: [f32; 3] = std::array::from_fn(|_| lift + rng.random_range(-25.0..25.0));
    let (cx, cy) = (rng.random_range(0.4..0.6), rng.random_range(0.4..0.6));
    let radius = rng.random_range(0.24..0.34);
    let (phase, noise_seed) = (rng.random_range(0.0..std::f32::consts::TAU), rng.next_u64());
    let at = |pixel: u32| (pixel as f32 + 0.5) / edge as f32;
    let stripe = |pixel| AMPLITUDE * (std::f32::consts::TAU * PERIODS * at(pixel) + phase).sin();
    let stripes: Vec<f32> = (0..edge).map(stripe).collect();
    RgbImage::from_fn(edge, edge, |x, y| {
        let (u, v) = (at(x), at(y));
        let stripe = stripes[if vertical { x } else { y } as usize];
        let noise = grain(noise_seed, y * edge + x);
        let inside = covers(shape, (u - cx) / radius, (v - cy) / radius);
        Rgb(std::array::from_fn(|c| {
            let base = ground[c] + drift[c] * (u - 0.5) + if inside { tint[c] } else { 0.0 };
            rounded(base + stripe + noise)
        }))
    })
}

/// The nearest level, halves up: as `round`, which is a function call on machines without an
/// instruction for it.
fn rounded(value: f32) -> u8 {
    let value = value.clamp(0.0, 255.0);
    let floor = value as u8;
    floor + u8::from(value - f32::from(floor) >= 0.5)
}

fn color(rng: &mut impl Rng) -> [f32; 3] {
    std::array::from_fn(|_| rng.random_range(90.0..165.0))
}

/// Returns noise of up to six levels.
fn grain(seed: u64, pixel: u32) -> f32 {
    let mixed =
        (seed ^ u64::from(pixel).wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed >> 40) as f32 / (1 << 24) as f32 * 12.0 - 6.0
}

/// Returns true if a shape of unit radius covers a point.
fn covers(shape: usize, x: f32, y: f32) -> bool {
    let distance = (x * x + y * y).sqrt();
    match SHAPES[shape] {
        "disc" => distance < 1.0,
        "square" => x.abs().max(y.abs()) < 0.88,
        "triangle" => y < 0.8 && y > -1.0 && x.abs() < (y + 1.0) * 0.62,
        "cross" => x.abs().min(y.abs()) < 0.32 && x.abs().max(y.abs()) < 1.05,
        _ => distance < 1.08 && distance > 0.62,
    }
}

impl Source for Synthetic {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        label(index)
    }

    fn name(&self, index: usize) -> String {
        // The name is part of the digest that checkpoints store, so it never changes.
        format!("synthetic picture {index}")
    }

    fn load(&self, index: usize) -> Result<RgbImage, DataError> {
        decode(&self.files[index], &self.name(index), DEFAULT_IMAGE_LIMIT)
    }

    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>, DataError> {
        Ok(Some(self.files[index].clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use freqcrop::FrequencyCrop;

    /// Mean distance between two images, in levels.
    fn distance(a: &[u8], b: &[u8]) -> f64 {
        let sum: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a.abs_diff(b))).sum();
        sum / a.len() as f64
    }

    fn pair(edge: u32, index: u64) -> (RgbImage, RgbImage) {
        let rng = || sample_rng(3, 0, index, SYNTHETIC_IMAGE);
        (draw(2, edge, &mut rng()), draw(3, edge, &mut rng()))
    }

    #[test]
    fn textures_vanish_at_low_bandwidth_and_show_at_full_size() {
        for index in 0..5 {
            // The same square, background and noise, with stripes in both directions.
            let (along, across) = pair(96, index);
            assert!(distance(&along, &across) > 15.0);
            let low = FrequencyCrop::<f32>::new((96, 96), (40, 40)).unwrap();
            let (along, across) = (low.apply_rgb8(&along).unwrap(), low.apply_rgb8(&across).unwrap());
            assert!(distance(&along, &across) < 2.0, "{}", distance(&along, &across));
        }
    }

    #[test]
    fn shapes_remain_at_low_bandwidth() {
        let low = FrequencyCrop::<f32>::new((96, 96), (24, 24)).unwrap();
        let small =
            |label| low.apply_rgb8(&draw(label, 96, &mut sample_rng(3, 0, 1, SYNTHETIC_IMAGE))).unwrap();
        assert!(distance(&small(0), &small(8)) > 5.0, "disc and ring look the same");
    }

    #[test]
    fn levels_are_rounded_as_by_the_standard_library() {
        let steps = (-40_000..300_000).map(|i| i as f32 / 1024.0);
        for value in steps.chain([0.499_999_97, 0.5, 254.5, 254.499_98, f32::MAX, f32::MIN]) {
            assert_eq!(rounded(value), value.round().clamp(0.0, 255.0) as u8, "{value}");
        }
    }

    #[test]
    fn the_set_is_a_function_of_its_seed_and_splits_differ() {
        let bytes = |seed, split| Synthetic::new(seed, split, 12, 64).unwrap().files;
        assert_eq!(bytes(1, Split::Train), bytes(1, Split::Train));
        assert_ne!(bytes(1, Split::Train)[0], bytes(2, Split::Train)[0]);
        assert_ne!(bytes(1, Split::Train)[0], bytes(1, Split::Val)[0]);
        let set = Synthetic::new(1, Split::Train, 12, 64).unwrap();
        assert_eq!((set.len(), set.classes().len(), set.label(11)), (12, 10, 1));
        assert_eq!(set.load(3).unwrap().dimensions(), (64, 64));
    }
}
