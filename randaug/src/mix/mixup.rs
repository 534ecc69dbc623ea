//! Random parameters of mixup and cutmix.

use rand::{Rng, RngExt};
use rand_distr::Beta;

use super::{BatchShape, Mix, MixBox, mix_batch, multi_hot_targets_each, soft_targets_each};
use crate::error::{Error, Result, check};

/// Samples that share one draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MixMode {
    /// The whole batch. Default.
    #[default]
    Batch,
    /// The two samples i and N-1-i.
    Pair,
    /// Every sample has its own draw.
    Elem,
    /// Like `Elem`, but the output is the first half of the batch, mixed with the second half.
    Half,
}

/// Mixup and cutmix with random parameters.
///
/// Field names and defaults are those of timm, with its usual alphas for training from scratch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mixup {
    /// lam of mixup is drawn from Beta(alpha, alpha); 0 disables mixup. Default 0.8.
    pub mixup_alpha: f64,
    /// lam of cutmix is drawn from Beta(alpha, alpha); 0 disables cutmix. Default 1.
    pub cutmix_alpha: f64,
    /// Smallest and largest edge of the cutmix box, as shares of the image's. Switches cutmix on,
    /// with a box that is drawn from these in place of lam. Default off.
    pub cutmix_minmax: Option<(f64, f64)>,
    /// Probability that a batch (pair, sample) is mixed at all. Default 1.
    pub prob: f64,
    /// Probability of cutmix if both are enabled. Default 0.5.
    pub switch_prob: f64,
    /// Samples that share one draw. Default [`MixMode::Batch`].
    pub mode: MixMode,
    /// Sets lam of cutmix to the share outside the box after the box is clipped to the image.
    /// Default on.
    pub correct_lam: bool,
    /// Share of each target that is spread over all classes. Default 0.1.
    pub label_smoothing: f64,
}

impl Default for Mixup {
    fn default() -> Self {
        Self {
            mixup_alpha: 0.8,
            cutmix_alpha: 1.0,
            cutmix_minmax: None,
            prob: 1.0,
            switch_prob: 0.5,
            mode: MixMode::Batch,
            correct_lam: true,
            label_smoothing: 0.1,
        }
    }
}

impl Mixup {
    /// Checks all parameters.
    ///
    /// # Errors
    /// Returns an error if an alpha is negative or not finite, the shares of `cutmix_minmax` not 0
    /// <= low < high <= 1, or another value not in 0..=1.
    pub fn validate(&self) -> Result<()> {
        for (name, alpha) in [("mixup_alpha", self.mixup_alpha), ("cutmix_alpha", self.cutmix_alpha)] {
            check(alpha.is_finite() && alpha >= 0.0, name, alpha, "finite and not below 0")?;
        }
        if let Some((low, high)) = self.cutmix_minmax {
            check((0.0..1.0).contains(&low), "cutmix_minmax", low, "in 0..1 at its lower end")?;
            check(high > low && high <= 1.0, "cutmix_minmax", high, "above the lower end and at most 1")?;
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

    /// Draws the operation on a batch, a pair or a sample of `height` x `width` pixels.
    ///
    /// # Errors
    /// Returns the errors of [`Mixup::validate`], or an error if the image is so small that
    /// `cutmix_minmax` leaves no whole edge to choose.
    pub fn sample(&self, height: usize, width: usize, rng: &mut impl Rng) -> Result<Mix> {
        self.validate()?;
        // As in timm, the alpha is then 1 and has no effect.
        let cutmix_alpha = if self.cutmix_minmax.is_some() { 1.0 } else { self.cutmix_alpha };
        let (mixup, cutmix) = (self.mixup_alpha > 0.0, cutmix_alpha > 0.0);
        if !(mixup || cutmix) || height == 0 || width == 0 || !rng.random_bool(self.prob) {
            return Ok(Mix::None);
        }
        let use_cutmix = if mixup && cutmix { rng.random_bool(self.switch_prob) } else { cutmix };
        if !use_cutmix {
            return Ok(Mix::Mixup { lam: beta(self.mixup_alpha, "mixup_alpha", rng)? });
        }
        if let Some(shares) = self.cutmix_minmax {
            let area = box_between(height, width, shares, rng)?;
            return Ok(Mix::Cutmix { lam: area.share_outside(height, width), area });
        }
        let drawn = beta(cutmix_alpha, "cutmix_alpha", rng)?;
        let (cy, cx) = (rng.random_range(0..height as u64), rng.random_range(0..width as u64));
        let (area, corrected) = MixBox::around(height, width, drawn, cy as usize, cx as usize);
        Ok(Mix::Cutmix { lam: if self.correct_lam { corrected } else { drawn }, area })
    }

    /// Draws the operation on each sample of a batch; in mode `Half`, on each of its first half.
    ///
    /// # Errors
    /// Returns the errors of [`Mixup::sample`], or an error if the mode is `Half` and the batch
    /// odd.
    pub fn sample_batch(&self, shape: &BatchShape, rng: &mut impl Rng) -> Result<Vec<Mix>> {
        let n = shape.batch;
        let mut draw = || self.sample(shape.height, shape.width, rng);
        match self.mode {
            MixMode::Batch => Ok(vec![draw()?; n]),
            MixMode::Elem => (0..n).map(|_| draw()).collect(),
            MixMode::Half => {
                check(
                    n.is_multiple_of(2),
                    "batch",
                    n as f64,
                    "even, as its second half is mixed into the first",
                )?;
                (0..n / 2).map(|_| draw()).collect()
            }
            MixMode::Pair => {
                // The middle sample of an odd batch has no partner.
                let mut mixes = vec![Mix::None; n];
                for i in 0..n / 2 {
                    mixes[i] = draw()?;
                    mixes[n - 1 - i] = mixes[i];
                }
                Ok(mixes)
            }
        }
    }

    /// Draws, mixes the batch in place and returns the soft targets, row-major, with the operation
    /// on each sample.
    ///
    /// # Shapes
    /// `x` as `shape` says, `labels` `[N]`, targets `[N, num_classes]`. In mode `Half` only the
    /// first N/2 samples of `x` are the output, and the targets are `[N/2, num_classes]`.
    ///
    /// # Errors
    /// Returns the errors of [`Mixup::sample_batch`], [`mix_batch`] and [`soft_targets_each`].
    pub fn apply(
        &self,
        x: &mut [f32],
        shape: &BatchShape,
        labels: &[u32],
        num_classes: usize,
        rng: &mut impl Rng,
    ) -> Result<(Vec<f32>, Vec<Mix>)> {
        self.mix(x, shape, labels.len(), rng, |mixes| {
            soft_targets_each(labels, num_classes, mixes, self.label_smoothing)
        })
    }

    /// Draws and mixes like [`Mixup::apply`], for samples with any number of labels each: the same
    /// draws, and the targets of [`multi_hot_targets_each`].
    ///
    /// # Shapes
    /// Those of [`Mixup::apply`], with `[N]` sets of labels.
    ///
    /// # Errors
    /// Same as [`Mixup::apply`].
    pub fn apply_multi_hot<L: AsRef<[u32]>>(
        &self,
        x: &mut [f32],
        shape: &BatchShape,
        labels: &[L],
        num_classes: usize,
        rng: &mut impl Rng,
    ) -> Result<(Vec<f32>, Vec<Mix>)> {
        self.mix(x, shape, labels.len(), rng, |mixes| {
            multi_hot_targets_each(labels, num_classes, mixes, self.label_smoothing)
        })
    }

    fn mix(
        &self,
        x: &mut [f32],
        shape: &BatchShape,
        labels: usize,
        rng: &mut impl Rng,
        targets: impl FnOnce(&[Mix]) -> Result<Vec<f32>>,
    ) -> Result<(Vec<f32>, Vec<Mix>)> {
        if labels != shape.batch {
            return Err(Error::Length { what: "labels", expected: shape.batch, got: labels });
        }
        let mixes = self.sample_batch(shape, rng)?;
        let targets = targets(&mixes)?;
        match (self.mode, mixes.first()) {
            // One operation for all pairs, without copies.
            (MixMode::Batch, Some(mix)) => mix.apply(x, shape)?,
            _ => mix_batch(x, shape, &mixes, &mut Vec::new())?,
        }
        Ok((targets, mixes))
    }
}

/// A box whose edges are uniform between two shares of the image's, placed uniformly.
fn box_between(height: usize, width: usize, (low, high): (f64, f64), rng: &mut impl Rng) -> Result<MixBox> {
    let mut edge = |edge: usize| {
        let (from, to) = ((edge as f64 * low) as u64, (edge as f64 * high) as u64);
        check(from < to, "the image's edge", edge as f64, "large enough for cutmix_minmax to choose from")?;
        Ok(rng.random_range(from..to) as usize)
    };
    let (cut_h, cut_w) = (edge(height)?, edge(width)?);
    let y0 = rng.random_range(0..=(height - cut_h) as u64) as usize;
    let x0 = rng.random_range(0..=(width - cut_w) as u64) as usize;
    Ok(MixBox { y0, y1: y0 + cut_h, x0, x1: x0 + cut_w })
}

/// lam from Beta(alpha, alpha).
fn beta(alpha: f64, name: &'static str, rng: &mut impl Rng) -> Result<f64> {
    let failed = |_| Error::Parameter { name, value: alpha, expected: "finite and above 0" };
    let lam = rng.sample(Beta::new(alpha, alpha).map_err(failed)?);
    // A tiny alpha can end in 0/0; its distribution is a coin between 0 and 1.
    Ok(if lam.is_nan() { f64::from(u8::from(rng.random_bool(0.5))) } else { lam })
}
