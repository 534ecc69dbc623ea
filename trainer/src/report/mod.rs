//! A run, or several beside each other, as one page that needs nothing but itself: curves, schedule, pictures, options.

mod charts;
mod page;
mod pictures;
mod read;
mod series;
mod signs;

use std::path::Path;

pub use pictures::StagePictures;
pub use read::RunLog;
pub use signs::Sign;

use crate::checkpoint::replace;
use crate::error::Result;

/// What is shown of a run.
#[derive(Debug)]
pub struct Shown {
    /// What its folder says of it.
    pub log: RunLog,
    /// What the network saw in each stage; or why that cannot be shown.
    pub pictures: Result<Vec<StagePictures>, String>,
}

/// Writes the page of one run or several.
///
/// # Errors
/// When a chart cannot be drawn or the file cannot be written.
pub fn write(path: &Path, runs: &[Shown]) -> Result<()> {
    let page = page::page(runs).map_err(|reason| crate::Error::Chart { path: path.into(), reason })?;
    replace(path, page.as_bytes())
}
