//! Times one round of the crop for every line on standard input, for scripts that alternate it with
//! a peer.
//!
//! A line is `gemm`, `crossover SIDE SIZE` (time of the Fourier backend over the separable one's),
//! or `KIND SIZE SECONDS` with KIND one of `chw`, `hwc`, `rgb8`, `fft`; the answer is one number:
//! GFLOP/s of the best matrix product, or images/s of one thread for 3x224x224 -> 3xSIZExSIZE.

use std::io::BufRead;
use std::time::Instant;

use freqcrop::{Backend, FrequencyCrop, Layout, Scratch};

const SIDE: usize = 224;
/// Different images, so that input comes from where a loader's would: not from the first-level
/// cache.
const IMAGES: usize = 16;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words[..] {
            ["gemm"] => best_gemm(),
            ["crossover", side, size] => crossover(side.parse()?, size.parse()?)?,
            [kind, size, seconds] => crop_rate(kind, size.parse()?, seconds.parse()?)?,
            _ => return Err(format!("expected `gemm` or `KIND SIZE SECONDS`, found {line:?}").into()),
        };
        println!("{answer}");
    }
    Ok(())
}

fn pixels(count: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..count).map(|_| next()).collect()
}

fn crop_rate(kind: &str, size: usize, seconds: f64) -> Result<f64, Box<dyn std::error::Error>> {
    let backend = if kind == "fft" { Backend::Fft } else { Backend::Separable };
    let plan = FrequencyCrop::<f32>::with_backend((SIDE, SIDE), (size, size), backend)?;
    let bytes = pixels(IMAGES * 3 * SIDE * SIDE);
    let floats: Vec<f32> = bytes.iter().map(|&b| f32::from(b) / 255.0).collect();
    let (mut out, mut out8) = (vec![0.0; 3 * size * size], vec![0; 3 * size * size]);
    let mut scratch = Scratch::new();
    let layout = if kind == "hwc" { Layout::Hwc } else { Layout::Chw };
    let mut round = || -> freqcrop::Result<()> {
        for (image, image8) in floats.chunks(3 * SIDE * SIDE).zip(bytes.chunks(3 * SIDE * SIDE)) {
            match kind {
                "rgb8" => plan.apply_rgb8_with(image8, &mut out8, &mut scratch)?,
                _ => plan.apply_slice_with(layout, 3, image, &mut out, &mut scratch)?,
            }
        }
        Ok(())
    };
    round()?;
    let (start, mut rounds) = (Instant::now(), 0);
    while start.elapsed().as_secs_f64() < seconds {
        round()?;
        rounds += 1;
    }
    Ok(f64::from(rounds) * IMAGES as f64 / start.elapsed().as_secs_f64())
}

/// Best time of the Fourier backend over best time of the separable one, SIDE x SIDE -> SIZE x
/// SIZE, one channel.
fn crossover(side: usize, size: usize) -> Result<f64, Box<dyn std::error::Error>> {
    let image: Vec<f32> = pixels(side * side).iter().map(|&b| f32::from(b) / 255.0).collect();
    let mut out = vec![0.0; size * size];
    let mut best = [f64::INFINITY; 2];
    let plans = [Backend::Fft, Backend::Separable]
        .map(|backend| FrequencyCrop::<f32>::with_backend((side, side), (size, size), backend));
    let [fft, separable] = plans;
    let plans = [fft?, separable?];
    let (started, mut scratch) = (Instant::now(), Scratch::new());
    for _ in 0..1000 {
        for (plan, best) in plans.iter().zip(&mut best) {
            let start = Instant::now();
            plan.apply_slice_with(Layout::Chw, 1, &image, &mut out, &mut scratch)?;
            *best = best.min(start.elapsed().as_secs_f64());
        }
        if started.elapsed().as_secs_f64() > 0.5 {
            break;
        }
    }
    Ok(best[0] / best[1])
}

/// Best of several single-thread products of 1024 x 1024 `f32` matrices.
fn best_gemm() -> f64 {
    const N: usize = 1024;
    let (a, b, mut c) = (vec![0.5_f32; N * N], vec![0.25_f32; N * N], vec![0.0_f32; N * N]);
    let mut best: f64 = 0.0;
    for _ in 0..8 {
        let start = Instant::now();
        product(N, &mut c, &a, &b);
        best = best.max(2.0 * (N * N * N) as f64 / start.elapsed().as_secs_f64() / 1e9);
    }
    best
}

#[allow(unsafe_code)]
fn product(n: usize, c: &mut [f32], a: &[f32], b: &[f32]) {
    assert!([a.len(), b.len(), c.len()] == [n * n; 3]);
    let (column, row) = (n as isize, 1);
    // SAFETY: all three are n x n with these strides, as asserted, and `c` is borrowed mutably, so
    // it overlaps neither.
    unsafe {
        gemm::gemm(
            n,
            n,
            n,
            c.as_mut_ptr(),
            column,
            row,
            false,
            a.as_ptr(),
            column,
            row,
            b.as_ptr(),
            column,
            row,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
