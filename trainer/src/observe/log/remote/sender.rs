//! Thread that sends records to a server, so that a run never waits for it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::observe::log::remote::client::{Failure, FailureKind};
use crate::observe::progress::eprint_line;

/// End of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All its steps are done.
    Finished,
    /// It was asked to stop.
    Stopped,
    /// An error ended it.
    Failed,
}

/// Receiver of records: a server and its protocol.
pub(crate) trait Destination: Send + 'static {
    /// What is sent.
    type Record: Send + 'static;

    /// Returns the name of the server for messages.
    fn name(&self) -> String;

    /// Sends records in one request.
    ///
    /// # Errors
    /// Returns an error if the server did not accept them.
    fn send(&mut self, records: &[Self::Record]) -> Result<(), Failure>;

    /// Tells the server that the run has ended.
    ///
    /// # Errors
    /// Returns an error if the server did not accept it.
    fn end(&mut self, ending: Ending) -> Result<(), Failure>;
}

/// Sizes and times of a [`Sender`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Largest number of records that wait.
    pub(crate) queue: usize,
    /// Largest number of records in a request.
    pub(crate) batch: usize,
    /// Time during which records are gathered into one request.
    pub(crate) gather: Duration,
    /// Pause after a failure; it doubles with each further one, up to [`Self::longest_pause`].
    pub(crate) pause: Duration,
    pub(crate) longest_pause: Duration,
    /// Time after the end of the run in which failed requests are repeated.
    pub(crate) patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Some hours of a run on a fast device, and a few MB.
            queue: 10_000,
            // MLflow takes 1000 numbers in a request; a record has at most 11.
            batch: 80,
            gather: Duration::from_secs(1),
            pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(60),
            patience: Duration::from_secs(20),
        }
    }
}

/// Queue of records and the thread that sends them.
#[derive(Debug)]
pub(crate) struct Sender<R> {
    shared: Arc<Shared<R>>,
    thread: Option<JoinHandle<()>>,
    name: String,
}

impl<R: Send + 'static> Sender<R> {
    /// Starts the thread.
    ///
    /// # Errors
    /// Returns an error if the system has no threads left.
    pub(crate) fn start(destination: impl Destination<Record = R>, limits: Limits) -> Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), limits });
        let (name, worker) = (destination.name(), shared.clone());
        let thread = std::thread::Builder::new().name("log sender".into());
        let thread = thread.spawn(move || worker.work(destination)).map_err(Error::io(&name))?;
        Ok(Self { shared, thread: Some(thread), name })
    }

    /// Adds a record; if the queue is full, it is counted as lost. Never waits for the server.
    pub(crate) fn push(&self, record: R) {
        let mut state = self.shared.lock();
        if state.queue.len() < self.shared.limits.queue {
            state.queue.push_back(record);
        } else {
            state.lost += 1;
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Returns what there is to tell since the last call.
    pub(crate) fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.lock().notices)
    }
}

impl<R> Sender<R> {
    /// Sends what is left, tells the server that the run has ended, and stops the thread. Does
    /// nothing after the first call.
    pub(crate) fn close(&mut self, ending: Ending) {
        let Some(thread) = self.thread.take() else { return };
        let mut state = self.shared.lock();
        state.closing = Some(Closing { ending, deadline: Instant::now() + self.shared.limits.patience });
        drop(state);
        self.shared.changed.notify_all();
        let died = thread.join().is_err();
        let mut state = self.shared.lock();
        let lost = state.lost + state.queue.len() as u64;
        if lost > 0 || died {
            let records = if lost == 1 { "record" } else { "records" };
            state.notices.push(format!(
                "{lost} {records} of the run could not be sent to {}; they are in `log.jsonl` in the run's folder",
                self.name
            ));
        }
    }
}

impl<R> Drop for Sender<R> {
    /// Without an end of the run before, an error has ended it.
    fn drop(&mut self) {
        self.close(Ending::Failed);
        let notices = std::mem::take(&mut self.shared.lock().notices);
        notices.iter().for_each(|notice| eprint_line(format!("warning: {notice}")));
    }
}

#[derive(Clone, Copy, Debug)]
struct Closing {
    ending: Ending,
    /// Failed requests are not repeated after this.
    deadline: Instant,
}

#[derive(Debug)]
struct State<R> {
    queue: VecDeque<R>,
    /// Number of records that were given up.
    lost: u64,
    /// True once a failure that may pass was told.
    told_temporary: bool,
    /// True once a refusal was told.
    told_refusal: bool,
    notices: Vec<String>,
    closing: Option<Closing>,
}

impl<R> Default for State<R> {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            lost: 0,
            told_temporary: false,
            told_refusal: false,
            notices: Vec::new(),
            closing: None,
        }
    }
}

/// Outcome of a request with all its repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    Accepted,
    Refused,
    /// The run has ended, and the server could not be reached for too long.
    GivenUp,
}

#[derive(Debug)]
struct Shared<R> {
    state: Mutex<State<R>>,
    changed: Condvar,
    limits: Limits,
}

impl<R> Shared<R> {
    fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends until the run has ended and the queue is empty.
    fn work(&self, mut destination: impl Destination<Record = R>) {
        let name = destination.name();
        if self.send_records(&name, &mut destination) {
            let Some(Closing { ending, .. }) = self.lock().closing else { return };
            if self.deliver(&name, || destination.end(ending)) == Delivery::Accepted {
                return;
            }
        }
        let notice = format!("{name} could not be told that the run has ended, and may show it as running");
        self.lock().notices.push(notice);
    }

    /// Returns false if it gave up.
    fn send_records(&self, name: &str, destination: &mut impl Destination<Record = R>) -> bool {
        while let Some(records) = self.next_records() {
            let delivery = self.deliver(name, || destination.send(&records));
            if delivery != Delivery::Accepted {
                self.lock().lost += records.len() as u64;
            }
            if delivery == Delivery::GivenUp {
                return false;
            }
        }
        true
    }

    /// Waits for records; none if the run has ended and all are taken.
    fn next_records(&self) -> Option<Vec<R>> {
        let limits = self.limits;
        let waits = |state: &mut State<R>| state.queue.is_empty() && state.closing.is_none();
        let state = self.changed.wait_while(self.lock(), waits).unwrap_or_else(PoisonError::into_inner);
        let gathers = |state: &mut State<R>| state.queue.len() < limits.batch && state.closing.is_none();
        let (mut state, _) = self
            .changed
            .wait_timeout_while(state, limits.gather, gathers)
            .unwrap_or_else(PoisonError::into_inner);
        let count = state.queue.len().min(limits.batch);
        let records: Vec<R> = state.queue.drain(..count).collect();
        (!records.is_empty()).then_some(records)
    }

    /// Repeats a request until it succeeds, is refused, or there is no more time.
    fn deliver(&self, name: &str, mut request: impl FnMut() -> Result<(), Failure>) -> Delivery {
        let mut pause = self.limits.pause;
        loop {
            let Err(failure) = request() else { return Delivery::Accepted };
            self.tell(name, &failure);
            if failure.kind == FailureKind::Refused {
                return Delivery::Refused;
            }
            if !self.pause(pause) {
                return Delivery::GivenUp;
            }
            pause = (pause * 2).min(self.limits.longest_pause);
        }
    }

    /// Notes the first failure of a kind.
    fn tell(&self, name: &str, Failure { kind, what, .. }: &Failure) {
        let mut state = self.lock();
        let refused = *kind == FailureKind::Refused;
        let told = if refused { &mut state.told_refusal } else { &mut state.told_temporary };
        if std::mem::replace(told, true) {
            return;
        }
        let consequence = if refused {
            "these records are not sent"
        } else {
            "the run goes on, and its records are sent again until they arrive"
        };
        state.notices.push(format!("{name} {what}; {consequence}"));
    }

    /// Waits after a failure, less if the run ends meanwhile. Returns false if there is no time for
    /// another attempt.
    fn pause(&self, pause: Duration) -> bool {
        let state = self.lock();
        let closing = state.closing.is_some();
        // The end of the run comes soon enough, so there is no point in long pauses any more.
        let pause = if closing { pause.min(Duration::from_secs(1)) } else { pause };
        let (state, _) = self
            .changed
            .wait_timeout_while(state, pause, |state| state.closing.is_some() == closing)
            .unwrap_or_else(PoisonError::into_inner);
        state.closing.is_none_or(|closing| Instant::now() < closing.deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Limits = Limits {
        queue: 10,
        batch: 4,
        gather: Duration::from_millis(1),
        pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(10),
        patience: Duration::from_millis(50),
    };

    /// What has arrived, and the failures of the next requests; after them, all succeed.
    #[derive(Default)]
    struct Server {
        failures: Vec<FailureKind>,
        /// Fails for good.
        is_dead: bool,
        records: Vec<u32>,
        ending: Option<Ending>,
    }

    #[derive(Clone, Default)]
    struct Line(Arc<Mutex<Server>>);

    impl Line {
        fn try_send(&self, take: impl FnOnce(&mut Server)) -> Result<(), Failure> {
            let mut server = self.0.lock().unwrap();
            let dead = server.is_dead.then_some(FailureKind::Temporary);
            match dead.or_else(|| server.failures.pop()) {
                Some(kind) => Err(Failure { kind, status: None, what: format!("fails ({kind:?})") }),
                None => {
                    take(&mut server);
                    Ok(())
                }
            }
        }
    }

    impl Destination for Line {
        type Record = u32;

        fn name(&self) -> String {
            "the server".into()
        }

        fn send(&mut self, records: &[u32]) -> Result<(), Failure> {
            assert!(records.len() <= QUICK.batch);
            self.try_send(|server| server.records.extend(records))
        }

        fn end(&mut self, ending: Ending) -> Result<(), Failure> {
            self.try_send(|server| server.ending = Some(ending))
        }
    }

    /// Sends records, and returns what has arrived and what was told.
    fn sent(count: u32, server: Server) -> (Vec<u32>, Option<Ending>, Vec<String>) {
        let line = Line(Arc::new(Mutex::new(server)));
        // Nothing is sent before the queue has all that fits.
        let held = line.0.lock().unwrap();
        let mut sender = Sender::start(line.clone(), QUICK).unwrap();
        (0..count).for_each(|record| sender.push(record));
        drop(held);
        sender.close(Ending::Finished);
        let notices = sender.take_notices();
        sender.close(Ending::Failed);
        let server = line.0.lock().unwrap();
        (server.records.clone(), server.ending, notices)
    }

    #[test]
    fn failures_that_pass_lose_nothing_and_are_told_once() {
        let failures = vec![FailureKind::Temporary, FailureKind::Denied, FailureKind::Temporary];
        let (records, ending, notices) = sent(9, Server { failures, ..Server::default() });
        assert_eq!((records, ending), ((0..9).collect(), Some(Ending::Finished)));
        assert!(notices.len() == 1 && notices[0].contains("the run goes on"), "{notices:?}");
    }

    #[test]
    fn refused_records_are_counted_and_the_others_arrive() {
        let failures = vec![FailureKind::Refused];
        let (records, ending, notices) = sent(9, Server { failures, ..Server::default() });
        assert!(!records.is_empty() && records.len() < 9 && ending == Some(Ending::Finished));
        let lost = format!("{} record", 9 - records.len());
        assert!(notices[0].contains("these records are not sent"), "{notices:?}");
        assert!(notices[1].starts_with(&lost) && notices.len() == 2, "{notices:?}");
    }

    #[test]
    fn records_that_do_not_fit_or_find_no_server_are_counted() {
        let (records, ending, notices) = sent(100, Server { is_dead: true, ..Server::default() });
        assert_eq!((records.len(), ending), (0, None));
        for part in ["100 records of the run could not be sent", "may show it as running"] {
            assert!(notices.iter().any(|notice| notice.contains(part)), "{notices:?}");
        }
        // The thread may have taken a batch before the queue was full.
        let (records, _, notices) = sent(100, Server::default());
        assert!((10..=14).contains(&records.len()), "{records:?}");
        let lost = format!("{} records of the run", 100 - records.len());
        assert!(notices[0].starts_with(&lost), "{notices:?}");
    }
}
