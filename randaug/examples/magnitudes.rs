//! Draws a grid of augmented images: one row for each of six samples, one column for each magnitude
//! 0..9.
//!
//! `cargo run --release -p randaug --example magnitudes -- [image.png] [out.png]`; without an image
//! it makes one.

use std::env;
use std::error::Error;

use image::{GenericImage, Rgb, RgbImage};
use randaug::{Filter, Purpose, RandAugment, RandomResizedCrop, Scratch, resize, sample_rng};

/// Edge of each small image, and the gap between two images, in pixels.
const SIZE: u32 = 112;
const GAP: u32 = 4;
const SAMPLES: u64 = 6;

/// A scene with edges, smooth shades and fine texture.
fn scene(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let (dx, dy) = (f64::from(x) - 250.0, f64::from(y) - 150.0);
        if dx * dx + dy * dy < 80.0 * 80.0 {
            return Rgb([230, 180 - (y / 4) as u8, 40]);
        }
        if y > 240 {
            let tile = if (x / 12 + y / 12) % 2 == 0 { 40 } else { 0 };
            return Rgb([60 + tile, 110 + tile, 60]);
        }
        Rgb([(70 + y / 4) as u8, (130 + y / 4) as u8, 220])
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let source = match args.next() {
        Some(path) => image::open(&path).map_err(|e| format!("{path}: {e}"))?.into_rgb8(),
        None => scene(400, 320),
    };
    let out = args.next().unwrap_or_else(|| env::temp_dir().join("magnitudes.png").display().to_string());

    let (policy, crop, mut scratch) = (RandAugment::default(), RandomResizedCrop::default(), Scratch::new());
    let (columns, rows) = (11, SAMPLES as u32);
    let edge = |count: u32| count * (SIZE + GAP) + GAP;
    let mut grid = RgbImage::from_pixel(edge(columns), edge(rows), Rgb([255; 3]));
    for sample in 0..SAMPLES {
        let y = edge(sample as u32);
        let whole = resize(&source, SIZE, SIZE, Filter::Bicubic, &mut scratch)?;
        grid.copy_from(&whole, GAP, y)?;
        for magnitude in 0..10 {
            // The same numbers in every column: only the magnitude differs.
            let rng = |purpose| sample_rng(1, 0, sample, purpose);
            let mut image = crop.apply(&source, SIZE, &mut rng(Purpose::Crop), &mut scratch)?;
            policy.apply(&mut image, f64::from(magnitude), &mut rng(Purpose::Augment), &mut scratch)?;
            grid.copy_from(&image, edge(magnitude + 1), y)?;
        }
    }
    grid.save(&out)?;
    println!("left: the source; then magnitudes 0 to 9, each row with the same random numbers: {out}");
    Ok(())
}
