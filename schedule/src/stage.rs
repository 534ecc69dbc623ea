//! One stage of a curriculum.

use crate::error::{Result, count, field, positive, within};
use serde::{Deserialize, Serialize};

/// Strength of RandAugment during a stage, on its scale of 0 to 10.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Magnitude {
    /// The same magnitude for the whole stage (the reference: `rand-m{i}` with i = 0..9).
    Fixed(f64),
    /// Linear in the compute of the stage, from its first step to its end (paper: m(t) = (t/T) *
    /// 9).
    Linear {
        /// Magnitude at the first step of the stage.
        from: f64,
        /// Magnitude reached at the end of the stage.
        to: f64,
    },
}

impl Magnitude {
    /// Returns the magnitude after `fraction` (0 to 1) of the stage's compute.
    #[must_use]
    pub fn at(self, fraction: f64) -> f64 {
        match self {
            Self::Fixed(value) => value,
            Self::Linear { from, to } => from + (to - from) * fraction,
        }
    }

    /// Returns the mean over the stage, which tables show.
    #[must_use]
    pub fn mean(self) -> f64 {
        self.at(0.5)
    }
}

/// Order of the low-frequency crop and RandAugment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Crop to B x B, then augment the small image: the cheap order, and the default.
    #[default]
    CropThenAugment,
    /// Augment at base size, then crop: the order of the authors' code.
    AugmentThenCrop,
}

/// Reuse of preprocessed images when decoding is slower than training (method section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// r: each training batch holds 1/r fresh images; 1 disables replay.
    pub times: u32,
    /// Preprocessed mini-batches (of fresh images) the buffer keeps; 0 when replay is off.
    pub buffer_batches: u32,
}

impl Replay {
    /// No replay: every image is fresh.
    pub const OFF: Self = Self { times: 1, buffer_batches: 0 };
}

/// A stage: size, magnitude and batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Share of the run, above 0; the shares of a curriculum sum to 1.
    pub share: f64,
    /// B: side of the low-frequency crop, in pixels.
    pub size: u32,
    /// RandAugment magnitude.
    pub magnitude: Magnitude,
    /// Images one device trains on per micro-batch, replayed images included.
    pub batch_per_device: u32,
    /// Micro-batches per optimizer step.
    pub accumulation: u32,
    /// Replay buffer of the stage.
    pub replay: Replay,
    /// Order of crop and augmentation.
    pub order: Order,
}

impl Stage {
    /// Makes a stage without accumulation and replay, in the default order.
    #[must_use]
    pub fn new(share: f64, size: u32, magnitude: Magnitude, batch_per_device: u32) -> Self {
        Self {
            share,
            size,
            magnitude,
            batch_per_device,
            accumulation: 1,
            replay: Replay::OFF,
            order: Order::default(),
        }
    }

    /// Returns the images trained on in one optimizer step over `devices` devices.
    #[must_use]
    pub fn global_batch(&self, devices: u32) -> u64 {
        u64::from(self.batch_per_device) * u64::from(self.accumulation) * u64::from(devices)
    }

    pub(crate) fn validate(&self, index: usize, base_size: u32) -> Result<()> {
        let name = |part: &str| format!("stages[{index}].{part}");
        positive(&name("share"), self.share, "give the part of the run this stage takes, such as 0.2")?;
        if self.size == 0 || self.size > base_size {
            let hint = "a stage sees at most the base size; lower the size or raise base_size";
            return Err(field(name("size"), format!("1..={base_size} (base_size)"), self.size, hint));
        }
        let (from, to) = (self.magnitude.at(0.0), self.magnitude.at(1.0));
        for value in [from, to] {
            within(&name("magnitude"), value, 0.0, 10.0, "RandAugment's scale ends at 10")?;
        }
        count(
            &name("batch_per_device"),
            self.batch_per_device,
            "give the images one device holds at a time",
        )?;
        count(&name("accumulation"), self.accumulation, "1 means no accumulation")?;
        self.validate_replay(&name("replay"))
    }

    fn validate_replay(&self, name: &str) -> Result<()> {
        let Replay { times, buffer_batches } = self.replay;
        count(&format!("{name}.times"), times, "1 means no replay")?;
        if !self.batch_per_device.is_multiple_of(times) {
            let expected = format!("a divisor of batch_per_device ({})", self.batch_per_device);
            return Err(field(
                format!("{name}.times"),
                expected,
                times,
                "a batch holds batch_per_device / times fresh images",
            ));
        }
        if times > 1 {
            count(
                &format!("{name}.buffer_batches"),
                buffer_batches,
                "a replaying stage needs a buffer, such as 1024 batches",
            )?;
        }
        Ok(())
    }
}
