//! Writes checkpoints in the background.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::checkpoint::file::{encode, write_checksum};
use crate::checkpoint::folder::LAST;
use crate::checkpoint::folder::RunFolder;
use crate::checkpoint::read::Checkpoint;
use crate::checkpoint::record::RunRecord;
use crate::checkpoint::retention::{Retention, link_retained};
use crate::config::options::RunOptions;
use crate::error::{DataError, Error, Result};
use crate::training::state::TrainState;
use crate::util::atomic_file::replace;

/// Result of writing a checkpoint.
pub(crate) struct WriteOutcome {
    /// Optimizer steps done at the checkpoint.
    pub(crate) step: u64,
    /// Its file, or the error.
    pub(crate) outcome: Result<PathBuf>,
    /// Whether the newest checkpoint is of this step now; with an error, the retained ones are not
    /// what the options ask for.
    pub(crate) written: bool,
}

/// A checkpoint to be written.
struct Job {
    step: u64,
    bytes: Vec<u8>,
    ranking: Vec<u64>,
}

/// Writes one checkpoint at a time on its own thread: training only waits if a second one is due
/// before the first is written.
///
/// The thread lives as long as the run: under a limit of threads or memory, one that is started for
/// each checkpoint may fail at any of them.
#[derive(Debug)]
pub(crate) struct CheckpointWriter {
    folder: RunFolder,
    every: Option<Duration>,
    since: Instant,
    /// Closed to end the thread.
    jobs: Option<SyncSender<Job>>,
    outcomes: Receiver<WriteOutcome>,
    thread: Option<JoinHandle<()>>,
    /// Step of the checkpoint that is being written.
    writing: Option<u64>,
    /// Step of the newest checkpoint that was submitted or read.
    newest: Option<u64>,
}

impl CheckpointWriter {
    /// Locks the run's folder. A resumed run has a checkpoint of step `resumed`; `ranking` is that
    /// of its evaluations.
    pub(crate) fn open(options: &RunOptions, resumed: Option<u64>, ranking: &[u64]) -> Result<Self> {
        let folder = RunFolder::claim(&options.out)?;
        let retention = Retention { last: options.keep_last as usize, best: options.keep_best as usize };
        if let Some(step) = resumed.filter(|_| retention.last > 1 || retention.best > 0) {
            // The run may have been killed after writing that checkpoint and before linking it.
            let newest = Checkpoint::open(&folder.path().join(LAST)).ok();
            if newest.is_some_and(|saved| saved.run().is_ok_and(|run| run.step == step)) {
                link_retained(folder.path(), retention, step, ranking)?;
            }
        }
        let (jobs, submitted) = sync_channel::<Job>(1);
        let (written, outcomes) = sync_channel(1);
        let path = folder.path().to_path_buf();
        let work = move || {
            for job in submitted {
                if written.send(write(&path, job, retention)).is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("checkpoint".into()).spawn(work);
        let thread = thread.map_err(|e| Error::Checkpoint {
            path: folder.path().join(LAST),
            what: format!(
                "cannot start the thread that writes it ({e}); lower option `workers`, or raise the limit of \
                 threads or memory"
            ),
        })?;
        Ok(Self {
            folder,
            every: options.checkpoint_minutes.map(|minutes| Duration::from_secs_f64(60.0 * minutes)),
            since: Instant::now(),
            jobs: Some(jobs),
            outcomes,
            thread: Some(thread),
            writing: None,
            newest: resumed,
        })
    }

    /// Returns true if the last checkpoint is older than `--checkpoint-minutes`.
    pub(crate) fn is_late(&self) -> bool {
        self.every.is_some_and(|every| self.since.elapsed() >= every)
    }

    /// Returns true if the newest checkpoint is of this step.
    pub(crate) fn has(&self, step: u64) -> bool {
        self.newest == Some(step)
    }

    /// Starts writing a checkpoint; returns the result of the previous one, if that was still being
    /// written.
    pub(crate) fn write(&mut self, state: &TrainState, record: &RunRecord) -> Result<Option<WriteOutcome>> {
        let path = self.folder.path().join(LAST);
        let before = self.wait();
        // Training changes the tensors meanwhile, so they are copied now, into the bytes of the
        // file.
        let bytes = encode(&path, state, record)?;
        let job = Job { step: record.step, bytes, ranking: record.history.ranking() };
        // A thread that has ended is found out when its outcome is asked for.
        let _ = self.jobs.as_ref().map(|jobs| jobs.send(job));
        (self.writing, self.newest, self.since) = (Some(record.step), Some(record.step), Instant::now());
        Ok(before)
    }

    /// Returns the result of a checkpoint once it is written.
    pub(crate) fn poll(&mut self) -> Option<WriteOutcome> {
        let step = self.writing?;
        match self.outcomes.try_recv() {
            Ok(outcome) => Some(self.done(outcome)),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(self.done(panicked(step))),
        }
    }

    /// Waits for the checkpoint that is being written, if any.
    pub(crate) fn wait(&mut self) -> Option<WriteOutcome> {
        let step = self.writing?;
        let outcome = self.outcomes.recv().unwrap_or_else(|_| panicked(step));
        Some(self.done(outcome))
    }

    fn done(&mut self, outcome: WriteOutcome) -> WriteOutcome {
        self.writing = None;
        if outcome.outcome.is_err() {
            self.newest = None;
        }
        outcome
    }
}

impl Drop for CheckpointWriter {
    fn drop(&mut self) {
        self.jobs = None;
        // Also waits for what is being written: the folder is another run's from then on.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn panicked(step: u64) -> WriteOutcome {
    let error = DataError::Worker("the writer of checkpoints panicked".into());
    WriteOutcome { step, outcome: Err(error.into()), written: false }
}

/// Replaces the newest checkpoint, and links it.
fn write(folder: &Path, job: Job, retention: Retention) -> WriteOutcome {
    let Job { step, mut bytes, ranking } = job;
    let path = folder.join(LAST);
    write_checksum(&mut bytes);
    let replaced = replace(&path, &bytes);
    drop(bytes);
    let written = replaced.is_ok();
    let outcome = replaced.and_then(|()| link_retained(folder, retention, step, &ranking)).map(|()| path);
    WriteOutcome { step, outcome, written }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_kept_for_later_is_written_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let job = || Job { step: 2, bytes: vec![0; 64], ranking: vec![] };
        let retention = Retention { last: 2, best: 0 };
        // No file can replace a folder.
        let kept = dir.path().join("checkpoints/step-00000002.safetensors");
        std::fs::create_dir_all(&kept).unwrap();
        let outcome = write(dir.path(), job(), retention);
        assert!(outcome.written && outcome.outcome.is_err());
        assert!(dir.path().join(LAST).is_file());
        std::fs::remove_dir(&kept).unwrap();
        let outcome = write(dir.path(), job(), retention);
        assert!(outcome.written && outcome.outcome.is_ok() && kept.is_file());
        // Nor can the newest one.
        std::fs::remove_file(dir.path().join(LAST)).unwrap();
        std::fs::create_dir(dir.path().join(LAST)).unwrap();
        let outcome = write(dir.path(), job(), retention);
        assert!(!outcome.written && outcome.outcome.is_err());
    }
}
