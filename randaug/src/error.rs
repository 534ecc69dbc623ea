//! Errors. Every message says what to change.

use thiserror::Error;

/// Errors of this crate. No input makes it panic.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum Error {
    /// The input image has no pixels.
    #[error("the image is empty ({width}x{height} pixels): both edges must be at least 1")]
    EmptyImage {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The requested output has no pixels.
    #[error("cannot resize to {width}x{height}: both edges must be at least 1")]
    EmptyOutput {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// A crop box is empty or extends past the image.
    #[error(
        "the crop box (left {left}, top {top}, {width}x{height}) is empty or extends past the image of \
         {image_width}x{image_height}"
    )]
    CropOutside {
        /// First column of the box.
        left: u32,
        /// First row of the box.
        top: u32,
        /// Columns in the box.
        width: u32,
        /// Rows in the box.
        height: u32,
        /// Width of the image.
        image_width: u32,
        /// Height of the image.
        image_height: u32,
    },
    /// A slice does not have the length of its shape.
    #[error("{what} has {got} values, expected {expected} by its shape")]
    Length {
        /// The argument.
        what: &'static str,
        /// Values expected.
        expected: usize,
        /// Values found.
        got: usize,
    },
    /// A parameter is outside its range, or not a number.
    #[error("{name} is {value}, it must be {expected}")]
    Parameter {
        /// The parameter.
        name: &'static str,
        /// The actual value.
        value: f64,
        /// The allowed range.
        expected: &'static str,
    },
    /// An argument of another type than the operation takes.
    #[error("{op} takes {expected}, got {got}")]
    Argument {
        /// The operation's name.
        op: &'static str,
        /// The argument it takes.
        expected: &'static str,
        /// The argument that was given.
        got: String,
    },
    /// No operation has this name.
    #[error("there is no augmentation operation named {name:?}, did you mean {nearest:?}?")]
    UnknownOp {
        /// The requested name.
        name: String,
        /// The nearest known name.
        nearest: &'static str,
    },
    /// The text of a policy is invalid.
    #[error("cannot read the augmentation policy {text:?}: {problem}")]
    Policy {
        /// The whole text.
        text: String,
        /// The problem, and the possible values.
        problem: String,
    },
    /// The pixel format is not supported.
    #[error(
        "images of type {kind} are not supported, only 8 bits per channel without transparency: convert \
         with DynamicImage::to_rgb8() (16 bits and f32 scaled to 0..255, transparency dropped)"
    )]
    Unsupported {
        /// The pixel format, as the `image` crate names it.
        kind: String,
    },
    /// A class label is not below the number of classes.
    #[error("label {label} of sample {sample} is not below the number of classes, {num_classes}")]
    Label {
        /// Position in the batch.
        sample: usize,
        /// The label.
        label: u32,
        /// The number of classes.
        num_classes: usize,
    },
}

/// Result with the error type of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Makes the error of an unsupported pixel format.
    pub(crate) fn unsupported(kind: image::ColorType) -> Self {
        Error::Unsupported { kind: format!("{kind:?}") }
    }
}

/// Checks that the image has pixels.
pub(crate) fn check_not_empty(img: &image::RgbImage) -> Result<()> {
    let (width, height) = img.dimensions();
    if width == 0 || height == 0 { Err(Error::EmptyImage { width, height }) } else { Ok(()) }
}

/// Returns an error naming the parameter if the condition is false.
pub(crate) fn check(ok: bool, name: &'static str, value: f64, expected: &'static str) -> Result<()> {
    if ok { Ok(()) } else { Err(Error::Parameter { name, value, expected }) }
}
