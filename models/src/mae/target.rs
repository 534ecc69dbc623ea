//! What a decoder has to predict of the patches that were removed.

use candle_core::{D, Tensor};

use crate::hog::Hog;
#[cfg(feature = "cuda")]
use crate::ops::cuda;
use crate::ops::{contiguous, on_gpu};
use crate::{Error, Result};

/// What is predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The pixels of a patch, less their mean and over their deviation (the better of the two in the MAE paper).
    NormalizedPixels,
    /// The pixels as the network gets them.
    Pixels,
    /// Histograms of oriented gradients, as EfficientTrain++ takes from MaskFeat.
    Hog(Hog),
}

impl Target {
    /// Numbers to predict for a patch.
    pub fn width(&self, patch: usize, channels: usize) -> usize {
        match self {
            Self::NormalizedPixels | Self::Pixels => patch * patch * channels,
            Self::Hog(hog) => hog.width(patch, channels),
        }
    }

    /// The target for channels-last pictures, as the network gets them.
    ///
    /// # Shapes
    /// `pictures`: `[N, H, W, C]`; value: `[N, L, width]`.
    ///
    /// # Errors
    /// When patches do not tile the pictures.
    pub fn of(&self, pictures: &Tensor, patch: usize) -> Result<Tensor> {
        match self {
            Self::Pixels => patchify(pictures, patch),
            Self::NormalizedPixels => normalise(&patchify(pictures, patch)?),
            Self::Hog(hog) => hog.patches(pictures, patch),
        }
    }
}

/// Channels-last pictures as patches, each row by row, pixel by pixel, channel by channel.
///
/// # Shapes
/// `pictures`: `[N, H, W, C]`; value: `[N, L, patch * patch * C]`.
///
/// # Errors
/// When patches do not tile the pictures.
pub fn patchify(pictures: &Tensor, patch: usize) -> Result<Tensor> {
    let expected = || format!("pictures [N, H, W, C] with edges that are multiples of {patch}");
    let &[n, h, w, c] = pictures.dims() else {
        return Err(Error::shape("patchify", expected(), pictures.dims()));
    };
    if patch == 0 || h % patch + w % patch != 0 || h * w == 0 {
        return Err(Error::shape("patchify", expected(), pictures.dims()));
    }
    let tiled = contiguous(pictures)?.reshape(vec![n, h / patch, patch, w / patch, patch, c])?;
    Ok(contiguous(&tiled.permute(vec![0, 1, 3, 2, 4, 5])?)?.reshape((
        n,
        h / patch * (w / patch),
        patch * patch * c,
    ))?)
}

/// Each patch less its mean, over its deviation (the unbiased variance, and a millionth so that it is never 0).
fn normalise(patches: &Tensor) -> Result<Tensor> {
    on_gpu!(patches, cuda::standardise_rows(patches));
    let count = patches.dim(D::Minus1)?;
    let centred = patches.broadcast_sub(&patches.mean_keepdim(D::Minus1)?)?;
    let variance = (centred.sqr()?.sum_keepdim(D::Minus1)? / (count.max(2) - 1) as f64)?;
    Ok(centred.broadcast_div(&(variance + 1e-6)?.sqrt()?)?)
}
