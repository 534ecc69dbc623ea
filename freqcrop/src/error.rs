//! Everything a caller can get wrong, each with what was expected.

/// Why a plan could not be made or an image could not be processed.
///
/// After an error from a processing call the contents of the output buffer are unspecified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A height or width of zero.
    #[error("{what} is {height}x{width}: both sides must be at least 1")]
    ZeroSize {
        /// Which size it was: the image or the bandwidth.
        what: &'static str,
        /// Its height.
        height: usize,
        /// Its width.
        width: usize,
    },
    /// The bandwidth is larger than the image on some side.
    #[error(
        "bandwidth {band_height}x{band_width} is larger than the image {height}x{width}: \
         a spectrum can only be cropped, so each side must be at most the image's"
    )]
    BandTooLarge {
        /// Asked height.
        band_height: usize,
        /// Asked width.
        band_width: usize,
        /// Image height.
        height: usize,
        /// Image width.
        width: usize,
    },
    /// The element count does not fit into memory addressing.
    #[error("{what} of {height}x{width} with {channels} channels has more elements than can be addressed")]
    TooLarge {
        /// Which buffer it was.
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
        /// Which slice it was.
        what: &'static str,
        /// Elements found.
        found: usize,
        /// Elements expected.
        expected: usize,
        /// How the expected number comes about, such as `2 images x 3 channels x 224 x 224`.
        detail: String,
    },
    /// An array or tensor has the wrong shape.
    #[error("{what} has shape {found:?}, expected {expected}")]
    WrongShape {
        /// Which array it was.
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
        /// Offset of the last element that the strides reach (saturating).
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
    /// A run of weights that leaves the samples it is for.
    #[error(
        "{taps} weights from sample {start} on leave an input of {input} samples: expected a run inside it"
    )]
    TapsOutside {
        /// First sample of the run.
        start: usize,
        /// Weights of the run.
        taps: usize,
        /// Samples that there are.
        input: usize,
    },
    /// A resize ahead of a plan that does not use the separable backend.
    #[error(
        "only the separable backend can resize ahead of the crop: make the plan with `Backend::Separable`, and a bandwidth below the image's size"
    )]
    NotSeparable,
    /// A tensor operation failed, with the reason that candle gave.
    #[cfg(feature = "candle")]
    #[error("tensor operation failed: {0}")]
    Tensor(String),
}

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
