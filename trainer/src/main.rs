//! The command line.

mod cli;

use std::process::ExitCode;

/// Replaces the system's allocator, which returns the large buffers of every step to the system:
/// training allocates and frees the same ones each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keeps freed memory for the next step. Otherwise the allocator returns a part of it to the system
/// between steps, which clears it again page by page: 2 to 6% of a step.
#[allow(unsafe_code)]
fn keep_memory() {
    /// `mi_option_purge_delay`, for which the bindings have no name.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: sets one number in the allocator before there are other threads; an unknown option is
    // ignored.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
}

fn main() -> ExitCode {
    keep_memory();
    efficienttrain::data::keep_decoder_panics_quiet();
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<cli::signals::Stopped>() => {
            cli::eprint_line(error);
            ExitCode::from(cli::signals::STOPPED)
        }
        Err(error) => {
            cli::eprint_line(format!("error: {}", cli::render_error(&error)));
            ExitCode::FAILURE
        }
    }
}
