//! Errors of this crate.

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of an op, a model or a weight file. Every message says what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Candle refused an operation.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),

    /// A tensor has the wrong shape.
    #[error("{op}: expected {expected}, got shape {got:?}")]
    Shape {
        /// The op that refused.
        op: &'static str,
        /// The expected shape, in words.
        expected: String,
        /// The shape it got.
        got: Vec<usize>,
    },

    /// A tensor has an element type or device that the op has no kernel for.
    #[error("{op}: {what} is not supported; use {supported}")]
    Unsupported {
        /// The op that refused.
        op: &'static str,
        /// Value that it got.
        what: String,
        /// Values that it takes.
        supported: &'static str,
    },

    /// A device cannot be used.
    #[error("{what}")]
    Device {
        /// Why, and what to do.
        what: String,
    },

    /// Another process that computes together with this one has failed.
    #[error("{what}")]
    Process {
        /// Which one, and why.
        what: String,
    },

    /// No such model.
    #[error("unknown model `{name}`: did you mean `{nearest}`? Known models: {known}")]
    UnknownModel {
        /// The name asked for.
        name: String,
        /// The nearest known name.
        nearest: String,
        /// All known names, separated by commas.
        known: String,
    },

    /// The model cannot take images of this size.
    #[error("{model} cannot take images of {height}x{width}: {reason}")]
    InputSize {
        /// The model.
        model: String,
        /// Image height asked for, in pixels.
        height: usize,
        /// Image width asked for, in pixels.
        width: usize,
        /// Sizes that it takes.
        reason: String,
    },

    /// A model cannot be made with this option.
    #[error("{model}: {what}")]
    Option {
        /// The model.
        model: String,
        /// The option, what it must be and what it is.
        what: String,
    },

    /// Weights do not fit the model.
    #[error("weights do not fit {model}: {what}")]
    Weights {
        /// The model.
        model: String,
        /// The keys at fault and why.
        what: String,
    },

    /// A file of weights cannot be read or written.
    #[error("{}: {what}", path.display())]
    WeightFile {
        /// The file.
        path: std::path::PathBuf,
        /// Description of the problem, and what to do.
        what: String,
    },

    /// The model cannot be written in a format.
    #[error("{model} cannot be exported: {what}")]
    Export {
        /// The model.
        model: String,
        /// What stands in the way.
        what: String,
    },

    /// Parameters that no gradient reaches.
    #[error("{model}: no gradient reaches {} parameter(s): {}; they would never train", names.len(), names.join(", "))]
    NoGradient {
        /// The model.
        model: String,
        /// The names of the parameters.
        names: Vec<String>,
    },
}

impl Error {
    /// Tells if the error means that a GPU ran out of memory. Existing tensors are unchanged.
    pub fn is_out_of_memory(&self) -> bool {
        #[cfg(feature = "cuda")]
        if let Self::Candle(error) = self {
            return crate::ops::cuda::is_out_of_memory(error);
        }
        false
    }

    pub(crate) fn shape(op: &'static str, expected: impl Into<String>, got: &[usize]) -> Self {
        Self::Shape { op, expected: expected.into(), got: got.to_vec() }
    }
}

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(inner) => inner,
            other => Self::wrap(other),
        }
    }
}
