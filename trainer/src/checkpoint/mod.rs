//! Saving and restoring a run: checksummed safetensors files, each replaced in one step.

mod file;
mod folder;
mod keeper;
mod record;
mod saved;

pub(crate) use file::replace;
pub use file::{export, save};
pub use folder::{BEST, LAST, Newest, RunFolder, newest};
pub(crate) use keeper::{Keeper, Written};
pub use record::{FORMAT, RunRecord};
pub use saved::Saved;
