//! Ranks as processes of an MPI job.
//!
//! All of MPI stays on the thread that initialized it. Waits are our own: a poll, then a short sleep,
//! so that a waiting rank leaves its core to the others, and a hung rank can be named.

use std::collections::VecDeque;

use mpi::Threading;
use mpi::environment::Universe;
use mpi::request::scope;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, Destination, MatchedReceiveVec, Source};

use crate::distributed::transport::{Incoming, MessageKind, Transport};
use crate::error::{Error, Result};

/// Messages over MPI.
pub(crate) struct MpiTransport {
    /// None once it must not be finalized: finalizing waits for all ranks, and some may be gone.
    universe: Option<Universe>,
    world: SimpleCommunicator,
    /// What arrived while a message was sent.
    arrived: VecDeque<Incoming>,
}

impl MpiTransport {
    /// Initializes MPI for a job of `expected` processes, if that is known.
    ///
    /// # Errors
    /// Returns an error if MPI knows another number of processes: then the launcher belongs to
    /// another MPI than the one that this program is linked to, and every process would be alone.
    pub(crate) fn join(expected: Option<usize>) -> Result<Self> {
        // The variant that is told of threads: other threads of this process do not call MPI.
        let Some((universe, _)) = mpi::initialize_with_threading(Threading::Funneled) else {
            return Err(Error::Distributed("MPI has been initialized before in this process".into()));
        };
        let world = universe.world();
        let transport = Self { universe: Some(universe), world, arrived: VecDeque::new() };
        let size = transport.size();
        if let Some(expected) = expected.filter(|&expected| expected != size) {
            let library = mpi::environment::library_version().unwrap_or_default();
            let library = library.split([',', '\n']).next().unwrap_or_default().trim().to_string();
            let what = format!(
                "the launcher started {expected} processes, but the MPI library of this program ({library}) knows {size}: \
                 use the mpirun of the same MPI, or build this program with the MPI of that mpirun"
            );
            return Err(Error::config("engine", what));
        }
        Ok(transport)
    }

    /// Takes a message that has arrived.
    fn receive(world: &SimpleCommunicator) -> Option<Incoming> {
        let (message, status) = world.any_process().immediate_matched_probe()?;
        let from = usize::try_from(status.source_rank()).ok()?;
        let kind = u8::try_from(status.tag()).ok().and_then(MessageKind::of);
        let (bytes, _) = (message, status).matched_receive_vec::<u8>();
        Some(match kind {
            Some(kind) => Incoming::Message { from, kind, bytes },
            None => Incoming::Closed { from },
        })
    }
}

impl Transport for MpiTransport {
    fn rank(&self) -> usize {
        usize::try_from(self.world.rank()).unwrap_or_default()
    }

    fn size(&self) -> usize {
        usize::try_from(self.world.size()).unwrap_or(1)
    }

    fn send(
        &mut self,
        to: usize,
        kind: MessageKind,
        bytes: Vec<u8>,
        pause: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let (world, arrived) = (&self.world, &mut self.arrived);
        let to = world.process_at_rank(to as i32);
        scope(|scope| {
            let mut request = to.immediate_send_with_tag(scope, &bytes[..], kind as i32);
            while let Err(pending) = request.test() {
                request = pending;
                // The other one may wait for its own message to be taken.
                arrived.extend(Self::receive(world));
                if let Err(error) = pause() {
                    end(&error);
                }
            }
        });
        Ok(())
    }

    fn poll(&mut self) -> Option<Incoming> {
        self.arrived.pop_front().or_else(|| Self::receive(&self.world))
    }

    fn finish(mut self: Box<Self>) {
        // Finalizes.
        drop(self.universe.take());
    }
}

/// Ends the process. MPI reads the bytes of a message until it is sent, so a message that nobody takes
/// cannot be given up in any other way; the launcher then ends the other processes.
fn end(error: &Error) -> ! {
    eprintln!("error: {error}");
    std::process::exit(1)
}

impl Drop for MpiTransport {
    fn drop(&mut self) {
        std::mem::forget(self.universe.take());
    }
}
