//! Errors of training.

use std::path::PathBuf;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Error of a run. Every message names the file, option or parameter, what was expected, and what
/// to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Error in the data set or an image.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Error in a model, an op or a weight file.
    #[error(transparent)]
    Model(#[from] efficienttrain_models::Error),
    /// Error in a recipe or a plan.
    #[error(transparent)]
    Schedule(#[from] efficienttrain_schedule::ScheduleError),
    /// Invalid value of an option, or of two options together.
    #[error("option `{option}`: {what}")]
    Config {
        /// Name of the option.
        option: String,
        /// What was expected and what to do.
        what: String,
    },
    /// Invalid key in an options file or in `--set`.
    #[error("{place}: {what}")]
    Key {
        /// File or option, and the key.
        place: String,
        /// What was expected and what to do.
        what: String,
    },
    /// Unusable checkpoint.
    #[error("checkpoint {}: {what}", path.display())]
    Checkpoint {
        /// File.
        path: PathBuf,
        /// Problem and what to do.
        what: String,
    },
    /// Something of the Hub could not be had.
    #[error("{name}: {what}")]
    Hub {
        /// Its name, `hub:OWNER/NAME`.
        name: String,
        /// Problem and what to do.
        what: String,
    },
    /// A file could not be read or written.
    #[error("{}: {source}{}", path.display(), remedy(source))]
    Io {
        /// File.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// Non-finite loss or gradient.
    #[error(
        "step {step}: loss {loss}, gradient norm {grad_norm}: training has diverged; \
         start again with a lower option `lr`, or with option `clip-grad` 1"
    )]
    NotFinite {
        /// Optimizer step, from 0.
        step: u64,
        /// Loss.
        loss: f64,
        /// Norm of all gradients together.
        grad_norm: f64,
    },
    /// A GPU is out of memory for a step.
    #[error("step {step}: out of memory on {device} with a batch of {batch} at {size} pixels: {what}")]
    OutOfMemory {
        /// Optimizer step, from 0.
        step: u64,
        /// GPU.
        device: String,
        /// Images of the forward and backward pass.
        batch: u32,
        /// Edge of the images, in pixels.
        size: u32,
        /// Largest batch that was found to fit.
        fits: Option<u32>,
        /// Amount of memory, and what to do.
        what: String,
    },
    /// The run was stopped because of a non-finite loss or gradient.
    #[error(
        "step {step} of stage {stage}: loss {loss}, gradient norm {grad_norm}, on {images}; the batch is stored in {}; \
         {advice}",
        kept.display()
    )]
    StoppedByNonFinite {
        /// Optimizer step, from 0.
        step: u64,
        /// Stage, from 1.
        stage: usize,
        /// Loss.
        loss: f64,
        /// Norm of all gradients together.
        grad_norm: f64,
        /// Names of the first few images.
        images: String,
        /// File with the batch.
        kept: PathBuf,
        /// What to do.
        advice: String,
    },
    /// Another process of the job has failed.
    #[error("{rank}: {what}")]
    Rank {
        /// Rank, host and process.
        rank: String,
        /// Its error.
        what: String,
    },
    /// The processes of a job cannot work together any more.
    #[error("{0}")]
    Distributed(String),
    /// A chart could not be drawn.
    #[error("cannot draw the chart {}: {reason}", path.display())]
    Chart {
        /// File.
        path: PathBuf,
        /// Error of the library.
        reason: String,
    },
}

/// Returns what to do about an error of the system, to follow it in a message; empty if the error
/// speaks for itself.
fn remedy(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    /// Has no name among the kinds.
    const EIO: i32 = 5;
    match error.kind() {
        StorageFull | QuotaExceeded => "; free some space there",
        ReadOnlyFilesystem => {
            "; make the file system writable (it may be read-only because of an error of the disk)"
        }
        _ if cfg!(unix) && error.raw_os_error() == Some(EIO) => "; check the disk",
        _ => "",
    }
}

impl Error {
    /// Returns true if a GPU is out of memory.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Model(error) if error.is_out_of_memory())
    }

    /// Returns true if the error is not of this process itself, but of another one that trains with it.
    pub fn is_of_another_process(&self) -> bool {
        use efficienttrain_models::Error::Process;
        matches!(self, Self::Rank { .. } | Self::Distributed(_) | Self::Model(Process { .. }))
    }

    pub(crate) fn config(option: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Config { option: option.into(), what: what.into() }
    }

    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

impl From<freqcrop::Error> for Error {
    fn from(error: freqcrop::Error) -> Self {
        DataError::from(error).into()
    }
}

impl From<randaug::Error> for Error {
    fn from(error: randaug::Error) -> Self {
        DataError::from(error).into()
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Model(error.into())
    }
}

/// Error in a data set or an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A folder is missing, empty, or not laid out as expected.
    #[error("{}: {what}", path.display())]
    Layout {
        /// Folder.
        path: PathBuf,
        /// Problem, what was expected, and what to do.
        what: String,
    },
    /// An image cannot be read or decoded.
    #[error("{name}: {reason}")]
    Image {
        /// Name of the image.
        name: String,
        /// Reason.
        reason: String,
    },
    /// A file of a data set cannot be read or written.
    #[error("{}: {source}{}", path.display(), remedy(source))]
    Io {
        /// File.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// Too many images cannot be read.
    #[error(
        "{count} images could not be read, more than option `max-bad-images` {limit}: {examples}; repair or remove them, or raise the limit"
    )]
    TooManyBad {
        /// Number of images.
        count: usize,
        /// Limit.
        limit: usize,
        /// Names and reasons of the first few.
        examples: String,
    },
    /// Invalid augmentation or setting of one.
    #[error(transparent)]
    Augmentation(#[from] randaug::Error),
    /// Invalid low-frequency crop or size of one.
    #[error(transparent)]
    FrequencyCrop(#[from] freqcrop::Error),
    /// Error of the replay buffer.
    #[error(transparent)]
    Replay(#[from] efficienttrain_schedule::ScheduleError),
    /// A setting of the pipeline is out of range.
    #[error("{0}")]
    Setting(String),
    /// A worker thread ended unexpectedly.
    #[error("a data worker stopped: {0}")]
    Worker(String),
}

impl DataError {
    pub(crate) fn layout(path: &std::path::Path, what: impl Into<String>) -> Self {
        Self::Layout { path: path.into(), what: what.into() }
    }

    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
