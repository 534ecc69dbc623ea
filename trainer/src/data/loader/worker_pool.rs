//! Worker threads that make things ahead of time, and hand them over in order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::data::pipeline::workspace::Workspace;
use crate::error::DataError;

/// What a worker does with a request.
pub(crate) type Make<R, T> = dyn Fn(&R, &mut Workspace) -> Result<T, DataError> + Send + Sync;

/// An iterator over what workers make of requests: the same things in the same order for any number of workers.
///
/// Each worker takes the next request, and waits while more than two a worker are ready. Dropping it stops the workers.
pub(crate) struct Ordered<T> {
    finished: Receiver<(usize, Result<T, DataError>)>,
    /// What is ready before its turn.
    early: HashMap<usize, Result<T, DataError>>,
    next: usize,
    stop: Arc<AtomicBool>,
    /// A place for each request that may be under way; workers take one before they begin.
    permits: Option<SyncSender<()>>,
    workers: Vec<JoinHandle<()>>,
    busy: Busy,
    failed: bool,
}

/// Time that workers have spent on requests, all of them together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Busy(Arc<AtomicU64>);

impl Busy {
    /// In seconds.
    pub(crate) fn seconds(&self) -> f64 {
        self.0.load(Ordering::Relaxed) as f64 / 1e9
    }

    fn add(&self, since: Instant) {
        let nanoseconds = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

impl<T: Send + 'static> Ordered<T> {
    /// Starts `workers` threads.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(crate) fn start<R: 'static>(
        make: &Arc<Make<R, T>>,
        requests: impl Iterator<Item = R> + Send + 'static,
        workers: usize,
    ) -> Result<Self, DataError> {
        let workers = workers.max(1);
        let ahead = 2 * workers;
        let (done, finished) = sync_channel(ahead);
        let (permits, taken) = sync_channel(ahead);
        let queue = Arc::new(Mutex::new((requests.enumerate(), taken)));
        let stop = Arc::new(AtomicBool::new(false));
        let mut pool = Self {
            finished,
            early: HashMap::new(),
            next: 0,
            stop: stop.clone(),
            permits: Some(permits),
            workers: Vec::new(),
            busy: Busy::default(),
            failed: false,
        };
        for _ in 0..ahead {
            pool.permit();
        }
        for i in 0..workers {
            let (queue, done, make, stop) = (queue.clone(), done.clone(), make.clone(), stop.clone());
            let busy = pool.busy.clone();
            let work = move || {
                let mut workspace = Workspace::default();
                while !stop.load(Ordering::Relaxed) {
                    let Some((index, request)) = next_request(&queue) else { break };
                    let begun = Instant::now();
                    let made = guarded(|| make(&request, &mut workspace));
                    busy.add(begun);
                    if done.send((index, made)).is_err() {
                        break;
                    }
                }
            };
            pool.workers.push(spawn(format!("data-{i}"), work)?);
        }
        Ok(pool)
    }
}

impl<T> Ordered<T> {
    /// What the workers have spent, now and later.
    pub(crate) fn busy(&self) -> Busy {
        self.busy.clone()
    }

    fn permit(&self) {
        if let Some(permits) = &self.permits {
            // Full or closed both mean that no worker waits for it.
            let _ = permits.try_send(());
        }
    }
}

/// A named thread.
pub(crate) fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, DataError> {
    let thread = std::thread::Builder::new().name(name).spawn(work);
    thread.map_err(|e| DataError::Worker(format!("cannot start: {e}")))
}

/// Waits for a permit and takes the next request; none when either has ended.
fn next_request<R, I: Iterator<Item = (usize, R)>>(queue: &Mutex<(I, Receiver<()>)>) -> Option<(usize, R)> {
    let mut queue = queue.lock().ok()?;
    queue.1.recv().ok()?;
    queue.0.next()
}

/// Runs a worker's step; a panic becomes an error, so that the run ends with a message and never hangs.
pub(crate) fn guarded<T>(run: impl FnOnce() -> Result<T, DataError>) -> Result<T, DataError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(DataError::Worker(format!("it panicked: {text}; this is a bug of efficienttrain")))
    })
}

impl<T> Iterator for Ordered<T> {
    type Item = Result<T, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let made = loop {
            if let Some(made) = self.early.remove(&self.next) {
                break made;
            }
            let (index, made) = self.finished.recv().ok()?;
            self.early.insert(index, made);
        };
        self.next += 1;
        self.failed = made.is_err();
        self.permit();
        Some(made)
    }
}

impl<T> Drop for Ordered<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.permits = None;
        // Workers may wait for room to hand over: take what they have until all have ended.
        while self.finished.recv().is_ok() {}
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}
