//! The command line.

mod cli;

use std::process::ExitCode;

/// Training allocates and frees the same large buffers at every step; the system's allocator returns them each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<cli::signals::Stopped>() => {
            eprintln!("{error}");
            ExitCode::from(cli::signals::STOPPED)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
