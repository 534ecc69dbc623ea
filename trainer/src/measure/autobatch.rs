//! Finds the fastest batch size on this machine for each size of a curriculum.

use std::fmt;

use efficienttrain_schedule::{LrScaling, Recipe};
use serde::Serialize;

use crate::config::batch::{BatchSize, stages_by_size};
use crate::config::options::RunOptions;
use crate::config::train::TrainConfig;
use crate::error::{Error, Result};
use crate::measure::timing::{PATIENCE, time_step};
use crate::run::setup::initial_state;
use crate::training::memory::memory;
use crate::training::state::TrainState;
use crate::util::units::mib;

/// Smallest batch to try; each further one is twice the previous one.
const SMALLEST: u32 = 8;
/// Largest batch to try.
const LARGEST: u32 = 1024;
/// Factor by which a larger batch must be faster: a little more than the variation between
/// measurements.
const GAIN: f64 = 1.03;
/// Fraction of the machine's free memory for the activations of a step, since other programs use
/// memory too.
const MEMORY_SHARE: f64 = 0.5;
/// Fraction of a GPU's free memory.
const GPU_MEMORY_SHARE: f64 = 0.9;
/// Runs with fewer optimizer steps than this get a warning.
const FEW_STEPS: u64 = 500;

/// Batch size for one image size.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SizeTuning {
    /// Edge of the images, in pixels.
    pub size: u32,
    /// Smallest batch that is about as fast as any other.
    pub batch: u32,
    /// Batches tried, each with the training speed in images per second.
    pub tried: Vec<(u32, f64)>,
}

/// Batch sizes for all image sizes of a curriculum.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BatchTuning {
    /// One per image size, in the order of the curriculum.
    pub sizes: Vec<SizeTuning>,
    /// Reasons why such batches may cost accuracy.
    pub warnings: Vec<String>,
}

impl BatchTuning {
    /// Returns the value of the option.
    pub fn batch(&self) -> BatchSize {
        BatchSize::EachSize(self.sizes.iter().map(|tuning| tuning.batch).collect())
    }
}

/// Times training steps of the configuration's model at each size of its curriculum, batch by
/// batch, on the device and with the settings of `options`. Returns the smallest batches that are
/// about as fast as any other. The speed of the loader is not measured here, but by `forecast`.
///
/// A batch is tried if its activations should fit into memory: on the CPU by their count, on a GPU
/// by the memory of the previous batch. One that does not fit on the GPU after all is dropped.
///
/// # Errors
/// Returns an error if recipe, model or device are invalid.
pub fn tune(
    config: &TrainConfig,
    options: &RunOptions,
    classes: usize,
    images: usize,
) -> Result<BatchTuning> {
    // The recipe's own batches, for comparison.
    let own = TrainConfig { batch: BatchSize::Recipe, ..config.clone() }.recipe()?;
    let recipe = TrainConfig { batch: BatchSize::Auto, ..config.clone() }.recipe()?;
    let first = config.model_options(classes, first_size(&recipe));
    let mut state = initial_state(config, options, &recipe, &first)?;
    let mut known: Vec<SizeTuning> = Vec::new();
    let mut sizes = Vec::new();
    for (size, stages) in stages_by_size(&recipe) {
        let earlier = known.iter().find(|tuning| tuning.size == size).cloned();
        let tuning = match earlier {
            Some(tuning) => tuning,
            None => {
                // A replay buffer is divided into equal parts of a batch.
                let times = stages.iter().map(|&s| recipe.curriculum.stages[s].replay.times).max();
                let passes = u64::from(config.accumulation.max(1)) * u64::from(config.devices.max(1));
                let most = usize::try_from(images as u64 / passes).unwrap_or(usize::MAX);
                one_size(&mut state, size, times.unwrap_or(1), most)?
            }
        };
        known.push(tuning.clone());
        sizes.push(tuning);
    }
    let mut tuning = BatchTuning { sizes, warnings: Vec::new() };
    let chosen = TrainConfig { batch: tuning.batch(), ..config.clone() };
    tuning.warnings = warnings(&chosen, &own, images)?;
    Ok(tuning)
}

fn first_size(recipe: &Recipe) -> usize {
    recipe.curriculum.stages[0].size as usize
}

fn one_size(state: &mut TrainState, size: u32, replay: u32, images: usize) -> Result<SizeTuning> {
    state.resize(size as usize)?;
    let before = memory(state.device())?.in_use;
    let mut room = room_at_first(state)?;
    let mut tried: Vec<(u32, f64)> = Vec::new();
    let (mut batch, mut best) = (SMALLEST * replay, None);
    while u64::from(batch) <= u64::from(LARGEST).min(images as u64).min(room) {
        let seconds = match time_step(state, batch as usize) {
            Err(e) if e.is_out_of_memory() => {
                if best.is_some() || batch / 2 < replay {
                    break;
                }
                batch /= 2;
                continue;
            }
            other => other?,
        };
        room = room_after(state, batch, before)?.unwrap_or(room);
        let rate = f64::from(batch) / seconds;
        tried.push((batch, rate));
        match best {
            Some((_, faster)) if rate < faster * GAIN => break,
            _ => best = Some((batch, rate)),
        }
        if seconds > PATIENCE {
            break;
        }
        batch *= 2;
    }
    let Some((batch, _)) = best else {
        let (device, memory) = (state.device(), memory(state.device())?);
        let place = if device.is_cpu() { "memory" } else { "the memory of the GPU" };
        let what = format!(
            "a batch of {batch} at {size} pixels does not fit into {place} ({} MiB of {} are free) or into the {images} images of a \
             step; give a number, or use less memory with option `checkpoint-activations`",
            mib(memory.free),
            mib(memory.total)
        );
        return Err(Error::config("batch", what));
    };
    Ok(SizeTuning { size, batch, tried })
}

/// Returns the number of images whose activations fit, as far as that is known before training.
fn room_at_first(state: &TrainState) -> Result<u64> {
    if !state.device().is_cpu() {
        return Ok(u64::MAX);
    }
    let each = state.objective.cost(&state.model)?.activation_bytes.max(1);
    Ok((memory(state.device())?.free as f64 * MEMORY_SHARE) as u64 / each)
}

/// Returns the number of images that fit on a GPU, estimated from the last step: its `batch` images
/// raised the memory from `before` to its peak. Gradients are treated as if they grew with the
/// batch, which underestimates the number.
fn room_after(state: &TrainState, batch: u32, before: u64) -> Result<Option<u64>> {
    if state.device().is_cpu() {
        return Ok(None);
    }
    let memory = memory(state.device())?;
    let each = (memory.peak.saturating_sub(before) / u64::from(batch)).max(1);
    let all = (memory.free + memory.in_use).saturating_sub(before);
    Ok(Some((all as f64 * GPU_MEMORY_SHARE) as u64 / each))
}

/// Returns warnings about batches that are chosen by speed alone and may cost accuracy.
fn warnings(chosen: &TrainConfig, own: &Recipe, images: usize) -> Result<Vec<String>> {
    let recipe = chosen.recipe()?;
    let mut warnings = Vec::new();
    let pairs = recipe.curriculum.stages.iter().zip(&own.curriculum.stages);
    let (base, devices) = (recipe.curriculum.base_size, chosen.devices);
    if let Some((ours, theirs)) =
        pairs.filter(|(ours, _)| ours.size == base).find(|(a, b)| a.global_batch(devices) > b.global_batch(8))
    {
        warnings.push(format!(
            "{} images per step at full size are more than the recipe's {} on 8 devices; large batches are known to \
             generalize worse, and the method enlarges them only in early stages",
            ours.global_batch(devices),
            theirs.global_batch(8)
        ));
    }
    let batches: Vec<u64> =
        recipe.curriculum.stages.iter().map(|stage| stage.global_batch(devices)).collect();
    let differ = batches.iter().any(|batch| *batch != batches[0]);
    if differ && recipe.optimizer.lr_scaling == LrScaling::None {
        warnings.push(
            "the learning rate does not follow the batch, although the batch differs between stages; leave out option `lr`, or \
             give option `lr-scaling`"
                .into(),
        );
    }
    let steps = chosen.plan(images)?.total_steps();
    if steps < FEW_STEPS {
        warnings.push(format!(
            "the run has {steps} optimizer steps; with so few, a smaller batch usually ends at a better accuracy"
        ));
    }
    Ok(warnings)
}

impl fmt::Display for BatchTuning {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "batch {}:", self.batch())?;
        for SizeTuning { size, batch, tried } in &self.sizes {
            let tried: Vec<String> =
                tried.iter().map(|(batch, rate)| format!("{batch}: {rate:.0}")).collect();
            write!(f, "\n  size {size}: {batch} (images/s with {})", tried.join(", "))?;
        }
        self.warnings.iter().try_for_each(|warning| write!(f, "\nwarning: {warning}"))
    }
}
