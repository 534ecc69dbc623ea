//! Signals such as Ctrl-C: the first one ends a run after its current step, a second one ends the
//! process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::TERM_SIGNALS;
use signal_hook::flag::{register, register_conditional_shutdown};
use signal_hook::iterator::Signals;
use signal_hook::low_level::exit;

/// Exit code of a run that a signal has stopped and that can be resumed: "try again" in
/// `sysexits.h`.
pub(crate) const STOPPED: u8 = 75;

/// Added to the number of a signal that ends the process at once, following the shells' convention.
const KILLED: i32 = 128;

/// Error of a run that a signal has stopped after saving it. Contains how to resume it.
#[derive(Debug, thiserror::Error)]
#[error("stopped by a signal, saved; {0}")]
pub(crate) struct Stopped(pub(super) &'static str);

impl Stopped {
    /// Error of commands that resume with `--resume`.
    pub(super) const RESUME: Self = Self("resume with --resume");
}

/// Sets `stop` on SIGUSR1, with which SLURM announces the end of a job's time. More of them change
/// nothing.
#[cfg(unix)]
fn set_on_user_signal(stop: &Arc<AtomicBool>) -> Result<()> {
    register(signal_hook::consts::SIGUSR1, stop.clone()).context("cannot listen to signals")?;
    Ok(())
}

#[cfg(not(unix))]
fn set_on_user_signal(_: &Arc<AtomicBool>) -> Result<()> {
    Ok(())
}

/// Sets `stop` on the first terminating signal; a second one ends the process at once.
pub(crate) fn set_on_stop(stop: &Arc<AtomicBool>) -> Result<()> {
    set_on_user_signal(stop)?;
    for &signal in TERM_SIGNALS {
        // The order matters: the first handler acts only if the second one has set the flag before.
        register_conditional_shutdown(signal, KILLED + signal, stop.clone())
            .and_then(|_| register(signal, stop.clone()))
            .context("cannot listen to signals")?;
    }
    Ok(())
}

/// Like [`set_on_stop`], but calls `put_right` before the process ends at once.
pub(crate) fn set_on_stop_after(stop: &Arc<AtomicBool>, put_right: fn()) -> Result<()> {
    set_on_user_signal(stop)?;
    let mut signals = Signals::new(TERM_SIGNALS).context("cannot listen to signals")?;
    let stop = stop.clone();
    // Runs on a thread, since `put_right` does more than a signal handler may.
    let listen = move || {
        for signal in signals.forever() {
            if stop.swap(true, Ordering::Relaxed) {
                put_right();
                exit(KILLED + signal);
            }
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(listen).context("cannot listen to signals")?;
    Ok(())
}
