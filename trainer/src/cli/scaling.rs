//! `efficienttrain plan` on many devices, on paper.

use anyhow::Result;
use clap::Args;
use efficienttrain::measure::parameters_of;
use efficienttrain_schedule::{Plan, Recipe, ScalingModel};

const HEADING: &str = "On many devices, on paper";

/// Assumptions about devices and the network between them.
#[derive(Args)]
pub(crate) struct ScalingArgs {
    /// Print the times of the plan on --devices if one of them trains so many images per second at
    /// base size in large batches, as `bench step` measures
    #[arg(long, value_name = "RATE", requires = "bandwidth", help_heading = HEADING)]
    images_per_second: Option<f64>,

    /// Bandwidth of each device to the others, in 10^9 bytes per second
    #[arg(long, value_name = "GB", requires = "images_per_second", help_heading = HEADING)]
    bandwidth: Option<f64>,

    /// Time of a pass besides its images, such as that of launching kernels, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10.0, requires = "images_per_second", help_heading = HEADING)]
    pass_overhead: f64,

    /// Time of a sum over devices besides its bytes, in microseconds
    #[arg(long, value_name = "US", default_value_t = 15.0, requires = "images_per_second", help_heading = HEADING)]
    latency: f64,

    /// Size of the pieces that gradients are summed in, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 25.0, requires = "images_per_second", help_heading = HEADING)]
    bucket: f64,

    /// Share of the backward pass that sums can hide behind, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.9, requires = "images_per_second", help_heading = HEADING)]
    overlap: f64,

    /// Time of the optimizer's update, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 3.0, requires = "images_per_second", help_heading = HEADING)]
    update: f64,
}

impl ScalingArgs {
    /// Returns the assumptions, if they are asked for.
    pub(crate) fn model(&self, recipe: &Recipe) -> Result<Option<ScalingModel>> {
        let (Some(images_per_second), Some(bandwidth)) = (self.images_per_second, self.bandwidth) else {
            return Ok(None);
        };
        Ok(Some(ScalingModel {
            images_per_second,
            pass_overhead: self.pass_overhead / 1e3,
            // In single precision.
            gradient_bytes: 4.0 * parameters_of(recipe)? as f64,
            bandwidth: bandwidth * 1e9,
            latency: self.latency / 1e6,
            bucket_bytes: self.bucket * f64::from(1 << 20),
            overlap: self.overlap,
            update: self.update / 1e3,
        }))
    }

    pub(crate) fn print(&self, plan: &Plan, model: &ScalingModel, json: bool) -> Result<()> {
        let scaling = plan.scaling(model)?;
        if json {
            let both = serde_json::json!({ "assumptions": model, "scaling": scaling });
            return Ok(super::print_line(serde_json::to_string_pretty(&both)?)?);
        }
        super::print_line(&scaling)?;
        super::print_line(format!(
            "assumed, not measured: {} images/s per device at {} pixels in large batches, {} ms per pass besides; gradients of \
             {:.0} MB at {} GB/s and {} us per {} MiB, of which {:.0}% of the backward pass can hide; {} ms per update; no \
             evaluation, and images always come in time",
            model.images_per_second,
            plan.recipe().curriculum.base_size,
            self.pass_overhead,
            model.gradient_bytes / 1e6,
            model.bandwidth / 1e9,
            self.latency,
            self.bucket,
            100.0 * self.overlap,
            self.update
        ))?;
        Ok(())
    }
}
