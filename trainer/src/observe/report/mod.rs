//! Report of one or more runs as a self-contained page: curves, schedule, images, options.

pub(crate) mod charts;
pub(crate) mod diagnostics;
pub(crate) mod images;
pub(crate) mod page;
pub(crate) mod read;
pub(crate) mod series;
pub(crate) mod targets;

use std::path::Path;

pub use diagnostics::Diagnostic;
pub use images::StageImages;
pub use read::RunLog;

use crate::error::Result;
use crate::util::atomic_file::replace;

/// Contents of a report about a run.
#[derive(Debug)]
pub struct Shown {
    /// Log of the run.
    pub log: RunLog,
    /// Training images of each stage; or the reason why they cannot be shown.
    pub images: Result<Vec<StageImages>, String>,
}

/// Writes the page of one or more runs. It says how long each takes to the accuracy `target`,
/// 0 to 1; without one, to that of plain training, or else to the lowest final one.
///
/// # Errors
/// Returns an error if a chart cannot be drawn or the file cannot be written.
pub fn write(path: &Path, runs: &[Shown], target: Option<f64>) -> Result<()> {
    let page = page::page(runs, target)
        .map_err(|reason| crate::error::Error::Chart { path: path.into(), reason })?;
    replace(path, page.as_bytes())
}
