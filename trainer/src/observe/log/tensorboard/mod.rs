//! Event files for TensorBoard.
//!
//! The existing crates either run `protoc` during the build or have many dependencies. A scalar
//! needs only a checksummed record and five fields, so the format is implemented here.

pub(crate) mod message;
pub(crate) mod record;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::events::{Event, Observer};
use crate::observe::log::scalars::Scalars;
use crate::observe::log::tensorboard::message::Message;

/// Prefix of the names of event files.
const NAME: &str = "events.out.tfevents.";

/// Writes scalars to a separate event file for each process of a run. Steps carry the number of
/// steps done.
#[derive(Debug)]
pub struct TensorBoardLog {
    path: PathBuf,
    file: File,
}

impl TensorBoardLog {
    /// Opens the folder of event files for a run whose next step is `step`. Events of earlier
    /// processes after it are removed, and readers that have loaded them are instructed to discard
    /// them. With `step` 0 the folder starts empty.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read or written.
    pub fn open(folder: &Path, step: u64) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let older = event_files(folder)?;
        for path in &older {
            cut(path, step)?;
        }
        // Readers sort the files by name.
        let after = older.iter().filter_map(|path| seconds_of(path)).max().map_or(0, |last| last + 1);
        let path = folder.join(format!("{NAME}{:010}.efficienttrain", after.max(now() as u64)));
        let file = File::options().append(true).create_new(true).open(&path).map_err(Error::io(&path))?;
        let mut log = Self { path, file };
        log.write(&Message::event(now(), 0).text(message::FILE_VERSION, "brain.Event:2"))?;
        if step > 0 {
            let begins = Message::default().number(message::STATUS, message::START);
            log.write(&Message::event(now(), step + 1).message(message::SESSION_LOG, &begins))?;
        }
        Ok(log)
    }

    fn scalars(&mut self, scalars: &Scalars) -> Result<()> {
        let value = |summary: Message, &(tag, value): &(&str, f64)| {
            let value = Message::default().text(message::TAG, tag).float(message::SIMPLE_VALUE, value as f32);
            summary.message(message::VALUE, &value)
        };
        let summary = scalars.values.iter().fold(Message::default(), value);
        self.write(&Message::event(now(), scalars.step).message(message::SUMMARY, &summary))
    }

    fn write(&mut self, event: &Message) -> Result<()> {
        self.file.write_all(&record::encode(event.bytes())).map_err(Error::io(&self.path))
    }
}

impl Observer for TensorBoardLog {
    fn observe(&mut self, event: &Event) -> Result<()> {
        Scalars::of(event).map_or(Ok(()), |scalars| self.scalars(&scalars))
    }

    fn sync(&mut self) -> Result<()> {
        self.file.sync_data().map_err(Error::io(&self.path))
    }
}

/// Keeps only events up to `step` in a file; removes it if there are none.
fn cut(path: &Path, step: u64) -> Result<()> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let (mut kept, mut any) = (0, false);
    for (range, payload) in record::records(&bytes) {
        let at = message::step_of(payload);
        if step == 0 || at > step {
            break;
        }
        // The first record contains the format version.
        any |= kept > 0;
        kept = range.end;
    }
    if !any {
        return std::fs::remove_file(path).map_err(Error::io(path));
    }
    let file = File::options().write(true).open(path).map_err(Error::io(path))?;
    file.set_len(kept as u64).map_err(Error::io(path))
}

/// Returns the event files of a folder, sorted by name.
fn event_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(Error::io(folder))?;
    let path = |entry: std::io::Result<std::fs::DirEntry>| entry.map(|e| e.path()).map_err(Error::io(folder));
    let mut files = entries.map(path).collect::<Result<Vec<_>>>()?;
    files.retain(|path| seconds_of(path).is_some());
    files.sort();
    Ok(files)
}

/// Parses the time in the name of an event file of this program.
fn seconds_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix(NAME)?.strip_suffix(".efficienttrain")?.parse().ok()
}

/// Returns the seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}
