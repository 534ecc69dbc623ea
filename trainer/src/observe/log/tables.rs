//! CSV tables of steps and evaluations.

use std::fs::File;
use std::path::{Path, PathBuf};

use csv::{Writer, WriterBuilder};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::events::{Event, Observer};
use crate::util::atomic_file::replace;

/// Appends to `steps.csv` and `evals.csv`. Columns are the fields of
/// [`StepRecord`](crate::events::StepRecord) and
/// [`EvalRecord`](crate::events::history::EvalRecord); the first is the step.
#[derive(Debug)]
pub struct CsvLog {
    steps: Table,
    evals: Table,
}

#[derive(Debug)]
struct Table {
    path: PathBuf,
    rows: Writer<File>,
}

impl CsvLog {
    /// Opens the tables in `folder` for a run whose next step is `step`; with `step` 0 they start
    /// empty.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read or written.
    pub fn open(folder: &Path, step: u64) -> Result<Self> {
        // Steps carry the number of steps before them, evaluations the number of steps done.
        Ok(Self {
            steps: Table::open(folder.join("steps.csv"), |at| at < step)?,
            evals: Table::open(folder.join("evals.csv"), |at| step > 0 && at <= step)?,
        })
    }
}

impl Table {
    /// Opens a table and keeps only its header, if there is one, and the rows of the steps to keep.
    fn open(path: PathBuf, keep: impl Fn(u64) -> bool) -> Result<Self> {
        let text = crate::observe::log::read(&path)?;
        // An incomplete last row was being written when the process ended.
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let step = |line: &str| line.split(',').next()?.parse::<u64>().ok();
        let mut kept: String = whole
            .enumerate()
            .filter(|(i, l)| *i == 0 || step(l).is_some_and(&keep))
            .map(|(_, l)| l)
            .collect();
        if kept.lines().count() == 1 {
            kept.clear();
        }
        replace(&path, kept.as_bytes())?;
        let file = File::options().append(true).open(&path).map_err(Error::io(&path))?;
        Ok(Self { rows: WriterBuilder::new().has_headers(kept.is_empty()).from_writer(file), path })
    }

    /// Writes and flushes a row, so that readers see it.
    fn add(&mut self, row: &impl Serialize) -> Result<()> {
        self.rows.serialize(row).map_err(|e| Error::io(&self.path)(e.into()))?;
        self.rows.flush().map_err(Error::io(&self.path))
    }
}

impl Observer for CsvLog {
    fn observe(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Step(step) => self.steps.add(step),
            Event::Eval(eval) => self.evals.add(eval),
            _ => Ok(()),
        }
    }
}
