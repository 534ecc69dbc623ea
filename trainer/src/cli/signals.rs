//! Ctrl-C and its relatives: the first one ends a run after its step, a second one at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::TERM_SIGNALS;
use signal_hook::flag::{register, register_conditional_shutdown};
use signal_hook::iterator::Signals;
use signal_hook::low_level::exit;

/// Exit code of a run that a signal has stopped and that can be resumed: "try again", as `sysexits.h` has it.
pub(crate) const STOPPED: u8 = 75;

/// Added to the number of a signal that ends the process at once, as shells do.
const KILLED: i32 = 128;

/// A run was stopped by a signal, after it was saved; holds how to go on.
#[derive(Debug, thiserror::Error)]
#[error("stopped by a signal, saved; {0}")]
pub(crate) struct Stopped(pub(super) &'static str);

impl Stopped {
    /// For commands that go on with `--resume`.
    pub(super) const RESUME: Self = Self("go on with --resume");
}

/// Sets `stop` on the first signal to end; on the second the process ends at once.
pub(crate) fn set_on_stop(stop: &Arc<AtomicBool>) -> Result<()> {
    for &signal in TERM_SIGNALS {
        // In this order: the first acts only where the second has set the flag before.
        register_conditional_shutdown(signal, KILLED + signal, stop.clone())
            .and_then(|_| register(signal, stop.clone()))
            .context("cannot listen to signals")?;
    }
    Ok(())
}

/// As [`set_on_stop`], where something must be put right before the process ends at once.
pub(crate) fn set_on_stop_after(stop: &Arc<AtomicBool>, put_right: fn()) -> Result<()> {
    let mut signals = Signals::new(TERM_SIGNALS).context("cannot listen to signals")?;
    let stop = stop.clone();
    // A thread, as more is to be done than a handler of signals may do.
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
