//! Output for people: logs, progress, the full-screen view, charts, reports, previews.

pub mod chart;
pub mod log;
pub mod preview;
pub mod progress;
pub mod report;
#[cfg(feature = "cli")]
pub mod view;
