//! What a person sees while a run goes on.

mod bar;
mod lines;
mod time_left;

pub use bar::Progress;
pub use lines::lines;
pub use time_left::TimeLeft;

use std::io::Write;

/// Says a line on the standard error. A terminal or pipe that has gone away does not end a run: `eprintln` would panic.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
