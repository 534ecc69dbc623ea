//! Collective operations of a rank: gathering, and sums in a fixed order. They are made of messages,
//! with time limits and errors that name the rank that is late, failed or gone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::values::SumType;
use crate::distributed::control::{ControlMessage, Failure, Phase, Status, StatusBoard};
use crate::distributed::slots::{Merge, Node, SlotSums, nodes_of, slots_of};
use crate::distributed::transport::{Incoming, MessageKind, Transport};
use crate::distributed::wait_timer::{PING, SLEEP, WaitTimer};
use crate::error::{Error, Result};

/// Time after which a rank that answers nothing counts as gone.
const UNANSWERED: Duration = Duration::from_secs(60);
/// Why a rank may not react at all.
const OUT_OF_REACH: &str = "its process or host is stopped or out of reach";
/// Longest single message, in bytes: MPI counts with 31 bits.
const PART: usize = 1 << 28;
/// Alignment of slices, in numbers: that of vector loads.
pub(crate) const ALIGNMENT: usize = 64;

/// Terms to add up over all ranks.
#[derive(Debug)]
pub(crate) struct SumRequest {
    /// One array a node of this rank's slots, in order; all of the same length.
    pub(crate) terms: Vec<Vec<f32>>,
    pub(crate) dtype: SumType,
}

/// Collective operations of this rank, and its messages.
pub(crate) struct Collectives {
    transport: Box<dyn Transport>,
    inbox: Vec<VecDeque<(MessageKind, Vec<u8>)>>,
    peers: Vec<Peer>,
    board: Arc<StatusBoard>,
    /// Longest silence of a rank.
    limit: Duration,
    /// Devices of the run's plan, once known.
    pub(crate) slots: u32,
}

/// What is known of another rank.
#[derive(Debug, Default)]
struct Peer {
    /// Host and process.
    about: String,
    /// Its last status, and when it came.
    status: Option<(Status, Instant)>,
    failed: Option<Failure>,
    finished: bool,
    closed: bool,
}

impl Merge for Vec<f32> {
    fn merge(&mut self, other: Self) -> Result<()> {
        self.iter_mut().zip(&other).for_each(|(sum, term)| *sum += term);
        Ok(())
    }
}

impl Collectives {
    pub(crate) fn new(transport: Box<dyn Transport>, board: Arc<StatusBoard>, limit: Duration) -> Self {
        let size = transport.size();
        Self {
            inbox: (0..size).map(|_| VecDeque::new()).collect(),
            peers: (0..size).map(|_| Peer::default()).collect(),
            transport,
            board,
            limit,
            slots: size as u32,
        }
    }

    pub(crate) fn rank(&self) -> usize {
        self.transport.rank()
    }

    pub(crate) fn size(&self) -> usize {
        self.transport.size()
    }

    /// Sets what error messages say about each rank: host and process.
    pub(crate) fn set_peer_names(&mut self, about: Vec<String>) {
        self.peers.iter_mut().zip(about).for_each(|(peer, about)| peer.about = about);
    }

    /// Names a rank in a message.
    pub(crate) fn name(&self, rank: usize) -> String {
        match self.peers[rank].about.as_str() {
            "" => format!("rank {rank}"),
            about => format!("rank {rank} ({about})"),
        }
    }

    /// Returns the other ranks, beginning with the next one, so that not all send to the same.
    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let (rank, size) = (self.rank(), self.size());
        (1..size).map(move |by| (rank + by) % size)
    }

    /// Receives what has arrived, and answers questions.
    ///
    /// # Errors
    /// Returns an error if a rank fails or is gone.
    pub(crate) fn receive_pending(&mut self) -> Result<()> {
        self.board.heartbeat();
        while let Some(incoming) = self.transport.poll() {
            match incoming {
                Incoming::Message { from, kind: MessageKind::Control, bytes } => {
                    self.handle_control(from, &bytes)?;
                }
                Incoming::Message { from, kind, bytes } => self.inbox[from].push_back((kind, bytes)),
                Incoming::Closed { from } => self.peers[from].closed = true,
            }
        }
        self.check_peers()
    }

    /// Checks that no rank has failed or gone. What one has said before it went is read first.
    fn check_peers(&self) -> Result<()> {
        if let Some(error) = self.failure() {
            return Err(error);
        }
        let is_gone =
            |(peer, inbox): (&Peer, &VecDeque<_>)| peer.closed && !peer.finished && inbox.is_empty();
        match self.peers.iter().zip(&self.inbox).position(is_gone) {
            Some(rank) => {
                Err(Error::Distributed(format!("{} is gone: its connection is closed", self.name(rank))))
            }
            None => Ok(()),
        }
    }

    /// Returns the error of a rank that has failed by itself, or one that another has reported.
    fn failure(&self) -> Option<Error> {
        let failed = |(rank, peer): (usize, &Peer)| Some((rank, peer.failed.clone()?));
        let mut failures: Vec<(usize, Failure)> = self.peers.iter().enumerate().filter_map(failed).collect();
        failures.sort_by_key(|(_, failure)| failure.of_another);
        let (rank, Failure { message, of_another }) = failures.into_iter().next()?;
        Some(match of_another {
            true => Error::Distributed(message),
            false => Error::Rank { rank: self.name(rank), what: message },
        })
    }

    fn handle_control(&mut self, from: usize, bytes: &[u8]) -> Result<()> {
        match ControlMessage::read(bytes) {
            Some(ControlMessage::Ping) => {
                let status = self.board.status();
                self.send_control(from, &ControlMessage::Status(status))?;
            }
            Some(ControlMessage::Status(status)) => self.peers[from].status = Some((status, Instant::now())),
            Some(ControlMessage::Failed(failure)) => self.peers[from].failed = Some(failure),
            Some(ControlMessage::Finished) => self.peers[from].finished = true,
            None => {}
        }
        Ok(())
    }

    /// Sends a control message. One that is not taken soon is given up: its receiver is stuck.
    fn send_control(&mut self, to: usize, message: &ControlMessage) -> Result<()> {
        let until = Instant::now() + PING;
        let mut pause = || match Instant::now() < until {
            true => Ok(()),
            false => Err(Error::Distributed(format!("rank {to} takes no messages"))),
        };
        self.transport.send(to, MessageKind::Control, message.to_bytes(), &mut pause)
    }

    /// Tells all other ranks.
    pub(crate) fn broadcast_control(&mut self, message: &ControlMessage) {
        for to in self.others() {
            // Whoever does not listen any more need not know.
            let _ = self.send_control(to, message);
        }
    }

    /// Sends a message, in parts if it is long.
    fn send(&mut self, to: usize, kind: MessageKind, bytes: Vec<u8>) -> Result<()> {
        let mut timer = WaitTimer::new();
        let (name, limit, step) = (self.name(to), self.limit, self.board.status().step);
        let mut pause = || match timer.started.elapsed() < limit {
            true => {
                timer.pause();
                Ok(())
            }
            false => {
                let seconds = limit.as_secs_f64();
                Err(Error::Distributed(format!(
                    "{name} has taken no message of step {step} for {seconds} s: {OUT_OF_REACH}"
                )))
            }
        };
        if bytes.len() <= PART {
            return self.transport.send(to, kind, bytes, &mut pause);
        }
        let mut parts = bytes.chunks(PART).peekable();
        while let Some(part) = parts.next() {
            let kind = if parts.peek().is_some() { MessageKind::Part } else { kind };
            self.transport.send(to, kind, part.to_vec(), &mut pause)?;
        }
        Ok(())
    }

    /// Waits for the next message of a rank, which must be of a kind.
    fn receive(&mut self, from: usize, expected: MessageKind) -> Result<Vec<u8>> {
        let mut whole = Vec::new();
        loop {
            let (kind, bytes) = self.next_of(from)?;
            let bytes = if whole.is_empty() {
                bytes
            } else {
                whole.extend_from_slice(&bytes);
                std::mem::take(&mut whole)
            };
            match kind {
                MessageKind::Part => whole = bytes,
                _ if kind == expected => return Ok(bytes),
                _ => {
                    let what = format!(
                        "{} is at another point of the run: it sent {kind:?} instead of {expected:?}",
                        self.name(from)
                    );
                    return Err(Error::Distributed(what));
                }
            }
        }
    }

    fn next_of(&mut self, from: usize) -> Result<(MessageKind, Vec<u8>)> {
        let mut timer = WaitTimer::new();
        loop {
            if let Some(message) = self.inbox[from].pop_front() {
                return Ok(message);
            }
            self.receive_pending()?;
            if self.inbox[from].is_empty() {
                self.wait_for_rank(from, &mut timer)?;
            }
        }
    }

    /// Sleeps a little. Pings the rank, warns about it and gives up on it as time goes by.
    fn wait_for_rank(&mut self, from: usize, timer: &mut WaitTimer) -> Result<()> {
        timer.pause();
        if timer.ping_is_due() {
            self.send_control(from, &ControlMessage::Ping)?;
        }
        let status = self.peers[from].status.filter(|(_, at)| *at >= timer.started);
        // A disk may be slow as long as it likes.
        if status.is_some_and(|(status, at)| status.phase == Phase::Files && at.elapsed() < 3 * PING) {
            timer.counted_from = Instant::now();
        }
        let waited = timer.counted_from.elapsed();
        if timer.warning_is_due() && self.reports_wait_for(from) {
            let doing = status.map_or("does not answer", |(status, _)| status.phase.doing());
            let (name, seconds) = (self.name(from), timer.started.elapsed().as_secs());
            self.board.warn(&format!("waiting for {name} for {seconds} s: it {doing}"));
        }
        let silent = status.map_or(timer.started, |(_, at)| at).elapsed();
        if waited < self.limit && silent < UNANSWERED.min(self.limit) {
            return Ok(());
        }
        Err(Error::Distributed(self.timeout_message(from, waited, status)))
    }

    fn timeout_message(&self, from: usize, waited: Duration, status: Option<(Status, Instant)>) -> String {
        let (name, own) = (self.name(from), self.board.status());
        let seconds = waited.as_secs_f64().round();
        let what = format!("{name} has sent nothing for step {} for {seconds} s", own.step);
        match status {
            Some((status, at)) if at.elapsed() < UNANSWERED.min(self.limit) => {
                format!("{what}; it {} (step {})", status.phase.doing(), status.step)
            }
            _ => format!("{what} and does not answer: {OUT_OF_REACH}"),
        }
    }

    /// Returns true if this rank is the first of those that wait.
    fn reports_wait_for(&self, from: usize) -> bool {
        self.rank() == usize::from(from == 0)
    }

    /// Returns what each rank gives, in order of ranks.
    ///
    /// # Errors
    /// Returns an error if a rank fails, is gone, or is late.
    pub(crate) fn gather(&mut self, mine: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        for to in self.others() {
            self.send(to, MessageKind::Gather, mine.clone())?;
        }
        let mut all: Vec<Vec<u8>> = (0..self.size()).map(|_| Vec::new()).collect();
        for from in self.others() {
            all[from] = self.receive(from, MessageKind::Gather)?;
        }
        all[self.transport.rank()] = mine;
        Ok(all)
    }

    /// Adds up arrays over all slots: each rank adds up a slice of it, in the order of the slots.
    ///
    /// # Errors
    /// Same as [`Self::gather`].
    pub(crate) fn sum(&mut self, request: SumRequest) -> Result<Vec<f32>> {
        let SumRequest { mut terms, dtype } = request;
        let (rank, ranks, slots) = (self.rank(), self.size(), self.slots);
        let len = terms.first().map_or(0, Vec::len);
        let slice = |rank: usize| slice_of(rank, ranks, len);
        for to in self.others() {
            let parts: Vec<&[f32]> = terms.iter().map(|term| &term[slice(to)]).collect();
            self.send(to, MessageKind::Terms, dtype.encode(&parts))?;
        }
        let mut sums = SlotSums::default();
        for from in 0..ranks {
            let nodes = nodes_of(slots_of(from, ranks, slots), slots);
            let theirs: Vec<Vec<f32>> = if from == rank {
                dtype.rounded(terms.iter().map(|term| term[slice(rank)].to_vec()).collect())
            } else {
                dtype.decode(&self.receive(from, MessageKind::Terms)?, nodes.len())
            };
            if theirs.iter().any(|term| term.len() != slice(rank).len()) {
                let what = format!("{} sent terms of another size than this process has", self.name(from));
                return Err(Error::Distributed(what));
            }
            for (node, term) in nodes.into_iter().zip(theirs) {
                sums.push(node, term)?;
            }
        }
        let sum = single(sums.finish(slots)?);
        let encoded = dtype.encode(&[&sum]);
        for to in self.others() {
            self.send(to, MessageKind::Sum, encoded.clone())?;
        }
        // The own terms have been sent.
        let mut whole = terms.swap_remove(0);
        let own = dtype.rounded(vec![sum]).swap_remove(0);
        whole[slice(rank)].copy_from_slice(&own);
        for from in self.others() {
            let theirs = dtype.decode(&self.receive(from, MessageKind::Sum)?, 1).swap_remove(0);
            let slice = slice(from);
            if theirs.len() != slice.len() {
                let what = format!("{} sent {} numbers of a sum", self.name(from), theirs.len());
                return Err(Error::Distributed(what));
            }
            whole[slice].copy_from_slice(&theirs);
        }
        Ok(whole)
    }

    /// Waits a little for other ranks to say that they fail, too; returns what rank 0 says.
    pub(crate) fn wait_for_first_failure(&mut self, time: Duration) -> Option<String> {
        let until = Instant::now() + time;
        while self.rank() != 0 && self.peers[0].failed.is_none() && Instant::now() < until {
            let _ = self.receive_pending();
            std::thread::sleep(SLEEP);
        }
        self.peers[0].failed.as_ref().map(|failure| failure.message.clone())
    }

    /// Ends the communication after all have agreed to.
    pub(crate) fn finish(mut self) {
        self.broadcast_control(&ControlMessage::Finished);
        self.transport.finish();
    }
}

/// Returns the single sum of all slots.
fn single(mut sums: Vec<(Node, Vec<f32>)>) -> Vec<f32> {
    sums.pop().map_or_else(Vec::new, |(_, sum)| sum)
}

/// Returns the part of an array of `len` numbers that a rank adds up.
fn slice_of(rank: usize, ranks: usize, len: usize) -> std::ops::Range<usize> {
    let first = |rank: usize| match rank == ranks {
        true => len,
        false => len * rank / ranks / ALIGNMENT * ALIGNMENT,
    };
    first(rank)..first(rank + 1)
}
