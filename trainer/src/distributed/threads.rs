//! Ranks as threads of one process, for tests and for several devices without processes.

use std::sync::mpsc::{Receiver, Sender, channel};

use crate::distributed::wire::{Arrival, Kind, Wire};
use crate::error::Result;

/// Messages over channels.
pub(crate) struct ThreadWire {
    rank: usize,
    arrivals: Receiver<Arrival>,
    /// To each rank.
    others: Vec<Sender<Arrival>>,
}

impl ThreadWire {
    /// Creates the ends of `size` ranks.
    pub(crate) fn all(size: usize) -> Vec<Self> {
        let (others, arrivals): (Vec<_>, Vec<_>) = (0..size).map(|_| channel()).unzip();
        let end = |(rank, arrivals)| Self { rank, arrivals, others: others.clone() };
        arrivals.into_iter().enumerate().map(end).collect()
    }
}

impl Wire for ThreadWire {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.others.len()
    }

    fn send(
        &mut self,
        to: usize,
        kind: Kind,
        bytes: Vec<u8>,
        _: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        // A receiver that has ended has closed its end, which arrives here.
        let _ = self.others[to].send(Arrival::Message { from: self.rank, kind, bytes });
        Ok(())
    }

    fn poll(&mut self) -> Option<Arrival> {
        self.arrivals.try_recv().ok()
    }
}

impl Drop for ThreadWire {
    fn drop(&mut self) {
        for other in &self.others {
            let _ = other.send(Arrival::Closed { from: self.rank });
        }
    }
}
