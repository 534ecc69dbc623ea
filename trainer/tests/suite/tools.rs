//! Commands for single steps of the pipeline: `crop`, `augment`, `preview`.

use std::path::Path;
use std::process::{Command, Output};

use image::{GrayImage, ImageBuffer, Luma, Rgb, RgbImage, RgbaImage};

fn efficienttrain(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_efficienttrain")).current_dir(dir).args(args).output().unwrap()
}

fn accepted(dir: &Path, args: &[&str]) {
    let out = efficienttrain(dir, args);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

fn refused(dir: &Path, args: &[&str], expected: &str) {
    let out = efficienttrain(dir, args);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code().is_some_and(|c| c != 0 && c != 101), "{args:?}: {said}");
    assert!(said.contains(expected), "{args:?}: `{said}` does not say `{expected}`");
}

/// A folder with an image of smooth colors and noise.
fn folder() -> (tempfile::TempDir, RgbImage) {
    let dir = tempfile::tempdir().unwrap();
    let noise = |x: u32, y: u32, c: u32| (x * 31 + y * 17 + c * 7 + x * y * 13) % 23;
    let image = RgbImage::from_fn(30, 20, |x, y| {
        Rgb([0, 1, 2].map(|c| (60 + 4 * x + 3 * y * (c + 1) / 2 + noise(x, y, c)).min(255) as u8))
    });
    image.save(dir.path().join("in.png")).unwrap();
    (dir, image)
}

/// `[C, H, W]` from a `.safetensors` file.
fn floats(path: &Path) -> (Vec<usize>, Vec<f32>) {
    let tensors = candle_core::safetensors::load(path, &candle_core::Device::Cpu).unwrap();
    let image = &tensors["image"];
    (image.dims().to_vec(), image.flatten_all().unwrap().to_vec1().unwrap())
}

#[test]
fn a_crop_keeps_the_mean_and_a_whole_band_keeps_everything() {
    let (dir, image) = folder();
    let at = |name: &str| dir.path().join(name);
    let mean = |v: &[f32]| v.iter().map(|&v| f64::from(v)).sum::<f64>() / v.len() as f64;
    let original = image.iter().map(|&v| f64::from(v) / 255.0).sum::<f64>() / 1800.0;
    for (size, shape) in [("10x12", [3, 10, 12]), ("9", [3, 9, 9])] {
        accepted(dir.path(), &["crop", "in.png", "out.safetensors", "--size", size]);
        let (dims, values) = floats(&at("out.safetensors"));
        assert_eq!(dims, shape);
        assert!((mean(&values) - original).abs() < 1e-6);
        accepted(dir.path(), &["crop", "in.png", "low.safetensors", "--size", size, "--low-pass"]);
        let (dims, values) = floats(&at("low.safetensors"));
        assert_eq!(dims, [3, 20, 30]);
        assert!((mean(&values) - original).abs() < 1e-6);
    }
    accepted(dir.path(), &["crop", "in.png", "same.png", "--size", "20x30"]);
    assert_eq!(image::open(at("same.png")).unwrap().into_rgb8(), image);
}

#[test]
fn every_kind_of_result_holds_the_same_numbers() {
    let (dir, _) = folder();
    let at = |name: &str| dir.path().join(name);
    for method in ["fourier", "lanczos"] {
        for out in ["out.png", "out.npy", "out.safetensors"] {
            accepted(dir.path(), &["crop", "in.png", out, "--size", "10x15", "--method", method]);
        }
        let (_, values) = floats(&at("out.safetensors"));
        let npy = candle_core::Tensor::read_npy(at("out.npy")).unwrap();
        assert_eq!(npy.dims(), [3, 10, 15]);
        assert_eq!(npy.flatten_all().unwrap().to_vec1::<f32>().unwrap(), values);
        let png = image::open(at("out.png")).unwrap().into_rgb8();
        for (x, y, pixel) in png.enumerate_pixels() {
            for c in 0..3 {
                let exact = 255.0 * values[(c * 10 + y as usize) * 15 + x as usize];
                assert!((exact.clamp(0.0, 255.0) - f32::from(pixel.0[c])).abs() <= 0.5 + 1e-4, "{method}");
            }
        }
    }
}

#[test]
fn channels_are_kept_and_what_cannot_be_done_is_said() {
    let (dir, _) = folder();
    let at = |name: &str| dir.path().join(name);
    GrayImage::from_fn(8, 8, |x, y| Luma([(20 * x + y) as u8])).save(at("gray.png")).unwrap();
    accepted(dir.path(), &["crop", "gray.png", "g.safetensors", "--size", "4"]);
    assert_eq!(floats(&at("g.safetensors")).0, [1, 4, 4]);
    RgbaImage::new(8, 8).save(at("alpha.png")).unwrap();
    accepted(dir.path(), &["crop", "alpha.png", "a.png", "--size", "4"]);
    assert_eq!(image::open(at("a.png")).unwrap().color().channel_count(), 4);
    let cases: [(&[&str], &str); 11] = [
        (&["crop", "in.png", "o.png", "--size", "31"], "--size"),
        (&["crop", "in.png", "o.png", "--size", "0"], "HEIGHTxWIDTH"),
        (&["crop", "in.png", "o.png", "--size", "4x"], "HEIGHTxWIDTH"),
        (&["crop", "in.png", "o.png", "--size", "9x9x9"], "HEIGHTxWIDTH"),
        (&["crop", "in.png", "o.png", "--size=-1"], "HEIGHTxWIDTH"),
        (&["crop", "in.png", "o", "--size", "4"], "no file extension"),
        (&["crop", "in.png", "o.xyz", "--size", "4"], "o.xyz"),
        (&["crop", "none.png", "o.png", "--size", "4"], "none.png"),
        (&["crop", "in.png", "o.png", "--size", "4", "--low-pass", "--method", "lanczos"], "--low-pass"),
        (&["augment", "alpha.png", "o.png", "--op", "Invert", "--magnitude", "1"], "transparency"),
        (&["augment", "in.png", "o.png", "--op", "Rotat", "--magnitude", "1"], "Rotate"),
    ];
    for (args, expected) in cases {
        refused(dir.path(), args, expected);
    }
}

/// Images are read like in training: upright, 16 bits as 8, and cut-off files are refused.
#[test]
fn crop_and_augment_read_images_as_training_does() {
    let (dir, _) = folder();
    let at = |name: &str| dir.path().join(name);
    let deep = ImageBuffer::from_fn(8, 8, |x, y| Rgb([x as u16 * 257 * 8, y as u16 * 257 * 9, 40_000]));
    image::DynamicImage::ImageRgb16(deep.clone()).save(at("deep.png")).unwrap();
    let shallow = RgbImage::from_fn(8, 8, |x, y| Rgb([x as u8 * 8, y as u8 * 9, 156]));
    for command in ["crop", "augment"] {
        let read = |input: &str| {
            let args: &[&str] = match command {
                "crop" => &["crop", input, "out.png", "--size", "8"],
                _ => &["augment", input, "out.png", "--op", "Invert", "--magnitude", "1"],
            };
            accepted(dir.path(), args);
            image::open(at("out.png")).unwrap().into_rgb8()
        };
        shallow.save(at("shallow.png")).unwrap();
        assert_eq!(read("deep.png"), read("shallow.png"), "{command}");
        let fixture = |name: &str| format!("{}/tests/data/images/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::copy(fixture("orientation6.jpg.pixels.png"), at("upright.png")).unwrap();
        let (height, width) = image::image_dimensions(at("upright.png")).map(|(w, h)| (h, w)).unwrap();
        if command == "crop" {
            let size = format!("{height}x{width}");
            for (input, out) in
                [(fixture("orientation6.jpg"), "turned.png"), ("upright.png".into(), "same.png")]
            {
                accepted(dir.path(), &["crop", &input, out, "--size", &size]);
            }
            assert_eq!(image::open(at("turned.png")).unwrap(), image::open(at("same.png")).unwrap());
        }
        let bytes = std::fs::read(fixture("baseline.jpg")).unwrap();
        std::fs::write(at("cut.jpg"), &bytes[..bytes.len() - 2]).unwrap();
        let args: &[&str] = match command {
            "crop" => &["crop", "cut.jpg", "o.png", "--size", "4"],
            _ => &["augment", "cut.jpg", "o.png", "--op", "Invert", "--magnitude", "1"],
        };
        refused(dir.path(), args, "cut off");
    }
}

#[test]
fn an_operation_is_applied_as_named() {
    let (dir, image) = folder();
    let run = |args: &[&str]| {
        accepted(dir.path(), &[&["augment", "in.png", "out.png"], args].concat());
        image::open(dir.path().join("out.png")).unwrap().into_rgb8()
    };
    let inverted = run(&["--op", "Invert", "--magnitude", "3"]);
    assert!(inverted.iter().zip(image.iter()).all(|(a, b)| *a == 255 - b));
    assert_eq!(run(&["--op", "Rotate", "--magnitude", "0"]), image);
    let (left, right) = (
        run(&["--op", "Rotate", "--magnitude", "5"]),
        run(&["--op", "Rotate", "--magnitude", "5", "--negate"]),
    );
    assert_ne!(left, right);
    assert_ne!(left, run(&["--op", "Rotate", "--magnitude", "5", "--interpolation", "nearest"]));
}

#[test]
fn a_preview_has_an_image_for_every_size_and_strength() {
    let dir = tempfile::tempdir().unwrap();
    let args = [
        "preview",
        "--synthetic-images",
        "16",
        "--base-size",
        "64",
        "--recipe",
        "resnet18-etpp",
        "--out",
        "p.png",
    ];
    accepted(dir.path(), &args);
    let grid = image::open(dir.path().join("p.png")).unwrap().into_rgb8();
    // Sizes 24 or 32, 48, 64 across and magnitudes 0 to 9 down, 4 pixels between.
    assert_eq!(grid.dimensions(), (44 + 3 * 68, 12 + 10 * 68));
    accepted(dir.path(), &[&args[..], &["--order", "augment-then-crop"]].concat());
    assert_ne!(image::open(dir.path().join("p.png")).unwrap().into_rgb8(), grid);
    refused(dir.path(), &["preview", "--synthetic-images", "16", "--index", "16"], "16 training images");
    refused(dir.path(), &["preview", "no-such-folder"], "no-such-folder");
}
