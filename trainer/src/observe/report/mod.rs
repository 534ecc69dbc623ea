//! A run, or several beside each other, as one page that needs nothing but itself: curves, schedule, pictures, options.

pub(crate) mod charts;
pub(crate) mod diagnostics;
pub(crate) mod images;
pub(crate) mod page;
pub(crate) mod read;
pub(crate) mod series;

use std::path::Path;

pub use diagnostics::Diagnostic;
pub use images::StageImages;
pub use read::RunLog;

use crate::error::Result;
use crate::util::atomic_file::replace;

/// What is shown of a run.
#[derive(Debug)]
pub struct Shown {
    /// What its folder says of it.
    pub log: RunLog,
    /// What the network saw in each stage; or why that cannot be shown.
    pub pictures: Result<Vec<StageImages>, String>,
}

/// Writes the page of one run or several.
///
/// # Errors
/// Returns an error if a chart cannot be drawn or the file cannot be written.
pub fn write(path: &Path, runs: &[Shown]) -> Result<()> {
    let page = page::page(runs).map_err(|reason| crate::error::Error::Chart { path: path.into(), reason })?;
    replace(path, page.as_bytes())
}
