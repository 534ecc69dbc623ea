//! Mixup (Zhang et al. 2018) and cutmix (Yun et al. 2019) on batches, as timm's `Mixup` in batch mode.

mod blend;
mod target;

use rand::{Rng, RngExt};
use rand_distr::Beta;

pub use target::soft_targets;

use crate::error::{Error, Result, check};
use crate::tensor::Layout;

/// Shape of a batch of f32 pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchShape {
    /// Pictures.
    pub batch: usize,
    /// Channels of a picture.
    pub channels: usize,
    /// Rows of a picture.
    pub height: usize,
    /// Columns of a picture.
    pub width: usize,
    /// Where the channels stand.
    pub layout: Layout,
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
    /// The box around centre (`cy`, `cx`) that covers about 1 - `lam` of a picture, cut at its edges, and the
    /// share of the picture that is left outside of it: the corrected lam.
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
        let covered = (area.y1 - area.y0) * (area.x1 - area.x0);
        (area, 1.0 - covered as f64 / (height * width).max(1) as f64)
    }
}

/// What is done to one batch.
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
        /// What is replaced.
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

    /// Mixes a batch in place. The partner of sample i is sample N-1-i; the middle one of an odd batch is its own
    /// partner and stays as it is.
    ///
    /// # Errors
    /// If the slice does not have the length of its shape, or the box leaves the picture.
    pub fn apply(&self, x: &mut [f32], shape: &BatchShape) -> Result<()> {
        let sizes = [shape.batch, shape.channels, shape.height, shape.width];
        let expected = sizes.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).unwrap_or(usize::MAX);
        if x.len() != expected {
            return Err(Error::Length { what: "x", expected, got: x.len() });
        }
        match *self {
            Mix::None => {}
            Mix::Mixup { lam } => {
                check((0.0..=1.0).contains(&lam), "lam", lam, "in 0..=1")?;
                blend::mixup(x, shape, lam as f32);
            }
            Mix::Cutmix { area, .. } => {
                let rows = area.y0 <= area.y1 && area.y1 <= shape.height;
                let columns = area.x0 <= area.x1 && area.x1 <= shape.width;
                check(rows, "the box's last row", area.y1 as f64, "inside the picture")?;
                check(columns, "the box's last column", area.x1 as f64, "inside the picture")?;
                blend::cutmix(x, shape, area);
            }
        }
        Ok(())
    }
}

/// Draws what is done to each batch: one lam, and one box, for all its samples.
///
/// Field names and defaults are those of timm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mixup {
    /// lam of mixup is drawn from Beta(alpha, alpha); 0 switches mixup off. Default 0.8.
    pub mixup_alpha: f64,
    /// The same for cutmix. Default 1.
    pub cutmix_alpha: f64,
    /// Chance that a batch is mixed at all. Default 1.
    pub prob: f64,
    /// Chance of cutmix where both are on. Default 0.5.
    pub switch_prob: f64,
    /// Share of each target that is spread over all classes. Default 0.1.
    pub label_smoothing: f64,
}

impl Default for Mixup {
    fn default() -> Self {
        Self { mixup_alpha: 0.8, cutmix_alpha: 1.0, prob: 1.0, switch_prob: 0.5, label_smoothing: 0.1 }
    }
}

impl Mixup {
    /// Checks all parameters.
    ///
    /// # Errors
    /// If an alpha is negative or not finite, or another value not in 0..=1.
    pub fn validate(&self) -> Result<()> {
        for (name, alpha) in [("mixup_alpha", self.mixup_alpha), ("cutmix_alpha", self.cutmix_alpha)] {
            check(alpha.is_finite() && alpha >= 0.0, name, alpha, "finite and not below 0")?;
        }
        let shares = [
            ("prob", self.prob),
            ("switch_prob", self.switch_prob),
            ("label_smoothing", self.label_smoothing),
        ];
        for (name, share) in shares {
            check((0.0..=1.0).contains(&share), name, share, "in 0..=1")?;
        }
        Ok(())
    }

    /// Draws what to do to a batch of pictures of `height` x `width` pixels.
    ///
    /// # Errors
    /// As [`Mixup::validate`].
    pub fn sample(&self, height: usize, width: usize, rng: &mut impl Rng) -> Result<Mix> {
        self.validate()?;
        let (mixup, cutmix) = (self.mixup_alpha > 0.0, self.cutmix_alpha > 0.0);
        if !(mixup || cutmix) || height == 0 || width == 0 || !rng.random_bool(self.prob) {
            return Ok(Mix::None);
        }
        let use_cutmix = if mixup && cutmix { rng.random_bool(self.switch_prob) } else { cutmix };
        if !use_cutmix {
            return Ok(Mix::Mixup { lam: beta(self.mixup_alpha, "mixup_alpha", rng)? });
        }
        let lam = beta(self.cutmix_alpha, "cutmix_alpha", rng)?;
        let (cy, cx) = (rng.random_range(0..height as u64), rng.random_range(0..width as u64));
        let (area, lam) = MixBox::around(height, width, lam, cy as usize, cx as usize);
        Ok(Mix::Cutmix { lam, area })
    }

    /// Draws, mixes the batch in place and returns the soft targets `[N, num_classes]` with what was done.
    ///
    /// # Errors
    /// As [`Mixup::sample`], [`Mix::apply`] and [`soft_targets`].
    pub fn apply(
        &self,
        x: &mut [f32],
        shape: &BatchShape,
        labels: &[u32],
        num_classes: usize,
        rng: &mut impl Rng,
    ) -> Result<(Vec<f32>, Mix)> {
        if labels.len() != shape.batch {
            return Err(Error::Length { what: "labels", expected: shape.batch, got: labels.len() });
        }
        let mix = self.sample(shape.height, shape.width, rng)?;
        let targets = soft_targets(labels, num_classes, mix.lam(), self.label_smoothing)?;
        mix.apply(x, shape)?;
        Ok((targets, mix))
    }
}

/// lam from Beta(alpha, alpha).
fn beta(alpha: f64, name: &'static str, rng: &mut impl Rng) -> Result<f64> {
    let failed = |_| Error::Parameter { name, value: alpha, expected: "finite and above 0" };
    let lam = rng.sample(Beta::new(alpha, alpha).map_err(failed)?);
    // A tiny alpha can end in 0/0; its distribution is a coin between 0 and 1.
    Ok(if lam.is_nan() { f64::from(u8::from(rng.random_bool(0.5))) } else { lam })
}
