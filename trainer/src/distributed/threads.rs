//! Ranks as threads of one process, for tests and for several devices without processes.

use std::sync::mpsc::{Receiver, Sender, channel};

use crate::distributed::transport::{Incoming, MessageKind, Transport};
use crate::error::Result;

/// Messages over channels.
pub(crate) struct ThreadTransport {
    rank: usize,
    incoming: Receiver<Incoming>,
    /// To each rank.
    others: Vec<Sender<Incoming>>,
}

impl ThreadTransport {
    /// Creates the ends of `size` ranks.
    pub(crate) fn all(size: usize) -> Vec<Self> {
        let (others, incoming): (Vec<_>, Vec<_>) = (0..size).map(|_| channel()).unzip();
        let end = |(rank, incoming)| Self { rank, incoming, others: others.clone() };
        incoming.into_iter().enumerate().map(end).collect()
    }
}

impl Transport for ThreadTransport {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.others.len()
    }

    fn send(
        &mut self,
        to: usize,
        kind: MessageKind,
        bytes: Vec<u8>,
        _: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        // A receiver that has ended has closed its end, which arrives here.
        let _ = self.others[to].send(Incoming::Message { from: self.rank, kind, bytes });
        Ok(())
    }

    fn poll(&mut self) -> Option<Incoming> {
        self.incoming.try_recv().ok()
    }
}

impl Drop for ThreadTransport {
    fn drop(&mut self) {
        for other in &self.others {
            let _ = other.send(Incoming::Closed { from: self.rank });
        }
    }
}
