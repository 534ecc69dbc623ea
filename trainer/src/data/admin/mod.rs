//! Checking, measuring and packing of data sets.

pub(crate) mod check;
pub(crate) mod pack;
pub(crate) mod stats;
