//! The thread of a rank that communicates: it does what the training thread asks for, in order, and
//! answers other ranks meanwhile.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::distributed::collectives::{Collectives, SumRequest};
use crate::distributed::control::{ControlMessage, Failure, StatusBoard};
use crate::distributed::transport::Transport;
use crate::error::{Error, Result};

/// Interval of polls while there is nothing to do.
const IDLE: Duration = Duration::from_millis(1);
/// Time in which the ranks of a job that fails hear of each other.
const HEAR: Duration = Duration::from_secs(2);
/// Time that the communication thread has beyond the limit of a wait before it counts as stuck.
const GRACE: Duration = Duration::from_secs(90);

enum Command {
    Slots(u32),
    SetNames(Vec<String>),
    Gather(Vec<u8>, Sender<Result<Vec<Vec<u8>>>>),
    Sum(SumRequest, Sender<Result<Vec<f32>>>),
    Fail(Failure, Sender<Option<String>>),
    Finish(Sender<()>),
}

/// The communication thread of a rank.
#[derive(Debug)]
pub(crate) struct Communicator {
    pub(crate) rank: usize,
    pub(crate) size: usize,
    pub(crate) board: Arc<StatusBoard>,
    commands: Sender<Command>,
    pub(crate) limit: Duration,
    /// Why the communication has failed, if it has.
    failure: Arc<Mutex<Option<String>>>,
}

/// Sum that is being computed.
#[derive(Debug)]
pub(crate) struct PendingSum(Receiver<Result<Vec<f32>>>);

impl Communicator {
    /// Starts the thread, which opens its transport itself: MPI stays on the thread that initialized it.
    ///
    /// # Errors
    /// That of `open`.
    pub(crate) fn start(
        limit: Duration,
        open: impl FnOnce() -> Result<Box<dyn Transport>> + Send + 'static,
    ) -> Result<Self> {
        let (commands, asked) = channel();
        let (ready, opened) = channel();
        let board = Arc::new(StatusBoard::default());
        let failure = Arc::new(Mutex::new(None));
        let (shared, noted) = (board.clone(), failure.clone());
        let work = move || match open() {
            Ok(transport) => {
                let collectives = Collectives::new(transport, shared, limit);
                let _ = ready.send(Ok((collectives.rank(), collectives.size())));
                serve(collectives, &asked, &noted);
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        };
        let thread = std::thread::Builder::new().name("ranks".into()).spawn(work);
        thread.map_err(|e| Error::Distributed(format!("cannot start a thread: {e}")))?;
        let (rank, size) = opened.recv().map_err(|_| ended(&failure))??;
        Ok(Self { rank, size, board, commands, limit, failure })
    }

    /// Sets the number of device slots of the plan.
    pub(crate) fn set_slots(&self, slots: u32) {
        let _ = self.commands.send(Command::Slots(slots));
    }

    /// Sets what messages say about each rank.
    pub(crate) fn set_peer_names(&self, about: Vec<String>) {
        let _ = self.commands.send(Command::SetNames(about));
    }

    /// Returns what each rank gives, in order of ranks.
    ///
    /// # Errors
    /// Returns an error if a rank fails, is gone or is late.
    pub(crate) fn gather(&self, mine: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        let (reply, answer) = channel();
        self.ask(Command::Gather(mine, reply))?;
        self.wait(&answer)
    }

    /// Starts to add up over all ranks. All ranks must ask for the same sums in the same order.
    ///
    /// # Errors
    /// Returns an error if the communication has failed before.
    pub(crate) fn begin_sum(&self, request: SumRequest) -> Result<PendingSum> {
        let (reply, answer) = channel();
        self.ask(Command::Sum(request, reply))?;
        Ok(PendingSum(answer))
    }

    /// Waits for a sum.
    ///
    /// # Errors
    /// Same as [`Self::gather`].
    pub(crate) fn finish_sum(&self, sum: &PendingSum) -> Result<Vec<f32>> {
        self.wait(&sum.0)
    }

    /// Tells all others that this rank fails. Returns what rank 0 says, if it fails as well.
    pub(crate) fn fail(&self, failure: Failure) -> Option<String> {
        let (reply, answer) = channel();
        self.commands.send(Command::Fail(failure, reply)).ok()?;
        answer.recv_timeout(3 * HEAR).ok()?
    }

    /// Ends the communication; all ranks have agreed to.
    pub(crate) fn finish(&self) {
        let (reply, answer) = channel();
        if self.commands.send(Command::Finish(reply)).is_ok() {
            // MPI may wait for a process that has died meanwhile.
            let _ = answer.recv_timeout(5 * HEAR);
        }
    }

    /// Returns why the communication has failed; none if it has not.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ask(&self, command: Command) -> Result<()> {
        self.commands.send(command).map_err(|_| ended(&self.failure))
    }

    fn wait<T>(&self, answer: &Receiver<Result<T>>) -> Result<T> {
        let mut left = self.limit.saturating_add(GRACE);
        loop {
            match answer.recv_timeout(HEAR) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Disconnected) => return Err(ended(&self.failure)),
                // The thread reports every wait; one that is on a slow disk may take any time.
                Err(RecvTimeoutError::Timeout) if self.board.has_heartbeat() => {
                    left = self.limit.saturating_add(GRACE);
                }
                Err(RecvTimeoutError::Timeout) => {
                    left = left.saturating_sub(HEAR);
                    if left.is_zero() {
                        return Err(Error::Distributed("the communication thread is stuck".into()));
                    }
                }
            }
        }
    }
}

fn ended(failure: &Mutex<Option<String>>) -> Error {
    let why = failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Error::Distributed(why.unwrap_or_else(|| "the communication thread has ended".into()))
}

/// Does what is asked for until the end.
fn serve(mut collectives: Collectives, asked: &Receiver<Command>, failure: &Mutex<Option<String>>) {
    let note = |error: &Error| {
        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.to_string());
    };
    let mut broken = None;
    loop {
        let command = match asked.recv_timeout(IDLE) {
            Ok(command) => command,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                if let Err(error) = collectives.receive_pending() {
                    note(&error);
                }
                continue;
            }
        };
        match command {
            Command::Slots(slots) => collectives.slots = slots,
            Command::SetNames(about) => collectives.set_peer_names(about),
            Command::Gather(mine, reply) => {
                let all = unless_broken(&mut broken, || collectives.gather(mine));
                let _ = reply.send(all.inspect_err(note));
            }
            Command::Sum(request, reply) => {
                let sum = unless_broken(&mut broken, || collectives.sum(request));
                let _ = reply.send(sum.inspect_err(note));
            }
            Command::Fail(failure, reply) => {
                collectives.broadcast_control(&ControlMessage::Failed(failure));
                let _ = reply.send(collectives.wait_for_first_failure(HEAR));
            }
            Command::Finish(reply) => {
                collectives.finish();
                let _ = reply.send(());
                return;
            }
        }
    }
}

/// Takes part in a collective operation, unless one has failed before: what that one has left unread
/// would be taken for a part of this one, and hide the first error.
fn unless_broken<T>(broken: &mut Option<String>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    match broken {
        Some(why) => Err(Error::Distributed(why.clone())),
        None => work().inspect_err(|error| *broken = Some(error.to_string())),
    }
}
