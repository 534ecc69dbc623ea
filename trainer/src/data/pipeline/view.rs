//! What the schedule asks of the pipeline.

use efficienttrain_schedule::Order;

/// What the schedule asks for at one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// Edge of the picture, in pixels.
    pub size: u32,
    /// RandAugment magnitude, 0 to 10.
    pub magnitude: f64,
    /// Order of low-frequency crop and RandAugment.
    pub order: Order,
}
