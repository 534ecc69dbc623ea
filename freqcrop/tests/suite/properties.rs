//! Properties of every size and image.

use crate::common::{distance, noise, oracle};
use freqcrop::{Backend, FrequencyCrop, Layout, LowPass, Plan};
use proptest::prelude::*;

const BACKENDS: [Backend; 2] = [Backend::Fft, Backend::Separable];

fn run(plan: &Plan<f64>, channels: usize, input: &[f64]) -> Vec<f64> {
    let (h, w) = plan.output_size();
    let mut out = vec![f64::NAN; channels * h * w];
    plan.apply_slice(Layout::Chw, channels, input, &mut out).unwrap();
    out
}

fn crop(image: (usize, usize), band: (usize, usize), backend: Backend) -> FrequencyCrop<f64> {
    FrequencyCrop::with_backend(image, band, backend).unwrap()
}

fn low_pass(image: (usize, usize), band: (usize, usize), backend: Backend) -> LowPass<f64> {
    LowPass::with_backend(image, band, backend).unwrap()
}

/// An image size and a band inside it.
fn sizes(max: usize) -> impl Strategy<Value = ((usize, usize), (usize, usize))> {
    ((1..=max), (1..=max)).prop_flat_map(|(h, w)| (Just((h, w)), ((1..=h), (1..=w))))
}

/// Every band of every small image, against the definition: all mixtures of odd, even, prime, 1 and
/// B = N.
#[test]
fn small_sizes_equal_the_definition() {
    for (h, w) in (1..=7).flat_map(|h| (1..=6).map(move |w| (h, w))) {
        let image = noise((h * 100 + w) as u64, h * w);
        for band in (1..=h).flat_map(|bh| (1..=w).map(move |bw| (bh, bw))) {
            let (cropped, filtered) =
                (oracle(&image, (h, w), band, band), oracle(&image, (h, w), band, (h, w)));
            for backend in BACKENDS {
                let off = distance(&run(&crop((h, w), band, backend), 1, &image), &cropped);
                assert!(off < 1e-12, "crop {h}x{w} to {band:?}, {backend:?}: {off:e}");
                let off = distance(&run(&low_pass((h, w), band, backend), 1, &image), &filtered);
                assert!(off < 1e-12, "low-pass {h}x{w} to {band:?}, {backend:?}: {off:e}");
            }
        }
    }
}

#[test]
fn full_band_is_the_identity_bit_for_bit() {
    for size in [(1, 1), (2, 3), (16, 16), (31, 45)] {
        let image = noise(3, 2 * size.0 * size.1);
        assert_eq!(run(&FrequencyCrop::new(size, size).unwrap(), 2, &image), image);
        assert_eq!(run(&LowPass::new(size, size).unwrap(), 2, &image), image);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn backends_agree((image, band) in sizes(70), seed: u64, channels in 1..4_usize) {
        let input = noise(seed, channels * image.0 * image.1);
        let [a, b] = BACKENDS.map(|backend| run(&crop(image, band, backend), channels, &input));
        prop_assert!(distance(&a, &b) < 1e-12);
        let [a, b] = BACKENDS.map(|backend| run(&low_pass(image, band, backend), channels, &input));
        prop_assert!(distance(&a, &b) < 1e-12);
    }

    #[test]
    fn linear((image, band) in sizes(40), seed: u64, factor in -3.0..3.0_f64) {
        let (x, y) = (noise(seed, image.0 * image.1), noise(seed ^ 1, image.0 * image.1));
        let mixed: Vec<f64> = x.iter().zip(&y).map(|(x, y)| x + factor * y).collect();
        for backend in BACKENDS {
            let plan = crop(image, band, backend);
            let apart = run(&plan, 1, &x).iter().zip(run(&plan, 1, &y)).map(|(x, y)| x + factor * y).collect::<Vec<_>>();
            prop_assert!(distance(&run(&plan, 1, &mixed), &apart) < 1e-12);
        }
    }

    #[test]
    fn mean_is_kept((image, band) in sizes(60), seed: u64) {
        let input = noise(seed, image.0 * image.1);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        for backend in BACKENDS {
            prop_assert!((mean(&run(&crop(image, band, backend), 1, &input)) - mean(&input)).abs() < 1e-13);
            prop_assert!((mean(&run(&low_pass(image, band, backend), 1, &input)) - mean(&input)).abs() < 1e-13);
        }
    }

    /// With odd bands the mask is symmetric, so filtering twice is filtering once. (An even band
    /// keeps half of the real wave at B/2: the real part is then taken of a complex result, and a
    /// second pass halves that wave again.)
    #[test]
    fn low_pass_is_idempotent((image, band) in sizes(40), seed: u64) {
        let band = (band.0 - usize::from(band.0 % 2 == 0), band.1 - usize::from(band.1 % 2 == 0));
        let input = noise(seed, image.0 * image.1);
        for backend in BACKENDS {
            let plan = low_pass(image, band, backend);
            let once = run(&plan, 1, &input);
            prop_assert!(distance(&run(&plan, 1, &once), &once) < 1e-12);
        }
    }

    /// Filtering, then cropping to the same odd band is cropping.
    #[test]
    fn crop_ignores_what_the_low_pass_removes((image, band) in sizes(40), seed: u64) {
        let band = (band.0 - usize::from(band.0 % 2 == 0), band.1 - usize::from(band.1 % 2 == 0));
        let input = noise(seed, image.0 * image.1);
        for backend in BACKENDS {
            let plan = crop(image, band, backend);
            let filtered = run(&low_pass(image, band, backend), 1, &input);
            prop_assert!(distance(&run(&plan, 1, &filtered), &run(&plan, 1, &input)) < 1e-12);
        }
    }

    /// A sum of waves below half the band is sampled exactly on the smaller grid.
    #[test]
    fn band_limited_images_are_cropped_exactly((image, band) in sizes(50), waves in prop::collection::vec((any::<u8>(), any::<u8>(), -1.0..1.0_f64, 0.0..6.0_f64), 1..6)) {
        let signal = |y: f64, x: f64| waves.iter().map(|&(k, l, amplitude, phase)| {
            let below = |k: u8, b: usize| f64::from(k) % ((b - 1) / 2 + 1) as f64;
            let angle = below(k, band.0) * y + below(l, band.1) * x;
            amplitude * (std::f64::consts::TAU * angle + phase).cos()
        }).sum::<f64>();
        let grid = |(h, w): (usize, usize)| (0..h).flat_map(|y| (0..w).map(move |x| (y, x)))
            .map(|(y, x)| signal(y as f64 / h as f64, x as f64 / w as f64)).collect::<Vec<_>>();
        for backend in BACKENDS {
            prop_assert!(distance(&run(&crop(image, band, backend), 1, &grid(image)), &grid(band)) < 1e-11);
            prop_assert!(distance(&run(&low_pass(image, band, backend), 1, &grid(image)), &grid(image)) < 1e-11);
        }
    }
}
