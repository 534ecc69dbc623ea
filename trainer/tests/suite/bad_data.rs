//! Damaged, hostile and unusual data: the result is an image or an error that names the file, never
//! a panic.

use std::path::{Path, PathBuf};

use crate::common::shards::{jpeg, webdataset};
use crate::common::{Rendered, image_folder};
use efficienttrain::data::{
    BatchRequest, DEFAULT_IMAGE_LIMIT, EvalPipeline, ImageFolder, Loader, Source, TarShards, TrainPipeline,
    ViewSpec, decode, read_image, read_image_within,
};
use efficienttrain_schedule::Order;
use image::{ImageFormat, Rgb, RgbImage};
use rand::RngExt;
use randaug::{Purpose, sample_rng};

fn images() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/images");
    let files = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|p| p.extension().is_some_and(|e| e != "py") && !p.to_str().unwrap().contains(".pixels."))
        .collect();
    files.sort();
    files
}

/// Returns the error message for an image of these bytes; none if it can be read.
fn refusal(name: &str, bytes: &[u8]) -> Option<String> {
    decode(bytes, name, DEFAULT_IMAGE_LIMIT).err().map(|e| e.rendered())
}

#[test]
fn images_cut_off_anywhere_are_named() {
    for path in images() {
        let whole = std::fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        for length in 0..whole.len() {
            // The rest of a PNG after its pixels and the padding of a WebP may be missing.
            let spare = match name {
                "oriented-after-pixels.png" => 16 + 42,
                _ if name.ends_with("jpg") => 0,
                _ => 16,
            };
            match refusal(name, &whole[..length]) {
                Some(message) => assert!(message.contains(name), "{message}"),
                None => {
                    assert!(length + spare >= whole.len(), "{name} is read from {length} of {}", whole.len());
                }
            }
        }
        assert_eq!(refusal(name, &whole), None);
    }
}

#[test]
fn changed_bytes_of_images_do_no_harm() {
    let mut rng = sample_rng(1, 0, 0, Purpose::Custom(0));
    let mut refused = 0;
    for path in images() {
        let whole = std::fs::read(&path).unwrap();
        for _ in 0..400 {
            let mut bytes = whole.clone();
            for _ in 0..rng.random_range(1..6) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] = rng.random_range(0..=255);
            }
            // A changed size can be a large image, which takes long to decode; the limit keeps the
            // test short.
            refused += usize::from(decode(&bytes, "changed", 8 << 20).is_err());
        }
    }
    assert!(refused > 100, "only {refused} changes were noticed");
}

#[test]
fn the_content_counts_and_not_the_ending() {
    for path in images() {
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(refusal("some.bmp", &bytes), None, "{path:?}");
    }
    let message = refusal("text.jpg", b"It is not an image.").unwrap();
    assert!(message.contains("text.jpg") && message.contains("known format"), "{message}");
    assert!(refusal("empty.png", b"").unwrap().contains("empty"));
}

/// A set of the given images, all of one class.
struct GivenImages(Vec<RgbImage>, Vec<String>);

impl Source for GivenImages {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn classes(&self) -> &[String] {
        &self.1
    }
    fn label(&self, _: usize) -> u32 {
        0
    }
    fn name(&self, index: usize) -> String {
        index.to_string()
    }
    fn load(&self, index: usize) -> Result<RgbImage, efficienttrain::DataError> {
        Ok(self.0[index].clone())
    }
}

#[test]
fn very_long_images_can_be_trained_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut images = Vec::new();
    for (width, height) in [(20_000, 1), (1, 20_000), (1, 1)] {
        for ending in ["jpg", "png", "bmp"] {
            let path = dir.path().join(format!("{width}x{height}.{ending}"));
            RgbImage::from_pixel(width, height, Rgb([120, 120, 120])).save(&path).unwrap();
            let image = read_image(&path).unwrap();
            assert_eq!(image.dimensions(), (width, height));
            images.push(image);
        }
    }
    let count = images.len();
    let source = std::sync::Arc::new(GivenImages(images, vec!["long".into()]));
    let pipeline = TrainPipeline { base_size: 32, min_crop_area: 0.08, ..crate::common::pipeline() };
    let view = ViewSpec { size: 24, magnitude: 5.0, order: Order::CropThenAugment };
    let request = BatchRequest::fresh_images(0, count, view);
    let trained: Vec<_> =
        Loader::train(source.clone(), pipeline, std::iter::once(request), 1).unwrap().collect();
    assert!(
        trained.len() == 1
            && trained[0].as_ref().unwrap().normalized().unwrap().iter().all(|p| p.is_finite())
    );
    for batch in Loader::eval(source, EvalPipeline::new(32), count, 1).unwrap() {
        assert!(batch.unwrap().normalized().unwrap().iter().all(|p| p.is_finite()));
    }
}

/// An image that evaluation cannot resize is reported, and the others are evaluated.
#[test]
fn an_image_too_long_to_evaluate_is_skipped() {
    let images = vec![RgbImage::new(8, 8), RgbImage::new(20_000_000, 1), RgbImage::new(1, 4_200)];
    let source = std::sync::Arc::new(GivenImages(images, vec!["long".into()]));
    let batches: Vec<_> = Loader::eval(source, EvalPipeline::new(224), 3, 1).unwrap().collect();
    let batch = batches[0].as_ref().unwrap();
    assert_eq!((batches.len(), &batch.samples[..]), (1, &[0, 2][..]));
    assert_eq!((batch.bad.len(), batch.bad[0].name.as_str()), (1, "1"));
    assert!(batch.bad[0].reason.contains("below 2^32"), "{}", batch.bad[0].reason);
}

/// Files without pixels are errors in every command, and training replaces them.
#[test]
fn an_image_of_no_pixels_is_named() {
    for bytes in [&b"P6 0 5 255\n"[..], b"P5 5 0 255\n"] {
        let message = refusal("empty.ppm", bytes).unwrap();
        assert!(message.contains("empty.ppm"), "{message}");
    }
}

/// The limit includes all copies held at once: the gray pixels and the RGB made of them, or a
/// rotated copy.
#[test]
fn the_limit_counts_what_is_held() {
    let mut png = Vec::new();
    let gray = image::GrayImage::new(1000, 1000);
    gray.write_to(&mut std::io::Cursor::new(&mut png), ImageFormat::Png).unwrap();
    assert!(png.len() < 20_000);
    let message = decode(&png, "gray.png", 3_999_999).unwrap_err().rendered();
    assert!(message.contains("gray.png") && message.contains("--max-image-mib"), "{message}");
    assert!(decode(&png, "gray.png", 4_000_000).is_ok());

    let mut jpeg = Vec::new();
    let color = RgbImage::new(1000, 1000);
    color.write_to(&mut std::io::Cursor::new(&mut jpeg), ImageFormat::Jpeg).unwrap();
    // Three bytes per pixel, and the planes from which they are made.
    assert!(decode(&jpeg, "color.jpg", 3_000_000).is_err());
    assert!(decode(&jpeg, "color.jpg", 6_000_000).is_ok());
}

#[test]
fn a_decompression_bomb_is_refused_before_it_is_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    for ending in ["jpg", "png", "bmp", "webp"] {
        let path = dir.path().join(format!("bomb.{ending}"));
        RgbImage::new(600, 500).save(&path).unwrap();
        let size = 600 * 500 * 3;
        assert!(read_image_within(&path, 4 * size).is_ok(), "{ending}");
        let message = read_image_within(&path, size - 1).unwrap_err().rendered();
        assert!(message.contains("bomb"), "{message}");
        if ending != "png" && ending != "webp" {
            assert!(message.contains("--max-image-mib"), "{message}");
        }
    }
    // A header that claims 65,535 x 65,535 pixels, above the default limit.
    let mut small = jpeg(9, 8, 8);
    let at = small.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    small[at + 5..at + 9].fill(0xff);
    let message = refusal("claims.jpg", &small).unwrap();
    assert!(message.contains("65535x65535") && message.contains("--max-image-mib"), "{message}");
    let claims = dir.path().join("claims.bmp");
    RgbImage::new(8, 8).save_with_format(&claims, ImageFormat::Bmp).unwrap();
    let mut bytes = std::fs::read(&claims).unwrap();
    bytes[18..22].copy_from_slice(&60_000u32.to_le_bytes());
    bytes[22..26].copy_from_slice(&60_000u32.to_le_bytes());
    assert!(refusal("claims.bmp", &bytes).unwrap().contains("claims.bmp"));
}

#[cfg(unix)]
mod unix {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn names_that_are_not_utf8_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let class = dir.path().join(OsStr::from_bytes(b"caf\xe9"));
        std::fs::create_dir(&class).unwrap();
        std::fs::write(class.join(OsStr::from_bytes(b"\xff\xfe.jpg")), jpeg(9, 8, 8)).unwrap();
        let set = ImageFolder::open(dir.path()).unwrap();
        assert!(set.len() == 1 && set.load(0).is_ok() && set.classes()[0].starts_with("caf"));
        assert!(ImageFolder::open_like(dir.path(), set.classes()).unwrap().load(0).is_ok());
        let other = dir.path().join(OsStr::from_bytes(b"caf\xe8"));
        std::fs::create_dir(&other).unwrap();
        let message = ImageFolder::open(dir.path()).unwrap_err().rendered();
        assert!(message.contains("two class folders"), "{message}");
    }

    #[test]
    fn links_in_a_circle_end() {
        let dir = tempfile::tempdir().unwrap();
        let train = image_folder(dir.path(), 2, 2).join("train");
        symlink("../class0", train.join("class0/again")).unwrap();
        symlink("self.jpg", train.join("class1/self.jpg")).unwrap();
        let set = ImageFolder::open(&train).unwrap();
        assert_eq!(set.len(), 5);
        let broken: Vec<_> = (0..5).filter_map(|i| set.load(i).err()).map(|e| e.rendered()).collect();
        assert!(broken.len() == 1 && broken[0].contains("self.jpg"), "{broken:?}");
        symlink("../train", train.join("loop")).unwrap();
        let message = ImageFolder::open(&train).unwrap_err().rendered();
        assert!(message.contains("loop") && message.contains("link"), "{message}");
    }

    #[test]
    fn a_class_may_be_a_link_to_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let train = image_folder(dir.path(), 2, 2).join("train");
        std::fs::rename(train.join("class1"), dir.path().join("elsewhere")).unwrap();
        symlink("../elsewhere", train.join("class1")).unwrap();
        assert_eq!(ImageFolder::open(&train).unwrap().len(), 4);
    }

    #[test]
    fn folders_that_may_not_be_read_or_written() {
        let dir = tempfile::tempdir().unwrap();
        let train = image_folder(dir.path(), 2, 2).join("train");
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(&train.join("class1"), 0);
        let unreadable = std::fs::read_dir(train.join("class1")).is_err();
        let opened = ImageFolder::open(&train);
        mode(&train.join("class1"), 0o755);
        // The administrator may read everything, so nothing is refused then.
        assert_eq!(opened.is_err(), unreadable);
        if let Err(error) = opened {
            assert!(error.rendered().contains("class1"), "{error}");
        }
        let shards = dir.path().join("shards");
        webdataset(&shards.join("a.tar"), &["0", "1"]);
        mode(&shards, 0o555);
        let opened = TarShards::open(&[shards.join("a.tar")], None, DEFAULT_IMAGE_LIMIT);
        mode(&shards, 0o755);
        assert_eq!(opened.unwrap().len(), 2, "an index that cannot be kept is no reason to stop");
    }
}
