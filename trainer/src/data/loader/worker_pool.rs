//! Worker threads that work on requests ahead of time and hand over their outputs in order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::data::pipeline::workspace::Workspace;
use crate::error::DataError;

/// Work of a worker on one request.
pub(crate) type WorkFn<R, T> = dyn Fn(&R, &mut Workspace) -> Result<T, DataError> + Send + Sync;

/// An iterator over the outputs of workers: the same outputs in the same order for any number of
/// workers.
///
/// Each worker takes the next request, and waits while more than two outputs per worker are ready.
/// Dropping it stops the workers.
pub(crate) struct OrderedWorkers<T> {
    finished: Receiver<(usize, Result<T, DataError>)>,
    /// Outputs that are finished before their turn.
    early: HashMap<usize, Result<T, DataError>>,
    next: usize,
    stop: Arc<AtomicBool>,
    /// One permit for each request in progress; workers take one before they start.
    permits: Option<SyncSender<()>>,
    workers: Vec<JoinHandle<()>>,
    busy: BusyTime,
    failed: bool,
}

/// Time that all workers together have spent on requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct BusyTime(Arc<AtomicU64>);

impl BusyTime {
    /// Returns the time in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        self.0.load(Ordering::Relaxed) as f64 / 1e9
    }

    fn add(&self, since: Instant) {
        let nanoseconds = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

impl<T: Send + 'static> OrderedWorkers<T> {
    /// Starts `workers` threads.
    ///
    /// # Errors
    /// Returns an error if the system cannot start a thread.
    pub(crate) fn start<R: 'static>(
        work: &Arc<WorkFn<R, T>>,
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
            busy: BusyTime::default(),
            failed: false,
        };
        for _ in 0..ahead {
            pool.permit();
        }
        for i in 0..workers {
            let (queue, done, work, stop) = (queue.clone(), done.clone(), work.clone(), stop.clone());
            let busy = pool.busy.clone();
            let run = move || {
                let mut workspace = Workspace::default();
                while !stop.load(Ordering::Relaxed) {
                    let Some((index, request)) = next_request(&queue) else { break };
                    let begun = Instant::now();
                    let output = catch_panic(|| work(&request, &mut workspace));
                    busy.add(begun);
                    if done.send((index, output)).is_err() {
                        break;
                    }
                }
            };
            pool.workers.push(spawn(format!("data-{i}"), run)?);
        }
        Ok(pool)
    }
}

impl<T> OrderedWorkers<T> {
    /// Returns the busy time of the workers, which continues to count.
    pub(crate) fn busy_time(&self) -> BusyTime {
        self.busy.clone()
    }

    fn permit(&self) {
        if let Some(permits) = &self.permits {
            // Full or closed both mean that no worker waits for it.
            let _ = permits.try_send(());
        }
    }
}

/// Starts a named thread.
pub(crate) fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, DataError> {
    let thread = std::thread::Builder::new().name(name).spawn(work);
    thread.map_err(|e| {
        DataError::Worker(format!(
            "it cannot start ({e}); lower option `workers`, or raise the limit of threads or memory"
        ))
    })
}

/// Waits for a permit and takes the next request; none once either is exhausted.
fn next_request<R, I: Iterator<Item = (usize, R)>>(queue: &Mutex<(I, Receiver<()>)>) -> Option<(usize, R)> {
    let mut queue = queue.lock().ok()?;
    queue.1.recv().ok()?;
    queue.0.next()
}

/// Runs a worker's step and turns a panic into an error, so that the run ends with a message
/// instead of hanging.
pub(crate) fn catch_panic<T>(run: impl FnOnce() -> Result<T, DataError>) -> Result<T, DataError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(DataError::Worker(format!("it panicked: {text}; this is a bug of efficienttrain")))
    })
}

impl<T> Iterator for OrderedWorkers<T> {
    type Item = Result<T, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let output = loop {
            if let Some(output) = self.early.remove(&self.next) {
                break output;
            }
            let (index, output) = self.finished.recv().ok()?;
            self.early.insert(index, output);
        };
        self.next += 1;
        self.failed = output.is_err();
        self.permit();
        Some(output)
    }
}

impl<T> Drop for OrderedWorkers<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.permits = None;
        // Ends workers that are blocked sending an output. Receiving until all senders are gone would
        // wait forever in `start`, which still has one if a thread cannot be started.
        self.finished = sync_channel(0).1;
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As in `start`, if a thread cannot be started.
    #[test]
    fn a_pool_is_dropped_while_there_is_a_sender() {
        let (_done, finished) = sync_channel::<(usize, Result<(), DataError>)>(1);
        drop(OrderedWorkers {
            finished,
            early: HashMap::new(),
            next: 0,
            stop: Arc::default(),
            permits: None,
            workers: Vec::new(),
            busy: BusyTime::default(),
            failed: false,
        });
    }
}
