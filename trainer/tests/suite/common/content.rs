//! What is in a checkpoint, for comparisons.

use std::path::Path;

use candle_core::DType;
use efficienttrain::checkpoint::Checkpoint;

/// Tensors by name.
pub(crate) type Bits = Vec<(String, Vec<u64>)>;

/// All contents of a checkpoint as bits, and the accuracies of its run.
pub(crate) fn content(path: &Path) -> (Bits, Vec<(u64, u64)>) {
    let bytes = std::fs::read(path).unwrap();
    let tensors = candle_core::safetensors::load_buffer(&bytes, &candle_core::Device::Cpu).unwrap();
    let bits = |t: &candle_core::Tensor| {
        let values = t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        values.into_iter().map(f64::to_bits).collect::<Vec<_>>()
    };
    let mut named: Vec<_> = tensors.iter().map(|(name, t)| (name.clone(), bits(t))).collect();
    named.sort();
    let saved = Checkpoint::open(path).unwrap();
    let evals = &saved.run().unwrap().history.evals;
    (named, evals.iter().map(|e| (e.step, e.top1.to_bits())).collect())
}

/// Returns the step of a checkpoint.
pub(crate) fn step_of(path: &Path) -> u64 {
    Checkpoint::open(path).unwrap().run().unwrap().step
}
