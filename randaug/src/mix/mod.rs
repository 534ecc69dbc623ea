//! Mixup (Zhang et al. 2018) and cutmix (Yun et al. 2019) on batches, as timm's `Mixup`.

mod blend;
mod mixup;
mod target;

pub use mixup::{MixMode, Mixup};
pub use target::{multi_hot_targets_each, soft_targets, soft_targets_each};

use crate::error::{Error, Result, check};
use crate::tensor::Layout;

/// Shape of a batch of f32 images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchShape {
    /// Images.
    pub batch: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// Position of the channels.
    pub layout: Layout,
}

impl BatchShape {
    fn check(&self, got: usize) -> Result<()> {
        let sizes = [self.batch, self.channels, self.height, self.width];
        let expected = sizes.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).unwrap_or(usize::MAX);
        if got == expected { Ok(()) } else { Err(Error::Length { what: "x", expected, got }) }
    }
}

/// Rows `y0..y1` and columns `x0..x1`; either range may be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MixBox {
    /// First row.
    pub y0: usize,
    /// Row after the last.
    pub y1: usize,
    /// First column.
    pub x0: usize,
    /// Column after the last.
    pub x1: usize,
}

impl MixBox {
    /// The box around center (`cy`, `cx`) that covers about 1 - `lam` of an image, cut at its
    /// edges, and the share of the image that is left outside of it: the corrected lam.
    #[must_use]
    pub fn around(height: usize, width: usize, lam: f64, cy: usize, cx: usize) -> (Self, f64) {
        let ratio = (1.0 - lam).sqrt();
        let half = |edge: usize| (edge as f64 * ratio) as usize / 2;
        let (half_h, half_w) = (half(height), half(width));
        let area = Self {
            y0: cy.saturating_sub(half_h).min(height),
            y1: (cy + half_h).min(height),
            x0: cx.saturating_sub(half_w).min(width),
            x1: (cx + half_w).min(width),
        };
        (area, area.share_outside(height, width))
    }

    /// Share of an image of `height` x `width` pixels that lies outside the box.
    #[must_use]
    pub fn share_outside(&self, height: usize, width: usize) -> f64 {
        let covered = self.y1.saturating_sub(self.y0) as f64 * self.x1.saturating_sub(self.x0) as f64;
        1.0 - covered / (height as f64 * width as f64).max(1.0)
    }
}

/// Operation on one batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mix {
    /// Nothing.
    None,
    /// x = lam * x + (1 - lam) * partner.
    Mixup {
        /// Weight of the sample itself, in 0..=1.
        lam: f64,
    },
    /// The box comes from the partner.
    Cutmix {
        /// Share of the sample itself: the area outside the box.
        lam: f64,
        /// The replaced box.
        area: MixBox,
    },
}

impl Mix {
    /// Weight of the sample itself in the targets.
    #[must_use]
    pub fn lam(&self) -> f64 {
        match *self {
            Mix::None => 1.0,
            Mix::Mixup { lam } | Mix::Cutmix { lam, .. } => lam,
        }
    }

    /// Mixes a batch in place. The partner of sample i is sample N-1-i; the middle one of an odd
    /// batch is its own partner and is not changed.
    ///
    /// # Errors
    /// Returns an error if the slice does not have the length of its shape, or the box leaves the
    /// image.
    pub fn apply(&self, x: &mut [f32], shape: &BatchShape) -> Result<()> {
        shape.check(x.len())?;
        self.check(shape)?;
        match *self {
            Mix::None => {}
            Mix::Mixup { lam } => blend::mixup(x, shape, lam as f32),
            Mix::Cutmix { area, .. } => blend::cutmix(x, shape, area),
        }
        Ok(())
    }

    fn check(&self, shape: &BatchShape) -> Result<()> {
        match *self {
            Mix::None => Ok(()),
            Mix::Mixup { lam } => check((0.0..=1.0).contains(&lam), "lam", lam, "in 0..=1"),
            Mix::Cutmix { area, .. } => {
                let rows = area.y0 <= area.y1 && area.y1 <= shape.height;
                let columns = area.x0 <= area.x1 && area.x1 <= shape.width;
                check(rows, "the box's last row", area.y1 as f64, "inside the image")?;
                check(columns, "the box's last column", area.x1 as f64, "inside the image")
            }
        }
    }
}

/// Mixes each sample i of a batch in place according to `mixes[i]`, with the original of sample
/// N-1-i.
///
/// The list may be shorter than the batch: later samples are not changed. `buffer` holds a copy of
/// one image and can be reused.
///
/// # Errors
/// Returns an error if the slice does not have the length of its shape, there are more mixes than
/// samples, a lam is not in 0..=1 or a box leaves the image; the batch is then unchanged.
pub fn mix_batch(x: &mut [f32], shape: &BatchShape, mixes: &[Mix], buffer: &mut Vec<f32>) -> Result<()> {
    shape.check(x.len())?;
    if mixes.len() > shape.batch {
        return Err(Error::Length { what: "mixes", expected: shape.batch, got: mixes.len() });
    }
    mixes.iter().try_for_each(|mix| mix.check(shape))?;
    blend::each(x, shape, mixes, buffer);
    Ok(())
}
