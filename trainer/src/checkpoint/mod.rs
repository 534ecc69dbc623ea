//! Saving and restoring runs: safetensors files with a checksum, replaced atomically.

pub(crate) mod average;
pub(crate) mod description;
pub(crate) mod file;
pub(crate) mod finite;
pub(crate) mod folder;
pub(crate) mod offset;
pub(crate) mod read;
pub(crate) mod record;
pub(crate) mod retention;
pub(crate) mod writer;

pub use description::Description;
pub use file::{export, save};
pub use folder::{BEST, LAST, Newest, RunFolder, newest};
pub use offset::PlanOffset;
pub use read::Checkpoint;
pub use record::{FORMAT, RunRecord};
