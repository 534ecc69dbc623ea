//! Where the time of preparing an image goes.

use std::time::{Duration, Instant};

/// A stage of an image's way from file to training picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PipelineStage {
    /// Reading and decoding the file.
    Decode,
    /// Random resized crop and flip. Where one operator does both, the low-frequency crop too.
    Geometry,
    /// Low-frequency crop.
    Crop,
    /// RandAugment.
    Augment,
    /// Normalizing and erasing.
    Pack,
}

impl PipelineStage {
    /// All stages, in the order of reports.
    pub const ALL: [Self; 5] = [Self::Decode, Self::Geometry, Self::Crop, Self::Augment, Self::Pack];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Geometry => "geometry",
            Self::Crop => "crop",
            Self::Augment => "augment",
            Self::Pack => "pack",
        }
    }
}

/// A stop watch with one total a stage.
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

    /// Books the time since the start or the last call to `stage`.
    pub fn mark(&mut self, stage: PipelineStage) {
        let now = Instant::now();
        self.totals[stage as usize] += now - self.last;
        self.last = now;
    }

    /// Time booked to a stage.
    pub fn total(&self, stage: PipelineStage) -> Duration {
        self.totals[stage as usize]
    }
}
