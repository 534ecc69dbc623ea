//! Timers of waits for other ranks.

use std::time::{Duration, Instant};

/// Polls before the first sleep.
const SPINS: u32 = 200;
/// Sleep between two polls.
pub(super) const SLEEP: Duration = Duration::from_micros(50);
/// Interval of the questions to a late rank what it is doing.
pub(super) const PING: Duration = Duration::from_secs(1);
/// Time between two warnings about a late rank.
const WARN: Duration = Duration::from_secs(30);

/// Timer of a wait for one rank.
pub(super) struct WaitTimer {
    /// Start of the wait.
    pub(super) started: Instant,
    /// Start of the time that counts: time on a slow disk does not.
    pub(super) counted_from: Instant,
    asked: Instant,
    warned: Instant,
    polls: u32,
}

impl WaitTimer {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { started: now, counted_from: now, asked: now, warned: now, polls: 0 }
    }

    pub(super) fn pause(&mut self) {
        self.polls = self.polls.saturating_add(1);
        if self.polls < SPINS { std::thread::yield_now() } else { std::thread::sleep(SLEEP) }
    }

    pub(super) fn ping_is_due(&mut self) -> bool {
        is_due(&mut self.asked, PING)
    }

    pub(super) fn warning_is_due(&mut self) -> bool {
        is_due(&mut self.warned, WARN)
    }
}

fn is_due(last: &mut Instant, every: Duration) -> bool {
    let due = last.elapsed() >= every;
    if due {
        *last = Instant::now();
    }
    due
}
