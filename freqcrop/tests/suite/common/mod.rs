//! Sources of the reference cases, from the formulas of their documentation, and a plain oracle.
#![allow(dead_code, unreachable_pub)] // each test binary uses its own part

use std::path::Path;

/// `mix` of the reference's deterministic numbers.
pub fn mix(seed: u64, index: u64) -> u64 {
    let mut x = seed ^ index.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// In [-1, 1).
pub fn hash_uniform(seed: u64, index: u64) -> f64 {
    (mix(seed, index) >> 40) as f64 / f64::from(1 << 23) - 1.0
}

/// `[channels, height, width]` of the hash numbers.
pub fn noise(seed: u64, len: usize) -> Vec<f64> {
    (0..len as u64).map(|i| hash_uniform(seed, i)).collect()
}

/// `synth_image`: u8 `[height, width, 3]`.
pub fn synth(seed: u64, height: i64, width: i64) -> Vec<u8> {
    let pixel = |y, x, c| synth_value(seed, (height, width), (y, x), c);
    let rows = (0..height).flat_map(|y| (0..width).map(move |x| (y, x)));
    rows.flat_map(|(y, x)| (0..3).map(move |c| (y, x, c))).map(|(y, x, c)| pixel(y, x, c)).collect()
}

fn synth_value(seed: u64, (h, w): (i64, i64), (y, x): (i64, i64), c: usize) -> u8 {
    let (a, b, p) = ([2, 1, 3][c], [1, 3, 2][c], [48, 64, 80][c]);
    let (r, d) = ([60, -45, 25][c], [-50, 40, 70][c]);
    let t = (a * x + b * y + 7 * (seed as i64 % 5)) % p;
    let mut v = 128 + (2 * t - p).abs() * 120 / p - 60;
    if (w / 8..w / 2).contains(&x) && (h / 4..3 * h / 4).contains(&y) {
        v += r;
    }
    if (x - 5 * w / 8).pow(2) + (y - 5 * h / 8).pow(2) < (h.min(w) / 4).pow(2) {
        v += d;
    }
    if x >= 3 * w / 4 && y < h / 4 {
        v += if (x / 4 + y / 4) % 2 == 0 { 25 } else { -25 };
    }
    v += (mix(seed, ((c as i64 * h + y) * w + x) as u64) >> 60) as i64 - 8;
    v.clamp(0, 255) as u8
}

/// `model_input`: f32 `[batch, 3, height, width]`.
pub fn model_input(seed: u64, batch: usize, height: usize, width: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(batch * 3 * height * width);
    for bc in 0..batch * 3 {
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let coarse = hash_uniform(seed + 1, ((bc * 64 + y / 16) * 64 + x / 16) as u64);
            let fine = hash_uniform(seed + 2, ((bc * height + y) * width + x) as u64);
            out.push(((1.5 * coarse + 0.5 * fine) + 0.5 * hash_uniform(seed + 3, bc as u64)) as f32);
        }
    }
    out
}

/// Top-left corner of a PNG image: u8 `[height, width, 3]`.
pub fn corner(path: &Path, height: u32, width: u32) -> Vec<u8> {
    let image = image::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    image.crop_imm(0, 0, width, height).to_rgb8().into_raw()
}

/// First `channels` channels of u8 HWC as `[channels, height, width]`, divided by 255.
pub fn planes(pixels: &[u8], channels: usize) -> Vec<f64> {
    let plane = |c| pixels.iter().skip(c).step_by(3).map(|&v| f64::from(v) / 255.0);
    (0..channels).flat_map(plane).collect()
}

/// The definition, term by term: every kept frequency of the DFT, then every output pixel. `O(h w
/// bh bw)` twice.
pub fn oracle(
    input: &[f64],
    (h, w): (usize, usize),
    (bh, bw): (usize, usize),
    (p, q): (usize, usize),
) -> Vec<f64> {
    use std::f64::consts::TAU;
    let range = |b: usize| -(b as i64 / 2)..b as i64 - b as i64 / 2;
    let mut out = vec![0.0; p * q];
    for (k, l) in range(bh).flat_map(|k| range(bw).map(move |l| (k, l))) {
        let (mut re, mut im) = (0.0, 0.0);
        for (n, m) in (0..h).flat_map(|n| (0..w).map(move |m| (n, m))) {
            let angle = TAU * (k as f64 * n as f64 / h as f64 + l as f64 * m as f64 / w as f64);
            re += input[n * w + m] * angle.cos();
            im -= input[n * w + m] * angle.sin();
        }
        for (i, j) in (0..p).flat_map(|i| (0..q).map(move |j| (i, j))) {
            let angle = TAU * (k as f64 * i as f64 / p as f64 + l as f64 * j as f64 / q as f64);
            out[i * q + j] += (re * angle.cos() - im * angle.sin()) / (h * w) as f64;
        }
    }
    out
}

/// Largest absolute difference of two equally long lists.
pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |worst, d| if d.is_nan() { f64::INFINITY } else { worst.max(d) })
}
