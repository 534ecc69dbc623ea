//! Candidates of a search.

use crate::error::{Result, count, field, within};
use serde::{Deserialize, Serialize};

/// Batch of one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageBatch {
    /// Images one device trains on per micro-batch.
    pub per_device: u32,
    /// Micro-batches per optimizer step.
    pub accumulation: u32,
}

/// One candidate for a stage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// B: side of the low-frequency crop, in pixels.
    pub size: u32,
    /// RandAugment magnitude throughout the stage; none uses the linear ramp of the search.
    pub magnitude: Option<f64>,
    /// Batch; none uses the recipe's.
    pub batch: Option<StageBatch>,
}

impl Choice {
    /// Makes a choice of a size alone.
    #[must_use]
    pub fn of_size(size: u32) -> Self {
        Self { size, magnitude: None, batch: None }
    }
}

/// The candidates of every stage: each size with each magnitude and each batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Space {
    /// Sizes in pixels, ascending.
    pub sizes: Vec<u32>,
    /// Magnitudes; empty leaves them to the search's ramp.
    #[serde(default)]
    pub magnitudes: Vec<f64>,
    /// Batches; empty leaves them to the recipe.
    #[serde(default)]
    pub batches: Vec<StageBatch>,
}

impl Default for Space {
    /// The paper's sizes: 96, 128, 160, 192, 224.
    fn default() -> Self {
        Self { sizes: PAPER_SIZES.to_vec(), magnitudes: Vec::new(), batches: Vec::new() }
    }
}

const PAPER_SIZES: [u32; 5] = [96, 128, 160, 192, 224];

impl Space {
    /// The paper's sizes for another base size, each rounded to the nearest multiple of `multiple`;
    /// sizes that become equal count once.
    ///
    /// # Errors
    /// A field error when `base_size` is not a multiple of `multiple`, or a number is 0.
    pub fn at_base_size(base_size: u32, multiple: u32) -> Result<Self> {
        count("multiple", multiple, "1 rounds to whole pixels")?;
        count("base_size", base_size, "give the full training size, such as 128")?;
        if !base_size.is_multiple_of(multiple) {
            let hint = "choose a base size the model can take, or another multiple";
            return Err(field("base_size", format!("a multiple of {multiple}"), base_size, hint));
        }
        let scaled = |size: u32| {
            let units = f64::from(size) / 224.0 * f64::from(base_size) / f64::from(multiple);
            units.round().max(1.0) as u32 * multiple
        };
        let mut sizes = PAPER_SIZES.map(scaled).to_vec();
        sizes.dedup();
        Ok(Self { sizes, ..Self::default() })
    }

    /// The candidates in the order in which they are tried and, in a tie, preferred: ascending by
    /// size, then magnitudes and batches as given.
    #[must_use]
    pub fn choices(&self) -> Vec<Choice> {
        let magnitudes = or_none(&self.magnitudes);
        let batches = or_none(&self.batches);
        let mut choices = Vec::new();
        for &size in &self.sizes {
            for &magnitude in &magnitudes {
                choices.extend(batches.iter().map(|&batch| Choice { size, magnitude, batch }));
            }
        }
        choices
    }

    pub(crate) fn validate(&self, base_size: u32) -> Result<()> {
        if self.sizes.is_empty() {
            return Err(field("space.sizes", "at least one size", "none", "the paper tries 96 to 224"));
        }
        for (index, &size) in self.sizes.iter().enumerate() {
            let least = if index == 0 { 1 } else { self.sizes[index - 1] + 1 };
            if !(least..=base_size).contains(&size) {
                let hint = "give each size once, ascending, up to the recipe's base size";
                return Err(field(
                    format!("space.sizes[{index}]"),
                    format!("{least}..={base_size}"),
                    size,
                    hint,
                ));
            }
        }
        for (index, &magnitude) in self.magnitudes.iter().enumerate() {
            let name = format!("space.magnitudes[{index}]");
            within(&name, magnitude, 0.0, 10.0, "RandAugment's scale ends at 10")?;
            if self.magnitudes[..index].contains(&magnitude) {
                return Err(field(name, "each magnitude once", magnitude, "drop one of the two"));
            }
        }
        for (index, batch) in self.batches.iter().enumerate() {
            let name = format!("space.batches[{index}]");
            count(
                &format!("{name}.per_device"),
                batch.per_device,
                "give the images one device holds at a time",
            )?;
            count(&format!("{name}.accumulation"), batch.accumulation, "1 means no accumulation")?;
            if self.batches[..index].contains(batch) {
                let got = format!("{} x {} twice", batch.per_device, batch.accumulation);
                return Err(field(name, "each batch once", got, "drop one of the two"));
            }
        }
        Ok(())
    }
}

fn or_none<T: Copy>(values: &[T]) -> Vec<Option<T>> {
    if values.is_empty() { vec![None] } else { values.iter().copied().map(Some).collect() }
}
