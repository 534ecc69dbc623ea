//! Log of events, with one JSON object per line.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::events::{Event, Observer, Start, StepRecord};
use crate::observe::log::STEP_INTERVAL;
use crate::util::atomic_file::replace;

/// Appends events to a file as they happen, each line complete. Of the steps, it logs every tenth,
/// and the first and the last of each stage, so that curves drawn from it reach the end of the run.
#[derive(Debug)]
pub struct JsonLog {
    path: PathBuf,
    file: File,
    lines: JsonLines,
}

/// Chooses the events that a log of lines contains, and writes them.
#[derive(Debug, Default)]
pub(crate) struct JsonLines {
    /// First and last steps of the stages.
    bounds: BTreeSet<u64>,
}

impl JsonLines {
    /// Returns the line of an event; none if it is a step that is not logged.
    pub(crate) fn line(&mut self, event: &Event) -> serde_json::Result<Option<Vec<u8>>> {
        match event {
            Event::Start(start) => self.bounds = bounds(start),
            Event::Step(StepRecord { step, .. })
                if step % STEP_INTERVAL != 0 && !self.bounds.contains(step) =>
            {
                return Ok(None);
            }
            _ => {}
        }
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        Ok(Some(line))
    }
}

impl JsonLog {
    /// Opens the log of a run whose next step is `step`. Lines that an earlier process wrote after
    /// its last checkpoint are removed, because those steps will be repeated. With `step` 0 the log
    /// starts empty.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or written.
    pub fn open(path: &Path, step: u64) -> Result<Self> {
        let kept = if step > 0 { kept_lines(path, step)? } else { String::new() };
        replace(path, kept.as_bytes())?;
        let file = File::options().append(true).open(path).map_err(Error::io(path))?;
        Ok(Self { path: path.into(), file, lines: JsonLines::default() })
    }
}

/// Returns the lines of events before `step`, without an incomplete last line.
fn kept_lines(path: &Path, step: u64) -> Result<String> {
    let text = crate::observe::log::read(path)?;
    let keep = |line: &&str| {
        let Ok(event) = serde_json::from_str::<serde_json::Value>(line) else { return false };
        let at = event["step"].as_u64().unwrap_or(0);
        // Steps and stages carry the number of steps before them; other events the number of steps
        // done.
        let begins = matches!(event["event"].as_str(), Some("step" | "stage"));
        if begins { at < step } else { at <= step }
    };
    Ok(text.lines().filter(keep).map(|line| format!("{line}\n")).collect())
}

/// Returns the first and the last step of each stage.
fn bounds(start: &Start) -> BTreeSet<u64> {
    let stages = start.stage_steps().into_iter();
    stages.filter(|range| !range.is_empty()).flat_map(|range| [range.start, range.end - 1]).collect()
}

impl Observer for JsonLog {
    fn observe(&mut self, event: &Event) -> Result<()> {
        match self.lines.line(event).map_err(|e| Error::io(&self.path)(e.into()))? {
            Some(line) => self.file.write_all(&line).map_err(Error::io(&self.path)),
            None => Ok(()),
        }
    }

    fn sync(&mut self) -> Result<()> {
        self.file.sync_data().map_err(Error::io(&self.path))
    }
}
