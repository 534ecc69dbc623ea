//! The two operators: crop and low-pass filter.

use std::ops::Deref;

use crate::Result;
use crate::plan::{Backend, Plan};
use crate::real::Real;

/// Low-frequency crop of H x W images: the central Bh x Bw block of the spectrum as a Bh x Bw
/// image.
///
/// `X_c = Re F^-1( C( F(X) ) ) * (Bh Bw)/(H W)` (EfficientTrain++, arXiv 2405.08768, section on
/// low-frequency cropping): 2-D DFT, the block of frequencies `-(B div 2) ..= B - (B div 2) - 1` on
/// each axis, inverse DFT of the block, real part. The scale keeps the mean. A bandwidth equal to
/// the image's size gives the image back, bit for bit.
///
/// All `apply_...` methods are those of [`Plan`].
#[derive(Debug)]
pub struct FrequencyCrop<T: Real = f32>(Plan<T>);

/// Low-pass filter: the same mask on the spectrum as [`FrequencyCrop`], but the image keeps its
/// size.
///
/// `X_l = Re F^-1( mask * F(X) )`, frequencies `-(B div 2) ..= B - (B div 2) - 1` kept on each
/// axis, no amplitude factor. If B divides N, every (N/B)-th sample of the result is a sample of
/// the crop.
///
/// All `apply_...` methods are those of [`Plan`].
#[derive(Debug)]
pub struct LowPass<T: Real = f32>(Plan<T>);

macro_rules! operator {
    ($name:ident, $shrink:literal) => {
        impl<T: Real> $name<T> {
            /// Plans the operator for images of `image` = (H, W) pixels and `band` = (Bh, Bw) kept
            /// frequencies.
            ///
            /// # Errors
            /// [`Error::ZeroSize`](crate::Error::ZeroSize),
            /// [`Error::BandTooLarge`](crate::Error::BandTooLarge),
            /// [`Error::TooLarge`](crate::Error::TooLarge).
            pub fn new(image: (usize, usize), band: (usize, usize)) -> Result<Self> {
                Self::with_backend(image, band, Backend::Auto)
            }

            /// Plans the operator for a given backend.
            ///
            /// # Errors
            /// Returns the errors of [`new`](Self::new).
            pub fn with_backend(
                image: (usize, usize),
                band: (usize, usize),
                backend: Backend,
            ) -> Result<Self> {
                Plan::new(image, band, $shrink, backend).map(Self)
            }
        }

        impl<T: Real> Deref for $name<T> {
            type Target = Plan<T>;

            fn deref(&self) -> &Plan<T> {
                &self.0
            }
        }
    };
}

operator!(FrequencyCrop, true);
operator!(LowPass, false);
