//! Experiments with many runs: search for a curriculum, comparison at equal compute.

pub mod compare;
pub mod search;
