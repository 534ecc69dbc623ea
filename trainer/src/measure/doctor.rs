//! Whether this machine and this build can train: what they have, what a model's gradients and speed are, what the disk
//! takes.

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

/// What to look at.
#[derive(Clone, Debug)]
pub struct Checkup {
    /// Model whose gradients and speed are tried, by any spelling.
    pub model: String,
    /// Edge of the pictures for that, in pixels.
    pub size: usize,
    /// Images of a step.
    pub batch: usize,
    /// Time for the reading of its speed, in seconds; 0 for none.
    pub seconds: f64,
    /// Where checkpoints are to lie.
    pub out: PathBuf,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    /// Version of this program.
    pub version: &'static str,
    /// System and processor that it was built for.
    pub platform: String,
    /// Devices that this build can train on, or why there is no GPU.
    pub devices: Vec<String>,
    /// Optional parts of this build.
    pub features: Vec<&'static str>,
    /// Instruction sets that were found, of those that kernels or codecs may use.
    pub instruction_sets: Vec<&'static str>,
    /// Numbers of single precision that kernels work on at a time.
    pub vector_lanes: usize,
    /// How activations in `bf16` are multiplied.
    pub bf16_products: String,
    /// Threads that compute.
    pub threads: usize,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory that is free, in bytes, where the system says it (Linux).
    pub free_memory: Option<u64>,
    /// The model's gradients.
    pub gradients: Gradients,
    /// Speed of training steps; none where no time was given.
    pub speed: Option<StepReport>,
    /// The disk.
    pub disk: Disk,
}

/// Whether a model trains as a whole.
#[derive(Clone, Debug, Serialize)]
pub struct Gradients {
    /// The model.
    pub model: String,
    /// Its parameters.
    pub parameters: usize,
    /// What is wrong: names the parameters that no gradient reaches.
    pub problem: Option<String>,
}

/// Looks at everything.
///
/// # Errors
/// Returns an error if the model is unknown or cannot take the size; what is wrong with machine or build stands in the findings.
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
    let batch = Batch::random(2, check.size, options.num_classes, state.device())?;
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

/// As many steps as fit into the time.
fn reading(bench: StepBench, seconds: f64) -> Result<StepReport> {
    let begun = Instant::now();
    // With the product that a reading is measured against.
    let first = step(&StepBench { warmup: 1, ..bench.clone() })?;
    let left = seconds - begun.elapsed().as_secs_f64();
    let steps = (1e3 * left / first.step_ms) as usize;
    if steps < 2 { Ok(first) } else { step(&StepBench { steps, warmup: 1, ..bench }) }
}

fn features() -> Vec<&'static str> {
    let all = [
        ("cuda", cfg!(feature = "cuda")),
        ("cudnn", cfg!(feature = "cudnn")),
        ("parquet", cfg!(feature = "parquet")),
    ];
    all.iter().filter(|feature| feature.1).map(|feature| feature.0).collect()
}

#[cfg(target_arch = "x86_64")]
fn instruction_sets() -> Vec<&'static str> {
    let all = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
        // Only if the system lets this process use it.
        ("amx_bf16", ops::Bf16Products::detect() == ops::Bf16Products::Matrices),
    ];
    all.iter().filter(|set| set.1).map(|set| set.0).collect()
}

#[cfg(target_arch = "aarch64")]
fn instruction_sets() -> Vec<&'static str> {
    let all = [("neon", std::arch::is_aarch64_feature_detected!("neon"))];
    all.iter().filter(|set| set.1).map(|set| set.0).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn instruction_sets() -> Vec<&'static str> {
    Vec::new()
}

fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}

impl Findings {
    /// What is wrong.
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
        line("kernels", format!("{} numbers at a time", self.vector_lanes))?;
        line("bf16 products", self.bf16_products.clone())?;
        line("threads", format!("{} on {} cores", self.threads, self.cores))?;
        line("free memory", known(self.free_memory))?;
        let g = &self.gradients;
        let reached = if g.problem.is_none() { "reach" } else { "do NOT reach" };
        line("gradients", format!("of {} {reached} all {} parameters", g.model, g.parameters))?;
        if let Some(s) = &self.speed {
            let step = format!("{:.1} images/s, {:.0} ms a step of {}", s.images_per_s, s.step_ms, s.batch);
            line("speed", format!("{step} at {} pixels", s.size))?;
            line("", format!("{:.0} GFLOP/s, {:.0}% of a matrix product's", s.gflops, 100.0 * s.gemm_share))?;
        }
        let d = &self.disk;
        line("disk", format!("{} free in {}", known(d.free), d.folder.display()))?;
        line("", format!("a checkpoint of {}: {} MiB", g.model, d.checkpoint.div_ceil(1 << 20)))?;
        match self.problems().as_slice() {
            [] => write!(f, "nothing is wrong"),
            problems => write!(f, "WRONG: {}", problems.join("\nWRONG: ")),
        }
    }
}
