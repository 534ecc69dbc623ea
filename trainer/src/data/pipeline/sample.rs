//! Identity of a sample and the transforms that the schedule asks for.

use efficienttrain_schedule::Order;

/// One use of an image in training. Together with the seed, it determines all random draws of the
/// augmentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SampleId {
    /// Pass over the data set, counted from 0.
    pub epoch: u64,
    /// Index of the image in its source.
    pub index: usize,
}

/// Transforms that the schedule asks for at one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ViewSpec {
    /// Edge of the image, in pixels.
    pub size: u32,
    /// RandAugment magnitude, 0 to 10.
    pub magnitude: f64,
    /// Order of low-frequency crop and RandAugment.
    pub order: Order,
}
