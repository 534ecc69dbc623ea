//! Reads golden folders: the selection in `tests/data`, and the whole set where
//! `EFFICIENTTRAIN_GOLDEN` names it.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};

use image::{GrayImage, RgbImage};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// One golden folder.
pub(crate) struct Golden(PathBuf);

/// Runs one test body over every available golden folder.
pub(crate) fn for_each_golden(body: impl Fn(&Golden)) {
    body(&Golden(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")));
    if let Some(folder) = std::env::var_os("EFFICIENTTRAIN_GOLDEN") {
        body(&Golden(folder.into()));
    } else {
        println!("note: EFFICIENTTRAIN_GOLDEN is unset, only the selection in tests/data is compared");
    }
}

impl Golden {
    /// A JSON file of `augment/`.
    pub(crate) fn json(&self, name: &str) -> Value {
        let path = self.0.join("augment").join(format!("{name}.json"));
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// A safetensors file of `augment/`.
    pub(crate) fn tensors(&self, name: &str) -> Tensors {
        let path = self.0.join("augment").join(format!("{name}.safetensors"));
        Tensors(fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    }

    /// A source image: `synth` from its formula, a photograph from `images/`.
    pub(crate) fn image(&self, name: &str) -> RgbImage {
        if name == "synth" {
            return synth_image(11, 64, 72);
        }
        let path = self.0.join("images").join(format!("{name}.png"));
        image::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).into_rgb8()
    }
}

/// Outputs of the libraries themselves, beyond the golden set.
pub(crate) fn oracle() -> (Value, Tensors) {
    let folder = Golden(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data"));
    (folder.json("../oracle/oracle"), folder.tensors("../oracle/oracle"))
}

/// The bytes of a safetensors file.
pub(crate) struct Tensors(Vec<u8>);

impl Tensors {
    fn bytes(&self, key: &str, dtype: Dtype) -> (Vec<usize>, Vec<u8>) {
        let file = SafeTensors::deserialize(&self.0).expect("a safetensors file");
        let tensor = file.tensor(key).unwrap_or_else(|e| panic!("{key}: {e}"));
        assert_eq!(tensor.dtype(), dtype, "{key}");
        (tensor.shape().to_vec(), tensor.data().to_vec())
    }

    /// A u8 `[H, W, 3]` array.
    pub(crate) fn image(&self, key: &str) -> RgbImage {
        let (shape, bytes) = self.bytes(key, Dtype::U8);
        assert_eq!(shape[2], 3, "{key}");
        RgbImage::from_raw(shape[1] as u32, shape[0] as u32, bytes).expect("as many bytes as pixels")
    }

    /// A u8 `[H, W, 1]` array.
    pub(crate) fn gray(&self, key: &str) -> GrayImage {
        let (shape, bytes) = self.bytes(key, Dtype::U8);
        assert_eq!(shape[2], 1, "{key}");
        GrayImage::from_raw(shape[1] as u32, shape[0] as u32, bytes).expect("as many bytes as pixels")
    }

    /// An f32 array, flat.
    pub(crate) fn floats(&self, key: &str) -> Vec<f32> {
        let (_, bytes) = self.bytes(key, Dtype::F32);
        bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
    }
}

/// Panics at the first byte that differs, saying where and by how much.
pub(crate) fn assert_same(got: &RgbImage, want: &RgbImage, what: &str) {
    assert_eq!(got.dimensions(), want.dimensions(), "{what}: size");
    let wrong = got.iter().zip(want.iter()).filter(|(a, b)| a != b).count();
    if let Some((i, (a, b))) = got.iter().zip(want.iter()).enumerate().find(|(_, (a, b))| a != b) {
        let (x, y, c) = (i / 3 % got.width() as usize, i / 3 / got.width() as usize, i % 3);
        panic!(
            "{what}: {wrong} of {} bytes differ, first at x {x} y {y} channel {c}: {a}, expected {b}",
            got.len()
        );
    }
}

/// Panics if two slices differ by more than `tolerance` anywhere.
pub(crate) fn assert_close(got: &[f32], want: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    for (i, (a, b)) in got.iter().zip(want).enumerate() {
        assert!((a - b).abs() <= tolerance, "{what}: value {i} is {a}, expected {b}");
    }
}

/// The cases of a golden file; a file without any would make a test empty, so that fails.
pub(crate) fn cases<'a>(file: &'a Value, list: &str) -> &'a [Value] {
    let cases = file[list].as_array().unwrap_or_else(|| panic!("no list {list}"));
    assert!(!cases.is_empty(), "{list} is empty");
    cases
}

/// A whole number of a case.
pub(crate) fn int(case: &Value, key: &str) -> u32 {
    case[key].as_u64().unwrap_or_else(|| panic!("{key} in {case}")) as u32
}

/// A number of a case.
pub(crate) fn float(case: &Value, key: &str) -> f64 {
    case[key].as_f64().unwrap_or_else(|| panic!("{key} in {case}"))
}

/// A text of a case.
pub(crate) fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_else(|| panic!("{key} in {case}"))
}

/// The hash behind all synthetic numbers of the golden set.
pub(crate) fn mix(seed: u64, index: u64) -> u64 {
    let mut x = seed ^ index.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// The synthetic image of the golden set: ramps, a rectangle, a disc, a checkerboard and noise.
pub(crate) fn synth_image(seed: u64, height: i64, width: i64) -> RgbImage {
    RgbImage::from_fn(width as u32, height as u32, |x, y| {
        image::Rgb([0, 1, 2].map(|c| synth_value(seed, height, width, (i64::from(x), i64::from(y)), c)))
    })
}

fn synth_value(seed: u64, h: i64, w: i64, (x, y): (i64, i64), c: usize) -> u8 {
    let (a, b, p) = ([2, 1, 3][c], [1, 3, 2][c], [48, 64, 80][c]);
    let t = (a * x + b * y + 7 * (seed % 5) as i64) % p;
    let mut v = 128 + (2 * t - p).abs() * 120 / p - 60;
    if w / 8 <= x && x < w / 2 && h / 4 <= y && y < 3 * h / 4 {
        v += [60, -45, 25][c];
    }
    if (x - 5 * w / 8).pow(2) + (y - 5 * h / 8).pow(2) < (h.min(w) / 4).pow(2) {
        v += [-50, 40, 70][c];
    }
    if x >= 3 * w / 4 && y < h / 4 {
        v += if (x / 4 + y / 4) % 2 == 0 { 25 } else { -25 };
    }
    let index = (c as i64 * h + y) * w + x;
    v += (mix(seed, index as u64) >> 60) as i64 - 8;
    v.clamp(0, 255) as u8
}
