//! Exact low-frequency cropping of images: the central Bh x Bw block of an image's spectrum as a Bh
//! x Bw image.
//!
//! It is the input of EfficientTrain++ curricula (arXiv 2405.08768): early in training a network
//! sees low spatial frequencies only, at a size that costs accordingly less. Unlike a resize the
//! crop does not alias: it holds the low frequencies exactly and nothing else.
//!
//! * [`FrequencyCrop`]: the crop. [`LowPass`]: the same mask at full size.
//! * [`Lanczos`]: the resize that the authors' released code uses instead, as Pillow computes it,
//!   byte for byte.
//! * `TensorFilter` (feature `candle`): both operators on tensors `[N, C, H, W]` of any device,
//!   with gradients.
//!
//! A plan is made once for a size and used for any number of images and channels, from any number
//! of threads. It allocates nothing after its first image if the caller provides the output buffer.
//!
//! ```
//! use freqcrop::{FrequencyCrop, Layout};
//!
//! // 224 x 224 pixels to 96 x 96, for 8-bit RGB images ...
//! let crop = FrequencyCrop::new((224, 224), (96, 96))?;
//! let image = vec![127_u8; 224 * 224 * 3];
//! let small = crop.apply_rgb8(&image)?;
//! assert_eq!(small, vec![127; 96 * 96 * 3]);
//!
//! // ... and for numbers, here planes of f64 at an odd size.
//! let crop = FrequencyCrop::<f64>::new((31, 45), (17, 20))?;
//! let image = vec![0.5; 2 * 31 * 45];
//! let mut out = vec![0.0; 2 * 17 * 20];
//! crop.apply_slice(Layout::Chw, 2, &image, &mut out)?;
//! assert!(out.iter().all(|value| (value - 0.5_f64).abs() < 1e-12));
//! # Ok::<(), freqcrop::Error>(())
//! ```
//!
//! # Formulas
//! With H x W pixels X and the 2-D DFT F, `X_c = Re F^-1( C( F(X) ) ) * (Bh Bw)/(H W)`, C keeping
//! the frequencies `-(B div 2) ..= B - (B div 2) - 1` of each axis (for an even B that is -B/2 but
//! not B/2, so the result before `Re` is complex). In real terms, `X_c = A_h X A_w^T - s (-1)^p
//! (-1)^q` with `A[p,n] = (1/N) sum_k cos(2 pi k (p/B - n/N))`, and s = 0 unless both Bh and Bw are
//! even, when `s = (1/(H W)) sum_nm sin(pi Bh n/H) X[n,m] sin(pi Bw m/W)`.

mod axis;
mod batch;
mod error;
mod fft;
mod fold;
mod kernel;
mod lanczos;
mod layout;
mod matrix;
mod operators;
mod plan;
mod real;
mod resample;
mod resampled;
mod rgb8;
mod scratch;
mod separable;
#[cfg(feature = "candle")]
mod tensor;
mod unfold;
mod views;

#[cfg(feature = "candle")]
pub use error::TensorError;
pub use error::{Error, Result};

pub use lanczos::Lanczos;
pub use layout::Layout;
pub use operators::{FrequencyCrop, LowPass};
pub use plan::{Backend, Plan};
pub use real::Real;
pub use resample::Resampling;
pub use resampled::RgbWindow;
pub use scratch::Scratch;
#[cfg(feature = "candle")]
pub use tensor::TensorFilter;

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
