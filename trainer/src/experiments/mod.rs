//! Experiments made of runs: the search for a curriculum, comparisons at equal compute.

pub mod compare;
pub mod search;
