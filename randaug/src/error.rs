//! What can go wrong, said so that the caller knows what to change.

use thiserror::Error;

/// Every way a call into this crate can fail. No input makes it panic.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum Error {
    /// An image without pixels was given.
    #[error("the image is empty ({width}x{height} pixels): both edges must be at least 1")]
    EmptyImage {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// An image without pixels was asked for.
    #[error("cannot resize to {width}x{height}: both edges must be at least 1")]
    EmptyOutput {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// A crop box is empty or reaches outside the image.
    #[error(
        "the crop box (left {left}, top {top}, {width}x{height}) is empty or leaves the image of \
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
    /// A slice does not have the length that its shape asks for.
    #[error("{what} has {got} values, its shape asks for {expected}")]
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
        /// What was given.
        value: f64,
        /// The range it must lie in.
        expected: &'static str,
    },
    /// The kind of argument does not fit the operation.
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
        /// The name that was asked for.
        name: String,
        /// The nearest name there is.
        nearest: &'static str,
    },
    /// A policy's text cannot be read.
    #[error("cannot read the augmentation policy {text:?}: {problem}")]
    Policy {
        /// The whole text.
        text: String,
        /// What is wrong with it, and what is possible.
        problem: String,
    },
    /// The image's kind of pixel is not one of those that can be augmented.
    #[error(
        "images of kind {kind} are not supported here, only 8 bits a channel without transparency: convert \
         with DynamicImage::to_rgb8() (16 bits and f32 scaled to 0..255, transparency dropped)"
    )]
    Unsupported {
        /// The kind, as the `image` crate names it.
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
    /// The error for a kind of pixel that nothing here works on.
    pub(crate) fn unsupported(kind: image::ColorType) -> Self {
        Error::Unsupported { kind: format!("{kind:?}") }
    }
}

/// `Ok` if the image has pixels.
pub(crate) fn check_not_empty(img: &image::RgbImage) -> Result<()> {
    let (width, height) = img.dimensions();
    if width == 0 || height == 0 { Err(Error::EmptyImage { width, height }) } else { Ok(()) }
}

/// `Ok` if the condition holds, else an error naming the parameter.
pub(crate) fn check(ok: bool, name: &'static str, value: f64, expected: &'static str) -> Result<()> {
    if ok { Ok(()) } else { Err(Error::Parameter { name, value, expected }) }
}
