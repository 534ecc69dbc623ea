//! Writes checkpoints in the background.

use std::path::{Path, PathBuf};
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
}

/// Writes one checkpoint at a time on its own thread: training only waits if a second one is due
/// before the first is written.
#[derive(Debug)]
pub(crate) struct CheckpointWriter {
    folder: RunFolder,
    retention: Retention,
    every: Option<Duration>,
    since: Instant,
    /// Step of the checkpoint that is being written, and its thread or why there is none.
    writing: Option<(u64, Result<JoinHandle<Result<PathBuf>>>)>,
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
        Ok(Self {
            folder,
            retention,
            every: options.checkpoint_minutes.map(|minutes| Duration::from_secs_f64(60.0 * minutes)),
            since: Instant::now(),
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
        let (folder, retention, step) = (self.folder.path().to_path_buf(), self.retention, record.step);
        let ranking = record.history.ranking();
        let work = move || write(&folder, bytes, retention, step, &ranking);
        let thread = std::thread::Builder::new().name("checkpoint".into()).spawn(work);
        // Fails this checkpoint like a full disk, not the run: there may be threads for the next one.
        let thread = thread.map_err(|e| Error::Checkpoint {
            path,
            what: format!(
                "cannot start the thread that writes it ({e}); lower option `workers`, or raise the limit of \
                 threads or memory"
            ),
        });
        (self.writing, self.newest, self.since) = (Some((step, thread)), Some(step), Instant::now());
        Ok(before)
    }

    /// Returns the result of a checkpoint once it is written.
    pub(crate) fn poll(&mut self) -> Option<WriteOutcome> {
        let finished = self.writing.as_ref()?.1.as_ref().map_or(true, JoinHandle::is_finished);
        if finished { self.wait() } else { None }
    }

    /// Waits for the checkpoint that is being written, if any.
    pub(crate) fn wait(&mut self) -> Option<WriteOutcome> {
        let (step, thread) = self.writing.take()?;
        let panicked = |_| Err(DataError::Worker("the writer of checkpoints panicked".into()).into());
        let outcome = thread.and_then(|thread| thread.join().unwrap_or_else(panicked));
        if outcome.is_err() {
            self.newest = None;
        }
        Some(WriteOutcome { step, outcome })
    }
}

impl Drop for CheckpointWriter {
    fn drop(&mut self) {
        self.wait();
    }
}

/// Replaces the newest checkpoint, and links it.
fn write(
    folder: &Path,
    mut bytes: Vec<u8>,
    retention: Retention,
    step: u64,
    ranking: &[u64],
) -> Result<PathBuf> {
    let path = folder.join(LAST);
    write_checksum(&mut bytes);
    replace(&path, &bytes)?;
    drop(bytes);
    link_retained(folder, retention, step, ranking)?;
    Ok(path)
}
