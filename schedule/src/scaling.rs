//! A plan on many devices, on paper: numbers in, a table out.
//!
//! Devices that share a step wait for each other's gradients, and a pass over few small images does
//! not keep a device busy. Both eat into what a curriculum saves; larger batches in its early stages
//! give it back.

use crate::error::{Result, positive, within};
use crate::plan::Plan;
use crate::rounding::PlanStage;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Share of a pass that the backward pass takes, during which sums can run.
const BACKWARD: f64 = 2.0 / 3.0;

/// Assumptions about devices and the network between them. Times are in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScalingModel {
    /// Images per second that one device trains at base size if the batch is large.
    pub images_per_second: f64,
    /// Time of a pass besides its images, such as that of launching kernels.
    pub pass_overhead: f64,
    /// Size of the gradients, in bytes.
    pub gradient_bytes: f64,
    /// Bytes per second that each device sends and receives.
    pub bandwidth: f64,
    /// Time of a sum over devices besides its bytes.
    pub latency: f64,
    /// Size of the pieces that gradients are summed in, in bytes.
    pub bucket_bytes: f64,
    /// Share of the backward pass that sums can hide behind, 0 to 1.
    pub overlap: f64,
    /// Time of the optimizer's update.
    pub update: f64,
}

impl ScalingModel {
    fn validate(&self) -> Result<()> {
        positive("images_per_second", self.images_per_second, "give the rate of one device")?;
        positive("bandwidth", self.bandwidth, "give the bytes per second between devices")?;
        positive("bucket_bytes", self.bucket_bytes, "25 MiB are usual")?;
        let times = [
            ("pass_overhead", self.pass_overhead),
            ("gradient_bytes", self.gradient_bytes),
            ("latency", self.latency),
            ("update", self.update),
        ];
        for (name, value) in times {
            within(name, value, 0.0, f64::MAX, "give 0 to leave it out")?;
        }
        within("overlap", self.overlap, 0.0, 1.0, "0 if nothing overlaps")
    }

    /// Time of one pass over `batch` images of relative cost `cost`.
    fn pass(&self, batch: u32, cost: f64) -> f64 {
        self.pass_overhead + f64::from(batch) * cost / self.images_per_second
    }

    /// Time of the sums of a step by a ring over `devices`, and the number of pieces.
    fn sums(&self, devices: u32) -> (f64, f64) {
        let pieces = (self.gradient_bytes / self.bucket_bytes).ceil().max(1.0);
        if devices == 1 {
            return (0.0, pieces);
        }
        let devices = f64::from(devices);
        let bytes = 2.0 * (devices - 1.0) / devices * self.gradient_bytes;
        (pieces * self.latency + bytes / self.bandwidth, pieces)
    }

    fn step(&self, batch: u32, passes: f64, cost: f64, devices: u32) -> StepTime {
        let pass = self.pass(batch, cost);
        let (sums, pieces) = self.sums(devices);
        // The last piece is complete only after the backward pass.
        let exposed = (sums / pieces).max(sums - self.overlap * BACKWARD * pass);
        StepTime { compute: passes * pass, sums, exposed, update: self.update }
    }
}

/// Time of an optimizer step, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepTime {
    /// Passes over the images.
    pub compute: f64,
    /// Sums of gradients over devices.
    pub sums: f64,
    /// Part of the sums that no pass hides.
    pub exposed: f64,
    /// Update of the optimizer.
    pub update: f64,
}

impl StepTime {
    /// Returns the duration of the step.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.compute + self.exposed + self.update
    }
}

/// One stage of a [`Scaling`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScalingStage {
    /// B, in pixels.
    pub size: u32,
    /// Images one device trains on per micro-batch.
    pub batch_per_device: u32,
    /// Micro-batches per optimizer step.
    pub accumulation: u32,
    /// Optimizer steps.
    pub steps: u64,
    /// Time of a step.
    pub step: StepTime,
    /// Share of a step in which a device computes at its full rate.
    pub efficiency: f64,
    /// Duration of the stage, in seconds.
    pub seconds: f64,
}

/// Times of a plan on its devices: [`Display`](fmt::Display) writes text, `serde` writes JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// Number of devices.
    pub devices: u32,
    /// The stages that have steps, in order.
    pub stages: Vec<ScalingStage>,
    /// Duration of the run, in seconds.
    pub seconds: f64,
    /// Duration of plain training with the same compute: at base size, with the batch of the last
    /// stage.
    pub plain_seconds: f64,
    /// Duration if each stage had the batch of the last.
    pub one_batch_seconds: f64,
    /// Speed-up of plain training by the devices: the time of a step on one of them, with as many
    /// images in micro-batches, over that on all.
    pub plain_speedup: f64,
}

impl Scaling {
    /// Returns the share of the compute that the curriculum saves which is saved on the clock as
    /// well; above 1 if it keeps devices busier than plain training.
    #[must_use]
    pub fn kept(&self) -> f64 {
        self.plain_seconds / self.seconds
    }

    /// Returns [`Self::kept`] if each stage had the batch of the last.
    #[must_use]
    pub fn kept_with_one_batch(&self) -> f64 {
        self.plain_seconds / self.one_batch_seconds
    }
}

impl Plan {
    /// Returns the times of this plan on its devices, under assumptions. Evaluations, the loader and
    /// waiting for the slowest device are left out.
    ///
    /// # Errors
    /// A number of the model out of range.
    pub fn scaling(&self, model: &ScalingModel) -> Result<Scaling> {
        model.validate()?;
        let devices = self.options().devices;
        let with_steps = || self.stages().iter().filter(|stage| stage.steps > 0);
        let last = with_steps().next_back().unwrap_or(&self.stages()[0]);
        let passes = f64::from(last.accumulation);
        let stages: Vec<ScalingStage> = with_steps().map(|stage| row(stage, model, devices)).collect();
        // A stage with another batch takes as many images.
        let with_last_batch = |stage: &PlanStage| {
            let step = model.step(last.batch_per_device, passes, stage.cost, devices);
            images(stage) / last.images_per_step as f64 * step.total()
        };
        let plain = model.step(last.batch_per_device, passes, 1.0, devices);
        let plain_images: f64 = with_steps().map(|stage| images(stage) * stage.cost).sum();
        let alone = model.step(last.batch_per_device, passes * f64::from(devices), 1.0, 1);
        Ok(Scaling {
            devices,
            seconds: stages.iter().map(|stage| stage.seconds).sum(),
            plain_seconds: plain_images / last.images_per_step as f64 * plain.total(),
            one_batch_seconds: with_steps().map(with_last_batch).sum(),
            plain_speedup: alone.total() / plain.total(),
            stages,
        })
    }
}

/// Images that a stage trains on.
fn images(stage: &PlanStage) -> f64 {
    stage.steps as f64 * stage.images_per_step as f64
}

fn row(stage: &PlanStage, model: &ScalingModel, devices: u32) -> ScalingStage {
    let PlanStage { size, cost, batch_per_device, accumulation, steps, .. } = *stage;
    let step = model.step(batch_per_device, f64::from(accumulation), cost, devices);
    let busy = f64::from(accumulation) * f64::from(batch_per_device) * cost / model.images_per_second;
    let seconds = steps as f64 * step.total();
    ScalingStage {
        size,
        batch_per_device,
        accumulation,
        steps,
        step,
        efficiency: busy / step.total(),
        seconds,
    }
}

impl fmt::Display for Scaling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |seconds: f64| 1e3 * seconds;
        writeln!(
            f,
            "size  batch  accumulate     steps  compute   sums  exposed  update  ms / step  busy %   hours"
        )?;
        for stage in &self.stages {
            let ScalingStage { size, batch_per_device, accumulation, steps, step, .. } = stage;
            writeln!(
                f,
                "{size:4}  {batch_per_device:5}  {accumulation:10}  {steps:8}  {:7.1}  {:5.1}  {:7.1}  {:6.1}  {:9.1}  {:6.1}  {:6.2}",
                ms(step.compute),
                ms(step.sums),
                ms(step.exposed),
                ms(step.update),
                ms(step.total()),
                100.0 * stage.efficiency,
                stage.seconds / 3600.0
            )?;
        }
        writeln!(
            f,
            "{:.2} hours on {} devices; plain training with the same compute {:.2} hours ({:.1} times as fast as on one device)",
            self.seconds / 3600.0,
            self.devices,
            self.plain_seconds / 3600.0,
            self.plain_speedup
        )?;
        write!(
            f,
            "of the curriculum's speed-up in compute, the clock keeps {:.0}%; with the last stage's batch in every stage {:.0}%",
            100.0 * self.kept(),
            100.0 * self.kept_with_one_batch()
        )
    }
}
