//! Images per second of each step, one thread: `cargo run --release -p randaug --example speed`.
//!
//! The source is a synthetic image of 500 x 375 pixels, the usual size of an ImageNet photograph.
//! Every figure is the best of five rounds, because the machine's other work can only make a round
//! slower.

use std::hint::black_box;
use std::time::Instant;

use image::{Rgb, RgbImage};
use randaug::{
    Adjustment, Filter, Layout, Normalize, Op, Policy, Purpose, RandAugment, RandomErasing,
    RandomResizedCrop, Result, Scratch, resize, sample_rng,
};

/// Images per second: the best of five rounds of at least a fifth of a second.
fn measure(name: &str, mut step: impl FnMut(u64) -> Result<()>) -> Result<()> {
    let mut best = f64::INFINITY;
    let mut index = 0;
    for _ in 0..5 {
        let (start, first) = (Instant::now(), index);
        while start.elapsed().as_secs_f64() < 0.2 {
            step(index)?;
            index += 1;
        }
        best = best.min(start.elapsed().as_secs_f64() / (index - first) as f64);
    }
    println!("{name:<44} {:>9.0} images/s  {:>8.1} us", 1.0 / best, best * 1e6);
    Ok(())
}

fn textured(width: u32, height: u32) -> RgbImage {
    let wave = |x: u32, y: u32| ((x * x / 37 + y * y / 23) % 256) as u8;
    RgbImage::from_fn(width, height, |x, y| Rgb([wave(x, y), wave(y, x), (x / 2 + y / 3) as u8]))
}

fn main() -> Result<()> {
    let normalize = Normalize::default();
    let (source, mut scratch) = (textured(500, 375), Scratch::new());
    let crop = RandomResizedCrop::default();
    for size in [96, 160, 224] {
        let mut out = RgbImage::new(size, size);
        measure(&format!("random resized crop, 500x375 to {size}"), |i| {
            crop.apply_into(&source, &mut out, &mut sample_rng(0, 0, i, Purpose::Crop), &mut scratch)
        })?;
    }
    let large = textured(224, 224);
    measure("Lanczos 224 to 96", |_| {
        black_box(resize(&large, 96, 96, Filter::Lanczos, &mut scratch)?);
        Ok(())
    })?;
    for size in [96, 160, 224] {
        let image = textured(size, size);
        let (policy, mut work) = (RandAugment::default(), image.clone());
        measure(&format!("RandAugment at {size}, magnitude 9"), |i| {
            work.copy_from_slice(&image);
            policy.apply(&mut work, 9.0, &mut sample_rng(0, 0, i, Purpose::Augment), &mut scratch)
        })?;
        let mut tensor = vec![0.0; image.len()];
        measure(&format!("normalize and erase at {size}, channels last"), |i| {
            normalize.apply(&image, Layout::Hwc, &mut tensor)?;
            let mut rng = sample_rng(0, 0, i, Purpose::Erase);
            RandomErasing::default().apply(&mut tensor, (3, size, size), Layout::Hwc, &mut rng)?;
            Ok(())
        })?;
    }
    let mut work = large.clone();
    measure("hue at 224", |_| {
        work.copy_from_slice(&large);
        Adjustment::Hue.apply(&mut work, 0.1)
    })?;
    for text in ["augmix-m3", "original", "v0", "3a", "ta_wide"] {
        let policy: Policy = text.parse()?;
        measure(&format!("{text} at 224"), |i| {
            work.copy_from_slice(&large);
            policy.apply(&mut work, None, &mut sample_rng(0, 0, i, Purpose::Augment), &mut scratch)
        })?;
    }
    for op in Op::INCREASING.into_iter().chain([Op::Desaturate, Op::GaussianBlur]) {
        measure(&format!("{op} at 224"), |_| {
            work.copy_from_slice(&large);
            op.apply(&mut work, 5.0, false, &mut scratch)
        })?;
    }
    Ok(())
}
