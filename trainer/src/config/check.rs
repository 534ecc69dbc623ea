//! Checks of a configuration before any data is read.

use efficienttrain_schedule::{OptimizerKind, Recipe};

use crate::config::policy::PolicyName;
use crate::config::train::TrainConfig;
use crate::config::values::{CurveName, LossName};
use crate::error::{Error, Result};

/// Largest number of devices; more is a typing error.
const MAX_DEVICES: u32 = 1 << 16;
/// Most images of the synthetic set: more would only fill memory.
const MAX_SYNTHETIC: usize = 10_000_000;

impl TrainConfig {
    /// Refuses options that have no effect because of others.
    pub(crate) fn check_combinations(&self, recipe: &Recipe) -> Result<()> {
        let refuse = |option: &str, what: String| Err(Error::config(option, what));
        let kind = self.opt.map_or(recipe.optimizer.kind, crate::config::values::OptimizerName::kind);
        if self.momentum.is_some() && kind != OptimizerKind::Sgd {
            return refuse(
                "momentum",
                format!("{kind:?} has none; leave it out, or choose option `opt` sgd"),
            );
        }
        self.check_multi_label()?;
        let defaults = Self::default();
        let steps = self.lr_curve == Some(CurveName::Step);
        if self.lr_step_factor != defaults.lr_step_factor && !steps {
            return refuse(
                "lr-step-factor",
                "is for option `lr-curve` step; leave it out, or choose that curve".into(),
            );
        }
        if steps != self.lr_step_every.is_some() {
            return refuse(
                "lr-step-every",
                "requires option `lr-curve` step, and that requires this; give both or none".into(),
            );
        }
        if self.val_share.is_some() && self.data.is_none() {
            return refuse(
                "val-share",
                "is for option `data`; the built-in set has images for evaluation".into(),
            );
        }
        if self.init_ema && self.init.is_none() {
            return refuse(
                "init-ema",
                "selects weights of option `init`; give that too, or leave it out".into(),
            );
        }
        if self.lr.is_some() && self.lr_scaling.is_some() {
            return refuse(
                "lr-scaling",
                "option `lr` is not scaled with the batch; leave one of the two out".into(),
            );
        }
        if self.min_lr.is_some_and(|min| self.lr.is_some_and(|lr| min > lr)) {
            return refuse("min-lr", "is above option `lr`, the peak learning rate; lower it".into());
        }
        if self.bce_threshold.is_some() && self.loss != LossName::Bce {
            return refuse(
                "bce-threshold",
                "is for option `loss` bce; leave it out, or choose that loss".into(),
            );
        }
        if self.class_weights.is_some() && self.loss == LossName::Bce {
            let what = "is for option `loss` cross-entropy; leave it out, or choose that loss";
            return refuse("class-weights", what.into());
        }
        let of_classes = [
            ("class-weights", self.class_weights.is_some()),
            ("sampler", self.sampler != defaults.sampler),
            ("drop-rate", self.drop_rate != defaults.drop_rate),
        ];
        if let Some((option, _)) = of_classes.iter().find(|(_, given)| *given && self.target.is_some()) {
            return refuse(
                option,
                "is for training with classes, and pre-training has none; leave it out".into(),
            );
        }
        let of_pretraining =
            [("decoder", self.decoder.is_some()), ("mask-ratio", self.mask_ratio != defaults.mask_ratio)];
        if let Some((option, _)) = of_pretraining.iter().find(|(_, given)| *given && self.target.is_none()) {
            return refuse(option, "is for pre-training; leave it out, or give option `target`".into());
        }
        if self.magnitude.is_some() && self.auto_augment.as_ref().is_some_and(PolicyName::is_none) {
            let what = "option `auto-augment` is `none`, which has no magnitude; leave out one of the two";
            return refuse("magnitude", what.into());
        }
        let replays = |recipe: &Recipe| recipe.curriculum.stages.iter().any(|stage| stage.replay.times > 1);
        if self.replay_batches.is_some() && !replays(recipe) {
            return refuse(
                "replay-batches",
                "there is no replay buffer; leave it out, or give option `replay`".into(),
            );
        }
        if self.replay.is_some_and(|times| times > 1) && !replays(recipe) {
            let what = "no stage is smaller than the base size, and only those replay; leave it out, or choose another \
                        option `recipe`";
            return refuse("replay", what.into());
        }
        Ok(())
    }

    /// Refuses options that have no meaning for images with several labels.
    fn check_multi_label(&self) -> Result<()> {
        if !self.multi_label {
            return Ok(());
        }
        let defaults = Self::default();
        // Pre-training reads the lists, but uses no labels.
        let softmax = self.loss == LossName::CrossEntropy && self.target.is_none();
        let sampler = self.sampler != defaults.sampler;
        let of_one_class =
            "counts images by class, and with option `multi-label` one counts for several; leave it out";
        let refused = [
            (
                "multi-label",
                self.data.is_none(),
                "is for option `data` with lists (train.csv and val.csv); the built-in set has one label an image",
            ),
            (
                "loss",
                softmax,
                "cross-entropy is for one label an image; with option `multi-label`, give `bce` or leave it out",
            ),
            ("class-weights", self.class_weights.is_some(), of_one_class),
            ("sampler", sampler, of_one_class),
            ("images-per-class", self.images_per_class.is_some(), of_one_class),
        ];
        let first = refused.into_iter().find(|(_, given, _)| *given);
        first.map_or(Ok(()), |(option, _, what)| Err(Error::config(option, what)))
    }

    /// Checks that an optimizer other than the recipe's has its own learning rate and weight decay.
    pub(crate) fn check_optimizer(&self, recipe: &Recipe) -> Result<()> {
        let other = self.opt.is_some_and(|opt| opt.kind() != recipe.optimizer.kind);
        if other && (self.lr.is_none() || self.weight_decay.is_none()) {
            let kind = recipe.optimizer.kind;
            let what = format!(
                "the recipe's settings are for {kind:?}; give option `lr` and option `weight-decay` for this one"
            );
            return Err(Error::config("opt", what));
        }
        Ok(())
    }

    pub(crate) fn check_val_share(&self) -> Result<()> {
        match self.val_share.filter(|share| !(*share > 0.0 && *share < 1.0)) {
            None => Ok(()),
            Some(share) => Err(Error::config(
                "val-share",
                format!("expected a fraction above 0 and below 1, got {share}"),
            )),
        }
    }

    pub(crate) fn check_ranges(&self) -> Result<()> {
        let within = |option, value: f64, low: f64, high: f64| {
            if value >= low && value <= high {
                Ok(())
            } else {
                Err(Error::config(option, format!("expected {low} to {high}, got {value}")))
            }
        };
        within("min-crop-area", self.min_crop_area, 1e-4, 1.0)?;
        within("drop-rate", self.drop_rate, 0.0, 0.99)?;
        within("vflip", self.vflip, 0.0, 1.0)?;
        within("color-jitter", self.color_jitter, 0.0, 1.0)?;
        within("grayscale", self.grayscale, 0.0, 1.0)?;
        self.checked_normalization()?;
        within("mask-ratio", self.mask_ratio, 0.01, 0.99)?;
        within("lr-step-factor", self.lr_step_factor, 1e-9, 1.0)?;
        within("layer-decay", self.layer_decay, 1e-3, 1.0)?;
        if !(self.epochs > 0.0 && self.epochs <= 1e6) {
            let what = format!("expected a number above 0 and at most 1000000, got {}", self.epochs);
            return Err(Error::config("epochs", what));
        }
        if !(1..=MAX_DEVICES).contains(&self.devices) {
            let what = format!("expected at least 1 device and at most {MAX_DEVICES}, got {}", self.devices);
            return Err(Error::config("devices", what));
        }
        self.check_val_share()?;
        if !(1..=MAX_SYNTHETIC).contains(&self.synthetic_images) {
            let what = format!(
                "expected at least 1 image and at most {MAX_SYNTHETIC}, got {}",
                self.synthetic_images
            );
            return Err(Error::config("synthetic-images", what));
        }
        for (option, value, high) in [
            ("lr", self.lr, 1e3),
            ("min-lr", self.min_lr, 1e3),
            ("bce-threshold", self.bce_threshold, 1.0),
            ("weight-decay", self.weight_decay, 1e3),
            ("momentum", self.momentum, 0.999_999),
            ("drop-path", self.drop_path, 0.99),
            ("ema-decay", self.ema_decay, 0.999_999_999),
            ("clip-grad", self.clip_grad, 1e12),
            ("mixup", self.mixup, 1e3),
            ("cutmix", self.cutmix, 1e3),
            ("label-smoothing", self.label_smoothing, 1.0),
            ("hflip", self.hflip, 1.0),
            ("erasing", self.erasing, 1.0),
        ] {
            value.map_or(Ok(()), |value| within(option, value, 0.0, high))?;
        }
        Ok(())
    }
}
