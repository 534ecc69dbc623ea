//! Administration of data sets: checking, measuring and packing them.

pub(crate) mod check;
pub(crate) mod pack;
pub(crate) mod stats;
