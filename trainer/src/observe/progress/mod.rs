//! Terminal output during a run.

#[cfg(feature = "cli")]
pub(crate) mod bar;
pub(crate) mod lines;
pub(crate) mod time_left;

#[cfg(feature = "cli")]
pub use bar::Progress;
pub use lines::lines;
pub use time_left::TimeLeft;

use std::io::Write;

use crate::config::flags::with_flags;

/// Prints a line to the standard error, with options as flags. If the reader has gone away, the
/// line is lost; `eprintln` would panic and end the run.
pub fn eprint_line(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{}", with_flags(&line.to_string()));
}
