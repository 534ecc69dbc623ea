//! Saving and restoring a run: checksummed safetensors files, each replaced in one step.

mod file;
mod finite;
mod folder;
mod initial;
mod keeper;
mod record;
mod saved;

pub(crate) use file::export_weights;
pub use file::{export, save};
pub(crate) use file::{link, replace, replace_with};
pub(crate) use finite::{nonfinite, nonfinite_params};
pub(crate) use folder::names;
pub use folder::{BEST, LAST, Newest, RunFolder, newest};
pub use initial::Initial;
pub(crate) use keeper::{Keeper, Written};
pub use record::{FORMAT, RunRecord};
pub use saved::Saved;
