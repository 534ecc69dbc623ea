//! What can go wrong in training.

use std::path::PathBuf;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a run. Every message names the file, option or parameter, what was expected, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data set or an image.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A model, an op or a weight file.
    #[error(transparent)]
    Model(#[from] efficienttrain_models::Error),
    /// A recipe or a plan.
    #[error(transparent)]
    Schedule(#[from] efficienttrain_schedule::ScheduleError),
    /// An option's value, or two options together.
    #[error("option `{option}`: {what}")]
    Config {
        /// The option to change.
        option: String,
        /// What was expected and what to do.
        what: String,
    },
    /// A file of options, or a key in it or behind `--set`.
    #[error("{place}: {what}")]
    Key {
        /// The file or option, and the key.
        place: String,
        /// What was expected and what to do.
        what: String,
    },
    /// A checkpoint that cannot be used.
    #[error("checkpoint {}: {what}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        what: String,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The loss or a gradient is not a number.
    #[error(
        "step {step}: loss {loss}, gradient norm {grad_norm}: training has diverged; \
         start again with a lower option `lr`, or with option `clip-grad` 1"
    )]
    NotFinite {
        /// The optimizer step, counted from 0.
        step: u64,
        /// The loss.
        loss: f64,
        /// The norm of all gradients.
        grad_norm: f64,
    },
    /// The memory of a GPU is too small for a step.
    #[error("step {step}: the memory of {device} ran out with a batch of {batch} at {size} pixels: {what}")]
    OutOfMemory {
        /// The optimizer step, counted from 0.
        step: u64,
        /// The GPU.
        device: String,
        /// Images of the forward and backward pass.
        batch: u32,
        /// Edge of the pictures, in pixels.
        size: u32,
        /// The largest batch that was found to fit.
        fits: Option<u32>,
        /// How much memory there is, and what to do.
        what: String,
    },
    /// The run was stopped because of a loss or gradient that is not a number.
    #[error(
        "step {step} of stage {stage}: loss {loss}, gradient norm {grad_norm}, on {images}; the batch is kept in {}; \
         {advice}",
        kept.display()
    )]
    StoppedByNonFinite {
        /// The optimizer step, counted from 0.
        step: u64,
        /// Its stage, counted from 1 as it is shown.
        stage: usize,
        /// The loss.
        loss: f64,
        /// The norm of all gradients.
        grad_norm: f64,
        /// The first few images.
        images: String,
        /// Where the batch is kept.
        kept: PathBuf,
        /// What to do.
        advice: String,
    },
    /// A chart could not be drawn.
    #[error("cannot draw the chart {}: {reason}", path.display())]
    Chart {
        /// The file.
        path: PathBuf,
        /// The library's reason.
        reason: String,
    },
}

impl Error {
    /// Whether an op found no memory left on a GPU.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Model(error) if error.is_out_of_memory())
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

/// What can be wrong with a data set or an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A folder is missing, empty, or not laid out as expected.
    #[error("{}: {what}", path.display())]
    Layout {
        /// The folder.
        path: PathBuf,
        /// What is wrong, what was expected, what to do.
        what: String,
    },
    /// An image cannot be read or decoded.
    #[error("{name}: {reason}")]
    Image {
        /// The image.
        name: String,
        /// Why not.
        reason: String,
    },
    /// A file of a data set cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Too many images cannot be read.
    #[error(
        "{count} images could not be read, more than option `max-bad-images` {limit}: {examples}; repair or remove them, or raise the limit"
    )]
    TooManyBad {
        /// How many.
        count: usize,
        /// The limit.
        limit: usize,
        /// The first few names and reasons.
        examples: String,
    },
    /// An augmentation, or its setting.
    #[error(transparent)]
    Augmentation(#[from] randaug::Error),
    /// A low-frequency crop, or its size.
    #[error(transparent)]
    FrequencyCrop(#[from] freqcrop::Error),
    /// The replay buffer.
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
