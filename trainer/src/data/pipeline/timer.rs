//! Time spent in each stage of preparing an image.

use std::time::{Duration, Instant};

/// A stage between the file of an image and the training image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PipelineStage {
    /// Reading and decoding the file.
    Decode,
    /// Random resized crop and flip; includes the low-frequency crop if both are fused.
    Geometry,
    /// Low-frequency crop.
    Crop,
    /// RandAugment.
    Augment,
    /// Normalization and erasing.
    Normalize,
}

impl PipelineStage {
    /// All stages, in the order of reports.
    pub const ALL: [Self; 5] = [Self::Decode, Self::Geometry, Self::Crop, Self::Augment, Self::Normalize];

    /// Returns the name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Geometry => "geometry",
            Self::Crop => "crop",
            Self::Augment => "augment",
            Self::Normalize => "normalize",
        }
    }
}

/// Stopwatch with a total per stage.
#[derive(Clone, Debug)]
pub struct StageTimer {
    last: Instant,
    totals: [Duration; PipelineStage::ALL.len()],
}

impl StageTimer {
    /// Starts with empty totals.
    pub fn start() -> Self {
        Self { last: Instant::now(), totals: [Duration::ZERO; PipelineStage::ALL.len()] }
    }

    /// Adds the time since the start or the last call to the total of `stage`.
    pub fn mark(&mut self, stage: PipelineStage) {
        let now = Instant::now();
        self.totals[stage as usize] += now - self.last;
        self.last = now;
    }

    /// Returns the total time of a stage.
    pub fn total(&self, stage: PipelineStage) -> Duration {
        self.totals[stage as usize]
    }
}
