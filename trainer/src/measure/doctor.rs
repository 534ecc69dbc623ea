//! Checks of this machine and build: hardware, gradients and speed of a model, space for
//! checkpoints.

use std::fmt;
use std::path::PathBuf;
use std::time::Instant;

use efficienttrain_models::{ModelOptions, ParamKind, ops};
use efficienttrain_schedule::Recipe;
use serde::Serialize;

use crate::config::device::DeviceName;
use crate::config::precision::Precision;
use crate::data::batch::Batch;
use crate::error::Result;
use crate::measure::bench::step::{StepBench, StepReport, step};
use crate::training::state::TrainState;
pub use crate::util::disk::Disk;
use crate::util::instruction_sets::instruction_sets;

/// Settings of the checks.
#[derive(Clone, Debug)]
pub struct Checkup {
    /// Model to check gradients and speed with, by any of its names.
    pub model: String,
    /// Edge of the images for that, in pixels.
    pub size: usize,
    /// Batch size.
    pub batch: usize,
    /// Duration of the speed measurement, in seconds; 0 for none.
    pub seconds: f64,
    /// Folder for checkpoints.
    pub out: PathBuf,
}

/// Results of the checks.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    /// Version of this program.
    pub version: &'static str,
    /// Operating system and processor of this build.
    pub platform: String,
    /// Devices that this build can train on, or the reason why there is no GPU.
    pub devices: Vec<String>,
    /// Optional features of this build.
    pub features: Vec<&'static str>,
    /// Detected instruction sets that kernels or codecs may use.
    pub instruction_sets: Vec<&'static str>,
    /// Number of `f32` values that kernels process at a time.
    pub vector_lanes: usize,
    /// Kind of matrix products of `bf16` activations.
    pub bf16_products: String,
    /// Number of compute threads.
    pub threads: usize,
    /// Number of cores that this process may use.
    pub cores: usize,
    /// Free memory in bytes, if the system reports it (Linux).
    pub free_memory: Option<u64>,
    /// Gradients of the model.
    pub gradients: Gradients,
    /// Speed of training steps, if measured.
    pub speed: Option<StepReport>,
    /// Disk for checkpoints.
    pub disk: Disk,
}

/// Result of checking that a gradient reaches all parameters of a model.
#[derive(Clone, Debug, Serialize)]
pub struct Gradients {
    /// Name of the model.
    pub model: String,
    /// Number of its parameters.
    pub parameters: usize,
    /// Problem, if any: lists the parameters that no gradient reaches.
    pub problem: Option<String>,
}

/// Runs all checks.
///
/// # Errors
/// Returns an error if the model is unknown or does not support the size; problems of machine or
/// build are part of the findings.
pub fn checkup(check: &Checkup) -> Result<Findings> {
    let options = ModelOptions { input_size: [check.size; 2], ..ModelOptions::default() };
    let name = efficienttrain_models::create_model(&check.model, &options)?.name().to_string();
    let recipe = Recipe::named(&format!("{name}-baseline"))?;
    let mut state = TrainState::new(&options, &recipe, 0)?;
    let parameters = state.model.specs().iter().filter(|spec| spec.kind == ParamKind::Parameter).count();
    let bench = StepBench {
        model: name.clone(),
        size: check.size,
        batch: check.batch,
        steps: 1,
        warmup: 0,
        device: DeviceName::Cpu,
        precision: Precision::F32,
        checkpoint_activations: false,
    };
    let batch = Batch::random(2, &*state.model, state.device())?;
    let problem = state.check_gradients(&batch).err().map(|e| e.to_string());
    let disk = Disk::of(&check.out, state.stored_bytes());
    drop(state);
    Ok(Findings {
        version: env!("CARGO_PKG_VERSION"),
        platform: format!("{} on {}", std::env::consts::OS, std::env::consts::ARCH),
        devices: DeviceName::found(),
        features: features(),
        instruction_sets: instruction_sets(),
        vector_lanes: ops::vector_lanes(),
        bf16_products: ops::Bf16Products::detect().to_string(),
        threads: rayon::current_num_threads(),
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        free_memory: free_memory(),
        gradients: Gradients { model: name, parameters, problem },
        speed: (check.seconds > 0.0).then(|| reading(bench, check.seconds)).transpose()?,
        disk,
    })
}

/// Times as many steps as fit into the time.
fn reading(bench: StepBench, seconds: f64) -> Result<StepReport> {
    let begun = Instant::now();
    // Includes the matrix product for comparison.
    let first = step(&StepBench { warmup: 1, ..bench.clone() })?;
    let left = seconds - begun.elapsed().as_secs_f64();
    let steps = (1e3 * left / first.step_ms) as usize;
    if steps < 2 { Ok(first) } else { step(&StepBench { steps, warmup: 1, ..bench }) }
}

fn features() -> Vec<&'static str> {
    let all = [
        ("cuda", cfg!(feature = "cuda")),
        ("cudnn", cfg!(feature = "cudnn")),
        ("mpi", cfg!(feature = "mpi")),
        ("parquet", cfg!(feature = "parquet")),
    ];
    all.iter().filter(|feature| feature.1).map(|feature| feature.0).collect()
}

fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}

impl Findings {
    /// Returns the problems.
    pub fn problems(&self) -> Vec<String> {
        let disk = self.disk.problem.as_ref().map(|what| format!("{} {what}", self.disk.folder.display()));
        self.gradients.problem.clone().into_iter().chain(disk).collect()
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let list = |names: &[&str]| if names.is_empty() { "none".into() } else { names.join(", ") };
        let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64);
        let known = |bytes: Option<u64>| bytes.map_or("not known".into(), gib);
        let mut line = |name: &str, text: String| writeln!(f, "{name:<18} {text}");
        line("version", format!("{}, {}", self.version, self.platform))?;
        line("devices", self.devices.join(", "))?;
        line("optional parts", list(&self.features))?;
        line("instruction sets", list(&self.instruction_sets))?;
        line("kernels", format!("{} values at a time", self.vector_lanes))?;
        line("bf16 products", self.bf16_products.clone())?;
        line("threads", format!("{} on {} cores", self.threads, self.cores))?;
        line("free memory", known(self.free_memory))?;
        let g = &self.gradients;
        let reached = if g.problem.is_none() { "reach" } else { "do NOT reach" };
        line("gradients", format!("of {} {reached} all {} parameters", g.model, g.parameters))?;
        if let Some(s) = &self.speed {
            let step = format!("{:.1} images/s, {:.0} ms per step of {}", s.images_per_s, s.step_ms, s.batch);
            line("speed", format!("{step} at {} pixels", s.size))?;
            line("", format!("{:.0} GFLOP/s, {:.0}% of a matrix product", s.gflops, 100.0 * s.gemm_share))?;
        }
        let d = &self.disk;
        line("disk", format!("{} free in {}", known(d.free), d.folder.display()))?;
        line("", format!("a checkpoint of {}: {} MiB", g.model, d.checkpoint.div_ceil(1 << 20)))?;
        match self.problems().as_slice() {
            [] => write!(f, "no problems found"),
            problems => write!(f, "WRONG: {}", problems.join("\nWRONG: ")),
        }
    }
}
