//! Crops an image to its low frequencies, shows the Lanczos resize beside it and prints the
//! distance between the two.
//!
//! ```text
//! cargo run --release -p freqcrop --example crop_image -- [IMAGE.png] [B] [OUT.png]
//! ```
//! Without an image it draws one with fine stripes: the resize keeps a trace of them, the crop does
//! not.

use freqcrop::{FrequencyCrop, Lanczos, Layout};
use image::RgbImage;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (image, name) = match arguments.next() {
        Some(path) => (image::open(&path)?.to_rgb8(), path),
        None => (stripes(), "synthetic image".to_string()),
    };
    let side = image.width().min(image.height()).min(224);
    let size: usize = arguments.next().map_or(Ok(96), |text| text.parse())?;
    let out_path = arguments.next().unwrap_or_else(|| "crop_image.png".to_string());
    let image = image::imageops::crop_imm(&image, 0, 0, side, side).to_image();

    let input = (side as usize, side as usize);
    let crop = FrequencyCrop::new(input, (size, size))?;
    let cropped = crop.apply_rgb8(&image)?;
    let resized = Lanczos::new(input, (size, size))?.apply_u8(3, &image)?;
    let (psnr, worst) = distance(&crop, &image, &resized)?;
    println!(
        "{name}, top-left {side} x {side} to {size} x {size}: crop against Lanczos, PSNR {psnr:.2} dB, largest difference {worst:.3} of the range"
    );

    let mut beside = RgbImage::new(2 * size as u32 + 4, size as u32);
    for (index, (a, b)) in cropped.chunks(3).zip(resized.chunks(3)).enumerate() {
        let (x, y) = ((index % size) as u32, (index / size) as u32);
        beside.put_pixel(x, y, image::Rgb([a[0], a[1], a[2]]));
        beside.put_pixel(x + size as u32 + 4, y, image::Rgb([b[0], b[1], b[2]]));
    }
    beside.save(&out_path)?;
    println!("crop on the left, resize on the right: {out_path}");
    Ok(())
}

/// Returns the PSNR in dB and the largest difference between the unrounded crop and the resized
/// bytes, both in 0..=1.
fn distance(crop: &FrequencyCrop, image: &[u8], resized: &[u8]) -> freqcrop::Result<(f64, f64)> {
    let input: Vec<f32> = image.iter().map(|&v| f32::from(v) / 255.0).collect();
    let mut exact = vec![0.0; resized.len()];
    crop.apply_slice(Layout::Hwc, 3, &input, &mut exact)?;
    let differences = exact.iter().zip(resized).map(|(&a, &b)| f64::from(a) - f64::from(b) / 255.0);
    let (sum, worst) = differences.fold((0.0, 0.0_f64), |(sum, worst), d| (sum + d * d, worst.max(d.abs())));
    Ok((-10.0 * (sum / resized.len() as f64).log10(), worst))
}

/// Draws a disc and a gradient under stripes that are too fine for the crop.
fn stripes() -> RgbImage {
    RgbImage::from_fn(224, 224, |x, y| {
        let inside = (x as i32 - 112).pow(2) + (y as i32 - 112).pow(2) < 70 * 70;
        let base = if inside { 170 } else { 60 + x / 4 };
        let stripe = if (x / 2) % 2 == 0 { 60 } else { 0 };
        image::Rgb([(base + stripe) as u8, (base / 2 + stripe) as u8, (200 - base / 2) as u8])
    })
}
