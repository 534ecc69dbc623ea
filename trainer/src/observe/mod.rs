//! Output for people: logs, progress, the full-screen view, charts, reports, previews.

pub mod chart;
pub mod log;
pub mod preview;
pub mod progress;
pub mod report;
pub(crate) mod time_to_accuracy;
#[cfg(feature = "cli")]
pub mod view;
