//! General helpers: files, paths, stored values.

pub(crate) mod atomic_file;
pub(crate) mod csv;
pub(crate) mod disk;
pub(crate) mod endings;
pub(crate) mod float_serde;
pub(crate) mod host_memory;
pub(crate) mod instruction_sets;
pub(crate) mod paths;
pub(crate) mod printable;
pub(crate) mod purposes;
pub(crate) mod regular;
pub(crate) mod share;
pub(crate) mod string_serde;
pub(crate) mod units;
