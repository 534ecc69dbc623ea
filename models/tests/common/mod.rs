//! The closed formulas that fill golden inputs and weights (see `data/README.md`).
#![allow(dead_code, unreachable_pub)] // each test file uses its own part

pub mod gradients;

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use efficienttrain_models::{ParamKind, ParamSpec, ParamStore};

/// The `index`-th number of the stream `seed`, in [-1, 1).
pub fn hash_uniform(seed: u64, index: u64) -> f64 {
    let mut x = seed ^ index.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((x ^ (x >> 31)) >> 40) as f64 / f64::from(1 << 23) - 1.0
}

pub fn fnv1a64(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3))
}

/// The weight of a parameter by its name.
pub fn weight_fill(name: &str, shape: &[usize], salt: u64) -> Vec<f32> {
    let count: usize = shape.iter().product();
    let fan_in = count / shape.first().copied().unwrap_or(1).max(1);
    let tables = ["pos_embed", "cls_token", "relative_position_bias_table"];
    let value = |u: f64| match name {
        n if n.ends_with("running_mean") => 0.1 * u,
        n if n.ends_with("running_var") => 1.0 + 0.1 * u.abs(),
        n if tables.iter().any(|t| n.ends_with(t)) => 0.2 * u,
        _ if shape.len() > 1 => 3f64.sqrt() / (fan_in as f64).sqrt() * u,
        n if n.ends_with("gamma") => 0.5 + 0.1 * u,
        n if n.ends_with(".weight") || n.ends_with(".scale") => 1.0 + 0.1 * u,
        _ => 0.1 * u,
    };
    let seed = fnv1a64(name) ^ salt;
    (0..count as u64).map(|i| value(hash_uniform(seed, i)) as f32).collect()
}

/// Images `[b, 3, h, w]`.
pub fn model_input(seed: u64, b: usize, h: usize, w: usize) -> Tensor {
    let mut data = Vec::with_capacity(b * 3 * h * w);
    for bc in 0..b * 3 {
        for y in 0..h {
            for x in 0..w {
                let coarse = hash_uniform(seed + 1, ((bc * 64 + y / 16) * 64 + x / 16) as u64);
                let fine = hash_uniform(seed + 2, ((bc * h + y) * w + x) as u64);
                let level = hash_uniform(seed + 3, bc as u64);
                data.push(((1.5 * coarse + 0.5 * fine) + 0.5 * level) as f32);
            }
        }
    }
    Tensor::from_vec(data, (b, 3, h, w), &Device::Cpu).unwrap()
}

/// Golden weights for every parameter of a model.
pub fn golden_weights(name: &str, specs: &[ParamSpec], dtype: DType) -> ParamStore {
    let fill = |s: &ParamSpec| {
        let values = if s.kind == ParamKind::Counter { vec![0.0] } else { weight_fill(&s.name, &s.shape, 0) };
        (s.name.clone(), Tensor::from_vec(values, s.shape.as_slice(), &Device::Cpu).unwrap())
    };
    let tensors: HashMap<String, Tensor> = specs.iter().map(fill).collect();
    ParamStore::from_tensors(name, specs, &tensors, dtype, &Device::Cpu).unwrap()
}

/// The GPU to test on, if there is one. Where `EFFICIENTTRAIN_TEST_GPU` is set there must be.
pub fn gpu() -> Option<Device> {
    #[cfg(feature = "cuda")]
    {
        static GPU: std::sync::OnceLock<Option<Device>> = std::sync::OnceLock::new();
        let found = || match efficienttrain_models::ops::cuda::device(0) {
            Ok(gpu) => Some(gpu),
            Err(e) if std::env::var_os("EFFICIENTTRAIN_TEST_GPU").is_some() => {
                panic!("no GPU to test on: {e}")
            }
            Err(_) => None,
        };
        GPU.get_or_init(found).clone()
    }
    #[cfg(not(feature = "cuda"))]
    None
}

/// Everything that tests run on.
pub fn devices() -> Vec<Device> {
    std::iter::once(Device::Cpu).chain(gpu()).collect()
}

/// A tensor for an op together with `t`: if that is on a GPU, there and in `f32`.
pub fn beside(t: &Tensor, other: &Tensor) -> Tensor {
    match t.device() {
        Device::Cpu => other.clone(),
        gpu => other.to_dtype(DType::F32).unwrap().to_device(gpu).unwrap(),
    }
}

pub fn data(file: &str) -> PathBuf {
    // Elsewhere than if it was built, a test program is told where the numbers are.
    let folder = std::env::var_os("EFFICIENTTRAIN_TEST_DATA").map(PathBuf::from);
    folder.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data")).join(file)
}

pub fn json(file: &str) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(data(file)).unwrap()).unwrap()
}

pub fn tensors(file: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(data(file), &Device::Cpu).unwrap()
}

pub fn numbers(t: &Tensor) -> Vec<f64> {
    let t = t.to_device(&Device::Cpu).unwrap();
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

pub fn floats(v: &serde_json::Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

/// Infinite if only one of them is NaN, which `f64::max` would skip.
pub fn max_difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let off = |x: f64, y: f64| match (x.is_nan(), y.is_nan()) {
        (true, true) => 0.0,
        (false, false) if x == y => 0.0,
        (false, false) => (x - y).abs(),
        _ => f64::INFINITY,
    };
    a.iter().zip(b).fold(0.0, |m, (&x, &y)| f64::max(m, off(x, y)))
}

/// `got` within `relative` of `want`, or both below `floor`.
pub fn assert_close(what: &str, got: f64, want: f64, relative: f64, floor: f64) {
    let ok = (got - want).abs() <= relative * want.abs() + floor;
    assert!(ok, "{what}: got {got}, expected {want} within {relative} relative and {floor} absolute");
}
