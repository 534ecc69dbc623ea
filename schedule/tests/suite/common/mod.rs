//! Shared by the tests.
#![allow(dead_code)]

pub(crate) mod search;

use serde_json::Value;

/// A file of tests/data.
pub(crate) fn load(name: &str) -> Value {
    let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Relative comparison; exact for zero.
pub(crate) fn close(ours: f64, golden: f64, tolerance: f64, label: &str) {
    assert!((ours - golden).abs() <= tolerance * golden.abs(), "{label}: {ours} against {golden}");
}
