//! Forecast of a run: operations, memory, disk and time, from its plan and a few timed passes.

use std::collections::BTreeMap;
use std::fmt;

use efficienttrain_models::Cost;
use efficienttrain_schedule::{Order, Plan, PlanStage, StepSettings};
use serde::Serialize;

use crate::data::pipeline::sample::ViewSpec;
use crate::data::pipeline::train::TrainPipeline;
use crate::error::Result;
use crate::measure::bench::preprocess::{PreprocessBench, preprocess};
use crate::measure::bench::ranks::time_sums;
use crate::measure::machine::Machine;
use crate::measure::remedies::{Given, Load, Remedy, remedies};
use crate::measure::timing::{no_change, time_step};
use crate::run::Run;
use crate::util::share;

/// Number of images of the first timed steps: enough to occupy two cores, few enough that a large
/// model does not take minutes.
const FEW: u32 = 8;
/// Target duration of the timed steps in seconds, which determines the number of their images.
const ENOUGH: f64 = 1.0;
/// Number of images to prepare at first to time the loader.
const PREPARED: usize = 32;
/// Target duration of the timed preparation, in seconds.
const ENOUGH_PREPARED: f64 = 0.3;

/// Forecast of a run on this machine.
#[derive(Clone, Debug, Serialize)]
pub struct Forecast {
    /// Stages with steps.
    pub stages: Vec<StageForecast>,
    /// Number of processes that train together.
    pub processes: usize,
    /// Number of trained parameters.
    pub parameters: u64,
    /// Floating-point operations of all training passes.
    pub train_flops: f64,
    /// Peak memory, in bytes: weights, gradients, moments, averages, activations, batches, replay.
    pub memory_bytes: u64,
    /// Size of one checkpoint, in bytes.
    pub checkpoint_bytes: u64,
    /// Number of evaluations.
    pub evaluations: u64,
    /// Time of all evaluations, in seconds.
    pub evaluation_seconds: f64,
    /// Time of the run, in seconds.
    pub seconds: f64,
    /// Options that would make its images cheaper to prepare.
    pub remedies: Vec<Remedy>,
}

/// One stage of a [`Forecast`].
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StageForecast {
    /// Edge of the images, in pixels.
    pub size: u32,
    /// Optimizer steps.
    pub steps: u64,
    /// Multiply-accumulates of a forward pass over one image.
    pub macs: u64,
    /// Time of a step's passes and update, in seconds.
    pub step_seconds: f64,
    /// CPU time to prepare the images of a step, in seconds.
    pub data_seconds: f64,
    /// Time of the sums of gradients over processes, in seconds; a part of it may hide behind the
    /// passes.
    pub sums_seconds: f64,
    /// True if steps wait for images.
    pub waits: bool,
    /// Time of the stage, in seconds.
    pub seconds: f64,
}

/// Cost of one image at a size.
#[derive(Clone, Copy)]
pub(crate) struct PerImage {
    cost: Cost,
    /// Share of the wall time of a step, in seconds.
    step: f64,
    /// CPU time to prepare it, in seconds.
    prepare: f64,
    /// Part of it to decode it, in seconds.
    decode: f64,
    /// Pixels of the decoded image.
    pixels: f64,
}

/// What the images of a step have in common.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) view: ViewSpec,
    /// Images per pass.
    pub(crate) batch: u32,
}

impl Kind {
    /// Returns the kind of the images of a stage.
    pub(crate) fn of(stage: &PlanStage) -> Self {
        let view = ViewSpec { size: stage.size, magnitude: stage.magnitude.mean(), order: stage.order };
        Self { view, batch: stage.batch_per_device }
    }
}

impl PerImage {
    /// Returns the wall time of an image of which a share of `fresh` has to be prepared, in seconds.
    pub(crate) fn wall(&self, machine: &Machine, fresh: f64) -> f64 {
        machine.wall(self.step, fresh * self.prepare).0
    }
}

/// Times steps at each size of the plan and computes the totals. The moments and running statistics
/// of `run` are lost. Several processes forecast together, so that they share their machine as in
/// the run.
///
/// On the CPU, training and loader share the cores: the expected time of a step is the sum of its own
/// time and the CPU time of its images divided by the cores, or the time of the workers if that is
/// longer. On a GPU it is the longer of the two.
///
/// # Errors
/// Returns an error if an image cannot be read, or the model does not support a size.
pub fn forecast(mut run: Run) -> Result<Forecast> {
    run.options.check_replay(&run.plan, run.group().host_slots())?;
    let (cores, machine) = (share::cores() as f64, Machine::of(&run));
    // The slowest process has the most devices.
    let (devices, processes) = (run.config.devices, run.group().size());
    let part = f64::from(devices.div_ceil(processes as u32)) / f64::from(devices);
    let workers = run.options.workers() as f64;
    let mut sizes = BTreeMap::new();
    let mut stages = Vec::new();
    let (mut flops, mut activations) = (0.0, 0);
    let mut loads = Vec::new();
    let sums = if run.group().is_shared() {
        time_sums(&run.group().clone(), &run.state, &mut run.buckets)?
    } else {
        0.0
    };
    let plan = run.plan.clone();
    for (index, stage) in plan.stages().iter().enumerate().filter(|(_, stage)| stage.steps > 0) {
        let kind = Kind::of(stage);
        let image = match sizes.get(&stage.size) {
            Some(known) => *known,
            None => *sizes.entry(stage.size).or_insert(time_image(&mut run, kind, None)?),
        };
        let (images, fresh) = (stage.images_per_step as f64, stage.fresh_per_step as f64);
        let (step, data) = (part * images * image.step, part * fresh * image.prepare);
        let (wall, waits) = machine.wall(step + sums, data);
        let seconds = stage.steps as f64 * wall;
        flops += stage.steps as f64 * images * image.cost.train_flops as f64;
        let batches = (2.0 * workers + 2.0) * f64::from(stage.batch_per_device);
        let waiting = (batches * f64::from(stage.size).powi(2) * 12.0) as u64;
        let replay = plan.replay_bytes(index) * u128::from(run.group().own_slots().len() as u32);
        let replay = u64::try_from(replay).unwrap_or(u64::MAX);
        let kept = u64::from(stage.batch_per_device) * image.cost.activation_bytes;
        activations = activations.max(kept.saturating_add(waiting).saturating_add(replay));
        loads.push(Load {
            seconds: step + sums,
            steps: stage.steps,
            images: part * images,
            fresh: part * fresh,
            prepare: image.prepare,
            decode: image.decode,
            pixels: image.pixels,
            replays: stage.size < run.config.base_size,
        });
        stages.push(StageForecast {
            size: stage.size,
            steps: stage.steps,
            macs: image.cost.macs(),
            step_seconds: step,
            data_seconds: data,
            sums_seconds: sums,
            waits,
            seconds,
        });
    }
    let base = run.config.base_size;
    let at_base = match sizes.get(&base) {
        Some(known) => *known,
        None => time_image(&mut run, last_at(&plan, base), None)?,
    };
    let evaluated = run.state.objective.has_accuracy();
    let evaluations = if evaluated { run.options.eval_every.count(run.end_position()?) } else { 0 };
    let models = if run.state.ema.is_some() { 2.0 } else { 1.0 };
    // A forward pass is a third of a step.
    let per_image = models * (at_base.step / 3.0 + at_base.prepare / cores);
    let evaluation_seconds = evaluations as f64 * run.sources.val.len() as f64 * per_image / processes as f64;
    let remedies = remedies(&loads, &machine, &Given::of(&run));
    let (weights, checkpoint_bytes) = (run.state.weight_bytes(), run.state.stored_bytes());
    Ok(Forecast {
        processes,
        parameters: at_base.cost.params,
        train_flops: flops,
        // The state with its gradients, a checkpoint being written, and the activations of a pass, with
        // which the CPU keeps packed weights.
        memory_bytes: weights * (1 + u64::from(!machine.on_gpu)) + 2 * checkpoint_bytes + activations,
        checkpoint_bytes,
        evaluations,
        evaluation_seconds,
        seconds: stages.iter().map(|stage| stage.seconds).sum::<f64>() + evaluation_seconds,
        stages,
        remedies,
    })
}

/// Returns the kind of images that plain training at a size has.
pub(crate) fn last_at(plan: &Plan, size: u32) -> Kind {
    let last = plan.stages().last().map(Kind::of);
    let other = ViewSpec { size, magnitude: 0.0, order: Order::default() };
    last.map_or(Kind { view: other, batch: 1 }, |kind| Kind { view: ViewSpec { size, ..kind.view }, ..kind })
}

/// Times a step on random images and the preparation of some of the data. Moments and running
/// statistics of the run are lost.
/// The step is not timed again if it is `known` for a batch at this size.
pub(crate) fn time_image(run: &mut Run, kind: Kind, known: Option<(u32, PerImage)>) -> Result<PerImage> {
    let Kind { view, batch } = kind;
    run.state.resize(view.size as usize)?;
    let cost = run.state.objective.cost(&run.state.model)?;
    let pipeline = TrainPipeline::new(&run.config, run.plan.recipe());
    let source = &run.sources.train;
    let some = |images: usize| PreprocessBench { images: images.min(source.len()), view, workers: None };
    let first = preprocess(source, &pipeline, some(PREPARED))?;
    let many = some(PREPARED.max((ENOUGH_PREPARED * first.images_per_s_core) as usize));
    if run.options.cache_mib > 0 {
        // Later passes find the images decoded.
        preprocess(source, &pipeline, many)?;
    }
    let timed = preprocess(source, &pipeline, many)?;
    let (prepare, decode) = (1.0 / timed.images_per_s_core, 1.0 / timed.decode_images_per_s_core);
    let step = match known {
        Some((other, image)) if other == batch => Ok(image.step),
        _ => step_of_image(run, batch),
    };
    let step = match step {
        Err(e) if e.is_out_of_memory() => {
            let settings = StepSettings { size: view.size, batch_per_device: batch, ..no_change() };
            return Err(run.out_of_memory(&settings));
        }
        other => other?,
    };
    Ok(PerImage { cost, step, prepare, decode, pixels: timed.pixels_per_image })
}

/// Returns an image's share of a step of `batch` images, or of fewer if that many take too long to
/// time.
fn step_of_image(run: &mut Run, batch: u32) -> Result<f64> {
    let few = batch.min(FEW);
    let image = time_step(&mut run.state, few as usize)? / f64::from(few);
    let count = batch.min((ENOUGH / image) as u32);
    if count <= few {
        return Ok(image);
    }
    Ok(time_step(&mut run.state, count as usize)? / f64::from(count))
}

/// Formats a duration as `1:02:03` or `2:03`, with days in hours.
pub fn clock(seconds: f64) -> String {
    let s = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    let (h, m, s) = (s / 3600, s / 60 % 60, s % 60);
    if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m}:{s:02}") }
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "size     steps    GMACs  s / step  s of data      time  bound by")?;
        for s in &self.stages {
            let giga = s.macs as f64 / 1e9;
            let (step, data, time) = (s.step_seconds, s.data_seconds, clock(s.seconds));
            let bound = if s.waits { "loader" } else { "training" };
            writeln!(
                f,
                "{:4}  {:8}  {giga:7.3}  {step:8.3}  {data:9.3}  {time:>8}  {bound}",
                s.size, s.steps
            )?;
        }
        if self.processes > 1 {
            let sums = self.stages.first().map_or(0.0, |s| s.sums_seconds);
            writeln!(
                f,
                "{} processes: s / step and s of data are of the one with the most images; sums of gradients add {sums:.3} s to \
                 a step, as if no pass hid them",
                self.processes
            )?;
        }
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        writeln!(f, "{:.2} M parameters, {:.3e} operations", self.parameters as f64 / 1e6, self.train_flops)?;
        writeln!(
            f,
            "memory: at most {:.0} MiB; checkpoint: {:.0} MiB",
            mib(self.memory_bytes),
            mib(self.checkpoint_bytes)
        )?;
        write!(
            f,
            "time: {} on this machine with its present load, of which {} for {} evaluations",
            clock(self.seconds),
            clock(self.evaluation_seconds),
            self.evaluations
        )?;
        for remedy in &self.remedies {
            write!(f, "\n  with {}: {}", remedy.option, clock(remedy.seconds + self.evaluation_seconds))?;
        }
        Ok(())
    }
}
