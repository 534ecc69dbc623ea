//! Pooled features of a data set, and what simple classifiers make of them: a linear probe and nearest neighbours.
//!
//! Features are written as safetensors (`features` `[N, D]`, `labels` `[N]`), which the crate reads and writes anyway; in
//! Python, `safetensors.numpy.load_file` gives arrays. [`FeatureSet::save_npy`] writes NumPy's own files.

mod encoder;
mod extract;
mod knn;
mod probe;
mod set;

pub use encoder::Encoder;
pub use extract::{Pool, extract};
pub use knn::{Neighbors, nearest_neighbors};
pub use probe::{Probe, ProbeOptions, linear_probe};
pub use set::FeatureSet;
