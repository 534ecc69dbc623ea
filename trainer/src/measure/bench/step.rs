//! Speed of training steps: forward, backward and AdamW, like in a run.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use efficienttrain_models::{ModelOptions, cost, create_model, ops};
use efficienttrain_schedule::{BatchRule, Plan, PlanOptions, Recipe, StepSettings};
use serde::Serialize;

use crate::config::device::DeviceName;
use crate::config::precision::Precision;
use crate::data::batch::Batch;
use crate::error::{Error, Result};
use crate::run::memory_check::StepMemory;
use crate::training::state::TrainState;
use crate::util::host_memory::host_memory;

/// Settings of the measurement.
#[derive(Clone, Debug)]
pub struct StepBench {
    /// Model, by any of its names.
    pub model: String,
    /// Edge of the images, in pixels.
    pub size: usize,
    /// Batch size.
    pub batch: usize,
    /// Number of timed steps; at least 1.
    pub steps: usize,
    /// Number of untimed steps before them.
    pub warmup: usize,
    /// Device.
    pub device: DeviceName,
    /// Precision of activations.
    pub precision: Precision,
    /// Activation checkpointing, see [`TrainState::checkpoint_activations`].
    pub checkpoint_activations: bool,
}

/// Speed of the steps. Times are wall-clock milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct StepReport {
    /// Model.
    pub model: String,
    /// Edge of the images, in pixels.
    pub size: usize,
    /// Batch size.
    pub batch: usize,
    /// Device.
    pub device: String,
    /// Precision of activations.
    pub dtype: Precision,
    /// Number of compute threads.
    pub threads: usize,
    /// Median time of a step.
    pub step_ms: f64,
    /// Shortest time of a step.
    pub min_ms: f64,
    /// Longest time of a step.
    pub max_ms: f64,
    /// Images per second, at the median.
    pub images_per_s: f64,
    /// Peak memory of the process, if the system reports it (Linux); on a GPU, peak memory of
    /// tensors.
    pub peak_mib: Option<u64>,
    /// Number of trained parameters.
    pub params: u64,
    /// Operations of convolutions, linear layers and attention in both passes divided by the median
    /// time, in 10^9 operations per second.
    pub gflops: f64,
    /// Best rate of a product of two square matrices in the same run, in 10^9 operations per
    /// second: of 1024 rows, or on a GPU of up to 8192 in the precision of activations.
    pub gemm_gflops: f64,
    /// Ratio of `gflops` to `gemm_gflops`.
    pub gemm_share: f64,
}

/// Times training steps on random images.
///
/// # Errors
/// Returns an error if the model is unknown or does not support the size, or there is nothing to
/// time.
pub fn step(bench: &StepBench) -> Result<StepReport> {
    if let Some((option, _)) = [("batch", bench.batch), ("steps", bench.steps)].iter().find(|o| o.1 == 0) {
        return Err(Error::config(*option, "must be above 0"));
    }
    let options = ModelOptions { input_size: [bench.size; 2], ..ModelOptions::default() };
    let model = create_model(&bench.model, &options)?;
    let (name, cost) = (model.name().to_string(), cost(&*model)?);
    let mut recipe = Recipe::named(&format!("{name}-baseline"))?;
    // The EMA and clipping are choices of a recipe, not part of a step.
    recipe.ema_decay = None;
    let per_device = u32::try_from(bench.batch)
        .map_err(|_| Error::config("batch", format!("must be at most {}, got {}", u32::MAX, bench.batch)))?;
    let images = (bench.batch as u64).saturating_mul(bench.warmup.saturating_add(bench.steps) as u64);
    let rule = BatchRule::Fixed { per_device, accumulation: 1 };
    let plan = Plan::new(&recipe, PlanOptions::new(1.0, images.max(1), 1).with_batch(rule))?;
    let mut state = TrainState::new(&options, &recipe, 0)?;
    state.checkpoint_activations = bench.checkpoint_activations;
    state.precision = bench.precision;
    state.move_to(&bench.device.open()?)?;
    state.check_precision()?;
    if let (true, Some(host)) = (state.device().is_cpu(), host_memory()) {
        StepMemory::at_least(&state, &state.model, u64::from(per_device))?.check(host)?;
    }
    let mut batch = Batch::random(bench.batch, &*state.model, state.device())?;
    // A run sends a batch to the GPU during the step before.
    if !state.device().is_cpu() {
        batch.stage(state.device())?;
    }
    let mut times = Vec::with_capacity(bench.steps);
    for i in 0..bench.warmup + bench.steps {
        let settings = StepSettings { drop_path: 0.0, ..plan.at(i as u64 % plan.total_steps())? };
        let start = Instant::now();
        state.train_on(&batch, i as u64, &settings, None)?;
        if i >= bench.warmup {
            times.push(1e3 * start.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    let median = f64::midpoint(times[(times.len() - 1) / 2], times[times.len() / 2]);
    let gflops = cost.train_flops as f64 * bench.batch as f64 / median / 1e6;
    let peak_mib = peak_mib(state.device());
    let gemm_gflops = best_gemm(state.device(), bench.precision.dtype())?;
    Ok(StepReport {
        model: name,
        size: bench.size,
        batch: bench.batch,
        device: bench.device.to_string(),
        dtype: bench.precision,
        threads: rayon::current_num_threads(),
        step_ms: median,
        min_ms: times[0],
        max_ms: times[times.len() - 1],
        images_per_s: 1e3 * bench.batch as f64 / median,
        peak_mib,
        params: cost.params,
        gflops,
        gemm_gflops,
        gemm_share: gflops / gemm_gflops,
    })
}

/// Returns the best rate of a square matrix product, in 10^9 operations per second: the limit of
/// the machine.
fn best_gemm(device: &Device, dtype: DType) -> Result<f64> {
    /// Smallest and largest number of rows. A GPU reaches its best rate with many; if a product
    /// takes longer than this number of seconds, the rate has been reached.
    const ROWS: usize = 1024;
    const MAX_ROWS: usize = 8 * ROWS;
    const LONG: f64 = 0.01;
    let (mut rows, mut best) = (ROWS, 0.0);
    loop {
        let seconds = product_time(device, dtype, rows)?;
        best = f64::max(best, 2.0 * (rows as f64).powi(3) / seconds / 1e9);
        if device.is_cpu() || rows == MAX_ROWS || seconds > LONG {
            return Ok(best);
        }
        rows *= 2;
    }
}

/// Returns the shortest time of a product of two square matrices, in seconds.
fn product_time(device: &Device, dtype: DType, rows: usize) -> Result<f64> {
    /// Largest number of products, and their largest total time in seconds.
    const MAX_PRODUCTS: usize = 20;
    const PATIENCE: f64 = 2.0;
    // Products between two waits for a GPU, so that waiting does not affect the time.
    let at_once = if device.is_cpu() { 1 } else { 4 };
    // Repeats a strip of random numbers: with constant numbers, a GPU stays cooler and is faster.
    let strip = Tensor::randn(0f32, 1., (1024.min(rows), rows), &Device::Cpu)?;
    let matrix =
        |dtype| Tensor::cat(&vec![&strip; rows.div_ceil(1024)], 0)?.to_dtype(dtype)?.to_device(device);
    // On the CPU, weights are `f32` whatever the activations are, and are rounded when read.
    let (a, b) = (matrix(dtype)?, matrix(if device.is_cpu() { DType::F32 } else { dtype })?);
    let (mut best, begun) = (f64::INFINITY, Instant::now());
    for _ in 0..MAX_PRODUCTS / at_once {
        let start = Instant::now();
        for _ in 0..at_once {
            ops::linear(&a, &b, None)?;
        }
        wait(device)?;
        best = best.min(start.elapsed().as_secs_f64() / at_once as f64);
        if begun.elapsed().as_secs_f64() > PATIENCE {
            break;
        }
    }
    Ok(best)
}

/// Waits for the work of a GPU.
fn wait(device: &Device) -> Result<()> {
    #[cfg(feature = "cuda")]
    ops::cuda::synchronize(device)?;
    let _ = device;
    Ok(())
}

/// Returns the peak memory: of this process, or of the tensors on a GPU.
fn peak_mib(device: &Device) -> Option<u64> {
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        return ops::cuda::memory_in_use(device).ok().map(|(_, peak)| peak >> 20);
    }
    let _ = device;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib / 1024)
}
