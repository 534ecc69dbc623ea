//! Control messages: what a rank is doing, that it has failed, that it has finished.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// What a rank is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Reads options, data set and weights.
    Setup,
    /// Waits for its loader.
    Loader,
    /// Computes an optimizer step.
    Step,
    /// Evaluates.
    Evaluation,
    /// Writes files.
    Files,
}

impl Phase {
    const ALL: [Self; 5] = [Self::Setup, Self::Loader, Self::Step, Self::Evaluation, Self::Files];

    /// Describes the phase, after "it".
    pub(crate) fn doing(self) -> &'static str {
        match self {
            Self::Setup => "is reading options, data set and weights",
            Self::Loader => "is waiting for its data loader",
            Self::Step => "is computing a step",
            Self::Evaluation => "is evaluating",
            Self::Files => "is writing files",
        }
    }
}

/// What a rank is doing, and at which step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) phase: Phase,
    pub(crate) step: u64,
}

/// Shows a warning to the user.
pub(crate) type Warn = Box<dyn Fn(&str) + Send + Sync>;

/// Status of this rank, set by the training thread and read by that of communication.
#[derive(Default)]
pub(crate) struct StatusBoard {
    phase: AtomicU8,
    step: AtomicU64,
    warn: OnceLock<Warn>,
    /// How often the communication thread has polled since the training thread asked.
    heartbeats: AtomicU64,
}

impl fmt::Debug for StatusBoard {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.status().fmt(f)
    }
}

impl StatusBoard {
    pub(crate) fn set(&self, phase: Phase, step: u64) {
        self.step.store(step, Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Sets where warnings go; without it they are dropped.
    pub(crate) fn show_warnings(&self, warn: Warn) {
        let _ = self.warn.set(warn);
    }

    pub(crate) fn warn(&self, text: &str) {
        if let Some(warn) = self.warn.get() {
            warn(text);
        }
    }

    /// Notes that the communication thread polls.
    pub(crate) fn heartbeat(&self) {
        self.heartbeats.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns true if the communication thread has polled since the last call.
    pub(crate) fn has_heartbeat(&self) -> bool {
        self.heartbeats.swap(0, Ordering::Relaxed) > 0
    }

    pub(crate) fn status(&self) -> Status {
        let phase = Phase::ALL[usize::from(self.phase.load(Ordering::Relaxed)) % Phase::ALL.len()];
        Status { phase, step: self.step.load(Ordering::Relaxed) }
    }
}

/// Error of a rank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) message: String,
    /// True if the error is that of another rank, which the message names.
    pub(crate) of_another: bool,
}

/// Message of a rank about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ControlMessage {
    /// Asks for [`Self::Status`].
    Ping,
    /// What the sender is doing.
    Status(Status),
    /// The sender has failed.
    Failed(Failure),
    /// The sender ends as agreed.
    Finished,
}

impl ControlMessage {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Returns the message; none if it cannot be read.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}
