//! Compiles the CUDA kernels, once for each way to store activations, where the feature `cuda` asks
//! for them.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// Where kernels lie, from the crate's folder.
const KERNELS: &str = "src/ops/cuda/kernels";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=NVCC");
    println!("cargo::rerun-if-env-changed=CUDA_HOME");
    println!("cargo::rerun-if-env-changed=CUDA_COMPUTE_CAP");
    println!("cargo::rerun-if-changed={KERNELS}");
    if env::var_os("CARGO_FEATURE_CUDA").is_some() {
        println!("cargo::rustc-env=EFFICIENTTRAIN_COMPUTE_CAP={}", capability());
        for (stored, name) in ["f32", "bf16", "f16"].into_iter().enumerate() {
            compile(stored, name);
        }
    }
}

/// The compiler: what `NVCC` names, that of `CUDA_HOME`, or the one on the path.
fn compiler() -> String {
    let of_home = || env::var("CUDA_HOME").ok().map(|home| format!("{home}/bin/nvcc"));
    let named = env::var("NVCC").ok().or_else(|| of_home().filter(|nvcc| Path::new(nvcc).exists()));
    named.unwrap_or_else(|| "nvcc".into())
}

/// Compute capability 8.0 runs on every GPU since; a capability that is asked for may be used
/// better.
fn capability() -> String {
    env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| "80".into())
}

fn compile(stored: usize, name: &str) {
    let capability = capability();
    let nvcc = compiler();
    let out = format!("{}/{name}.fatbin", env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    // Machine code of the capability, so that nothing is compiled at a program's start on such a GPU;
    // and PTX, which the driver compiles for later ones.
    let targets = format!("-gencode=arch=compute_{capability},code=[sm_{capability},compute_{capability}]");
    let run = Command::new(&nvcc)
        .args(["-fatbin", "-O3", "-std=c++17", &targets])
        .args([&format!("-DSTORED={stored}"), &format!("{KERNELS}/all.cu"), "-o", &out])
        .output();
    let run = run.unwrap_or_else(|e| {
        panic!(
            "the feature `cuda` needs NVIDIA's compiler, and `{nvcc}` cannot be run ({e}); install the CUDA toolkit and \
             set NVCC or CUDA_HOME, or build without the feature"
        )
    });
    let complaints = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{nvcc} could not compile the kernels for {name}:\n{complaints}");
    assert!(fs::exists(&out).unwrap_or(false), "{nvcc} wrote no {out}:\n{complaints}");
}
