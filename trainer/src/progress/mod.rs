//! What a person sees while a run goes on.

mod bar;
mod lines;
mod time_left;

pub use bar::Progress;
pub use lines::lines;
pub use time_left::TimeLeft;
