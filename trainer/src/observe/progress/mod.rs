//! What a person sees while a run goes on.

pub(crate) mod bar;
pub(crate) mod lines;
pub(crate) mod time_left;

pub use bar::Progress;
pub use lines::lines;
pub use time_left::TimeLeft;

use std::io::Write;

/// Says a line on the standard error. Where nobody reads it any more it is lost: `eprintln` would panic, and take a run with it.
pub fn tell(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
