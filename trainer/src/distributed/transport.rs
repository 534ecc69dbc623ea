//! Messages between the ranks of a job: what each way of sending them has to offer.

use crate::error::Result;

/// Kind of a message. Messages of one rank to another arrive in the order in which they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum MessageKind {
    /// Contribution to a gather.
    Gather = 1,
    /// Terms of the slice that the receiver adds up.
    Terms = 2,
    /// Slice that the sender has added up.
    Sum = 3,
    /// Part of a long message, of which more follows.
    Part = 4,
    /// Something about the sender itself, see [`super::control::ControlMessage`].
    Control = 5,
}

impl MessageKind {
    pub(crate) fn of(code: u8) -> Option<Self> {
        [Self::Gather, Self::Terms, Self::Sum, Self::Part, Self::Control]
            .into_iter()
            .find(|kind| *kind as u8 == code)
    }
}

/// Something that has arrived.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A message.
    Message { from: usize, kind: MessageKind, bytes: Vec<u8> },
    /// The connection to a rank is closed.
    Closed { from: usize },
}

/// Way of sending messages between ranks. Lives on one thread.
pub(crate) trait Transport {
    /// Position of this process.
    fn rank(&self) -> usize;

    /// Number of processes.
    fn size(&self) -> usize;

    /// Sends a message. If it has to wait, it calls `pause` again and again, and gives up when that
    /// fails.
    ///
    /// # Errors
    /// Those of `pause`. A receiver that is gone is no error: it is reported by [`Self::poll`].
    fn send(
        &mut self,
        to: usize,
        kind: MessageKind,
        bytes: Vec<u8>,
        pause: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()>;

    /// Returns what has arrived next, if anything has.
    fn poll(&mut self) -> Option<Incoming>;

    /// Ends the communication after all ranks have agreed to.
    fn finish(self: Box<Self>) {}
}
