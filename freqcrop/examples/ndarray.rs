//! Crops and filters arrays of `ndarray`: `cargo run --release -p freqcrop --example ndarray`

use freqcrop::{FrequencyCrop, LowPass};
use ndarray::{Array3, Array4, Axis};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A batch of two images of one wave each, [N, C, H, W]: two periods in the first, forty in the
    // second.
    let wave = |periods: f32, x: usize| (2.0 * std::f32::consts::PI * periods * x as f32 / 128.0).cos();
    let batch =
        Array4::from_shape_fn((2, 3, 128, 128), |(n, _, _, x)| wave(if n == 0 { 2.0 } else { 40.0 }, x));

    // 48 of 128 frequencies: the slow wave stays as it is, the fast one is gone.
    let crop = FrequencyCrop::<f32>::new((128, 128), (48, 48))?;
    let small = crop.apply_batch(batch.view())?;
    let filtered = LowPass::<f32>::new((128, 128), (48, 48))?.apply_batch(batch.view())?;
    let power = |image: Array3<f32>| image.mapv(|v| v * v).mean().unwrap_or(0.0);
    for (n, name) in ["2 periods", "40 periods"].iter().enumerate() {
        let [before, cropped, low] =
            [&batch, &small, &filtered].map(|batch| power(batch.index_axis(Axis(0), n).to_owned()));
        println!(
            "{name}: power {before:.3}, {cropped:.3} in the crop {:?}, {low:.3} at full size",
            &small.shape()[1..]
        );
    }
    Ok(())
}
