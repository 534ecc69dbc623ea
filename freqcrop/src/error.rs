//! Errors. Every message says what was expected.

#[cfg(feature = "candle")]
use std::sync::Arc;

/// Errors of making a plan and of processing an image.
///
/// After an error from a processing call the contents of the output buffer are unspecified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A height or width of zero.
    #[error("{what} is {height}x{width}: both sides must be at least 1")]
    ZeroSize {
        /// The size at fault: that of the image or the bandwidth.
        what: &'static str,
        /// Its height.
        height: usize,
        /// Its width.
        width: usize,
    },
    /// The bandwidth is larger than the image.
    #[error(
        "bandwidth {band_height}x{band_width} is larger than the image {height}x{width}: \
         a spectrum can only be cropped, so each side must be at most the image's"
    )]
    BandTooLarge {
        /// Requested height.
        band_height: usize,
        /// Requested width.
        band_width: usize,
        /// Image height.
        height: usize,
        /// Image width.
        width: usize,
    },
    /// The number of elements does not fit into `usize`.
    #[error("{what} of {height}x{width} with {channels} channels has more elements than can be addressed")]
    TooLarge {
        /// The buffer at fault.
        what: &'static str,
        /// Its height.
        height: usize,
        /// Its width.
        width: usize,
        /// Its channels.
        channels: usize,
    },
    /// A slice has the wrong number of elements.
    #[error("{what} has {found} elements, expected {expected} ({detail})")]
    WrongLength {
        /// The slice at fault.
        what: &'static str,
        /// Elements found.
        found: usize,
        /// Elements expected.
        expected: usize,
        /// The factors of the expected number, such as `2 images x 3 channels x 224 x 224`.
        detail: String,
    },
    /// An array or tensor has the wrong shape.
    #[error("{what} has shape {found:?}, expected {expected}")]
    WrongShape {
        /// The array at fault.
        what: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// The expected shape in words.
        expected: String,
    },
    /// Strides that reach past the end of the slice.
    #[error(
        "strides (channel {channel}, row {row}, column {column}) reach element {last} \
         of a slice of {len}: expected strides whose last element lies inside the slice"
    )]
    WrongStrides {
        /// Elements from one channel to the next.
        channel: usize,
        /// Elements from one row to the next.
        row: usize,
        /// Elements from one column to the next.
        column: usize,
        /// Index of the last element that the strides reach (saturating).
        last: usize,
        /// Length of the slice.
        len: usize,
    },
    /// An input value is NaN or infinite.
    #[error(
        "input element {index} is not finite: expected finite values (NaN or infinity would spread over the image)"
    )]
    NonFinite {
        /// Index of the first such element, in the order of the input's memory.
        index: usize,
    },
    /// Finite input whose result does not fit the number type.
    #[error(
        "the result is not finite although the input is: expected values small enough that their sum fits the number type"
    )]
    Overflow,
    /// A run of weights that extends past the input samples.
    #[error(
        "{taps} weights from sample {start} on extend past an input of {input} samples: expected a run inside it"
    )]
    TapsOutside {
        /// First sample of the run.
        start: usize,
        /// Number of weights.
        taps: usize,
        /// Number of input samples.
        input: usize,
    },
    /// A resize before a plan that does not use the separable backend.
    #[error(
        "only the separable backend can resize before the crop: make the plan with `Backend::Separable`, and a bandwidth below the image's size"
    )]
    NotSeparable,
    /// A tensor of another type than planned.
    #[cfg(feature = "candle")]
    #[error("input is {found}, expected {expected} as planned")]
    WrongType {
        /// Type of the tensor, as candle names it.
        found: &'static str,
        /// The planned type.
        expected: &'static str,
    },
    /// A tensor operation failed.
    #[cfg(feature = "candle")]
    #[error("tensor operation failed: {0}")]
    Tensor(#[source] TensorError),
}

/// Error of candle. Two errors are equal if their messages are.
#[cfg(feature = "candle")]
#[derive(Debug, Clone)]
pub struct TensorError(Arc<candle_core::Error>);

#[cfg(feature = "candle")]
impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Tensor(TensorError(Arc::new(error)))
    }
}

#[cfg(feature = "candle")]
impl PartialEq for TensorError {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_string() == other.0.to_string()
    }
}

#[cfg(feature = "candle")]
impl Eq for TensorError {}

#[cfg(feature = "candle")]
impl std::fmt::Display for TensorError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(out)
    }
}

#[cfg(feature = "candle")]
impl std::error::Error for TensorError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
