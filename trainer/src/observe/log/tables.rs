//! CSV tables of steps and evaluations.

use std::fs::File;
use std::path::{Path, PathBuf};

use csv::{Writer, WriterBuilder};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::events::{EvalRecord, Event, MultiLabelEval, Observer};
use crate::util::atomic_file::replace;

/// Appends to `steps.csv` and `evals.csv`. Columns are the fields of
/// [`StepRecord`](crate::events::StepRecord) and
/// [`EvalRecord`]; the first is the step. In a multi-label run those of [`MultiLabelEval`] follow.
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

/// Row of a multi-label run: a table cannot hold the nested values of the record.
#[derive(Serialize)]
struct MultiLabelRow {
    step: u64,
    epoch: f64,
    equivalent_epochs: f64,
    seconds: f64,
    top1: f64,
    top5: f64,
    #[serde(with = "crate::util::float_serde")]
    loss: f64,
    ema_top1: Option<f64>,
    map: f64,
    ema_map: Option<f64>,
    micro_f1: f64,
    macro_f1: f64,
}

impl MultiLabelRow {
    fn of(e: &EvalRecord, several: MultiLabelEval) -> Self {
        Self {
            step: e.step,
            epoch: e.epoch,
            equivalent_epochs: e.equivalent_epochs,
            seconds: e.seconds,
            top1: e.top1,
            top5: e.top5,
            loss: e.loss,
            ema_top1: e.ema_top1,
            map: several.map,
            ema_map: several.ema_map,
            micro_f1: several.micro_f1,
            macro_f1: several.macro_f1,
        }
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

    fn sync(&self) -> Result<()> {
        self.rows.get_ref().sync_data().map_err(Error::io(&self.path))
    }
}

impl Observer for CsvLog {
    fn observe(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Step(step) => self.steps.add(step),
            Event::Eval(eval) => match eval.multi_label {
                Some(several) => self.evals.add(&MultiLabelRow::of(eval, several)),
                None => self.evals.add(eval),
            },
            _ => Ok(()),
        }
    }

    fn sync(&mut self) -> Result<()> {
        self.steps.sync()?;
        self.evals.sync()
    }
}
