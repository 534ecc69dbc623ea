//! Pooled features of a data set, with simple classifiers: a linear probe and k nearest neighbors.
//!
//! Features are written as safetensors (`features` `[N, D]`, `labels` `[N]`), which the crate needs
//! anyway; in Python, `safetensors.numpy.load_file` returns arrays. [`FeatureSet::save_npy`] writes
//! NumPy files.

pub(crate) mod encoder;
pub(crate) mod extract;
pub(crate) mod knn;
pub(crate) mod probe;
pub(crate) mod set;

pub use encoder::Encoder;
pub use extract::{Pool, extract};
pub use knn::{Neighbors, nearest_neighbors};
pub use probe::{Probe, ProbeOptions, linear_probe};
pub use set::FeatureSet;
