//! Cost of training on several processes: sums of gradients, agreements, and how much of them a
//! backward pass hides.

use std::time::Instant;

use efficienttrain_models::{Gradients, ModelOptions, ParamKind, create_model};
use efficienttrain_schedule::Recipe;
use serde::Serialize;

use crate::config::device::DeviceName;
use crate::config::precision::Precision;
use crate::config::values::{SumMethod, SumType};
use crate::data::batch::Batch;
use crate::distributed::buckets::{Buckets, GradientReducer};
use crate::distributed::group::Group;
use crate::distributed::sums::open_sums;
use crate::error::{Error, Result};
use crate::measure::timing::no_change;
use crate::training::state::TrainState;

/// Settings of the measurement.
#[derive(Clone, Debug)]
pub struct RanksBench {
    /// Model, by any of its names.
    pub model: String,
    /// Edge of the images, in pixels.
    pub size: usize,
    /// Images of each process.
    pub batch: usize,
    /// Number of timed repetitions; at least 1.
    pub repetitions: usize,
    /// Device.
    pub device: DeviceName,
    /// Precision of activations.
    pub precision: Precision,
    /// Way of adding up gradients on GPUs.
    pub sums: SumMethod,
    /// Type of the numbers of sums.
    pub sum_type: SumType,
    /// Size of the buckets of gradients, in MiB.
    pub bucket_mib: f64,
}

/// What several processes cost. Times are medians of the slowest process, in wall-clock milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct RanksReport {
    /// Model.
    pub model: String,
    /// Edge of the images, in pixels.
    pub size: usize,
    /// Images of each process.
    pub batch: usize,
    /// Number of processes.
    pub processes: usize,
    /// Their hosts, and the number of processes of each.
    pub hosts: Vec<(String, usize)>,
    /// Compute threads of each process.
    pub threads: usize,
    /// Gradients, in bytes, as they are sent.
    pub gradient_bytes: u64,
    /// Time for a small message from each to each.
    pub agreement_ms: f64,
    /// Forward and backward pass, without sums.
    pub pass_ms: f64,
    /// Sums of all gradients, without a pass.
    pub sums_ms: f64,
    /// Processor time of the sums in one process.
    pub sums_processor_ms: Option<f64>,
    /// A pass with its sums, losses and statistics.
    pub both_ms: f64,
    /// The optimizer's update.
    pub update_ms: f64,
    /// Share of the sums, or of the pass if that is shorter, that ran beside the other, 0 to 1.
    pub overlap: f64,
    /// Bytes per second that each process would send in a ring in the time of the sums.
    pub bandwidth: f64,
    /// Time of a step of one process over that of a step of these, images being equal: the number of
    /// processes at best.
    pub speedup: f64,
}

/// Measures together with the other processes of a group. All get the report.
///
/// # Errors
/// Returns an error if the model is unknown or does not support the size, the process is alone, or
/// another one fails.
pub fn ranks(group: &Group, bench: &RanksBench) -> Result<RanksReport> {
    if !group.is_shared() {
        let what = "this process is alone; start several, such as `mpirun -n 2 efficienttrain bench ranks --model resnet50`";
        return Err(Error::config("engine", what));
    }
    if bench.batch == 0 || bench.repetitions == 0 {
        return Err(Error::config("batch", "batch and repetitions must be above 0"));
    }
    Measurement::new(group, bench)?.report()
}

struct Measurement<'a> {
    group: &'a Group,
    bench: &'a RanksBench,
    state: TrainState,
    buckets: Buckets,
    batch: Batch,
}

impl<'a> Measurement<'a> {
    fn new(group: &'a Group, bench: &'a RanksBench) -> Result<Self> {
        let options = ModelOptions { input_size: [bench.size; 2], ..ModelOptions::default() };
        let name = create_model(&bench.model, &options)?.name().to_string();
        let recipe = Recipe { ema_decay: None, ..Recipe::named(&format!("{name}-baseline"))? };
        let mut state = TrainState::new(&options, &recipe, 0)?;
        state.precision = bench.precision;
        state.move_to(&bench.device.open()?)?;
        state.check_precision()?;
        let batch = Batch::random(bench.batch, &*state.model, state.device())?;
        let sums = open_sums(group, state.device(), bench.sums, bench.sum_type)?;
        let buckets = Buckets::new(bench.bucket_mib, sums);
        Ok(Self { group, bench, state, buckets, batch })
    }

    fn report(mut self) -> Result<RanksReport> {
        let agreement_ms = self.median(|m| m.group.agree(Ok(())))?;
        let pass_ms = self.median(Self::pass)?;
        let step_ms = self.median(Self::step)?;
        let gradients = like_gradients(&self.state)?;
        let numbers: usize = gradients.iter().map(|(_, gradient)| gradient.elem_count()).sum();
        let bytes = (numbers * if self.bench.sum_type == SumType::Bf16 { 2 } else { 4 }) as u64;
        let before = processor_ms();
        let sums_ms = self.median(|m| add_up(m.group, &mut m.buckets, &m.state, &gradients))?;
        // The warm-up is one more.
        let sums_processor_ms = processor_ms()
            .zip(before)
            .map(|(after, before)| (after - before) / (self.bench.repetitions + 1) as f64);
        // The order of a backward pass is another one.
        self.buckets.forget();
        let both_ms = self.median(Self::both)?;
        let (w, update_ms) = (self.group.size() as f64, (step_ms - pass_ms).max(0.0));
        let model = &self.state.model;
        Ok(RanksReport {
            model: model.name().into(),
            size: self.bench.size,
            batch: self.bench.batch,
            processes: self.group.size(),
            hosts: self.group.hosts(),
            threads: rayon::current_num_threads(),
            gradient_bytes: bytes,
            agreement_ms,
            pass_ms,
            sums_ms,
            sums_processor_ms,
            both_ms,
            update_ms,
            overlap: ((pass_ms + sums_ms - both_ms) / pass_ms.min(sums_ms)).clamp(0.0, 1.0),
            bandwidth: 2.0 * (w - 1.0) / w * bytes as f64 / sums_ms * 1e3,
            speedup: w * (pass_ms + update_ms / w) / (both_ms + update_ms),
        })
    }

    /// Times `work` on all processes, which begin together; returns the median of the slowest.
    fn median(&mut self, mut work: impl FnMut(&mut Self) -> Result<()>) -> Result<f64> {
        let mut times = Vec::new();
        for i in 0..=self.bench.repetitions {
            self.group.agree(Ok(()))?;
            let begun = Instant::now();
            work(self)?;
            let own = 1e3 * begun.elapsed().as_secs_f64();
            let all = self.group.gather(own.to_le_bytes().to_vec())?;
            let read = |bytes: &Vec<u8>| bytes.first_chunk().map_or(0.0, |&x| f64::from_le_bytes(x));
            if i > 0 {
                times.push(all.iter().map(read).fold(0.0, f64::max));
            }
        }
        times.sort_by(f64::total_cmp);
        Ok(f64::midpoint(times[(times.len() - 1) / 2], times[times.len() / 2]))
    }

    fn pass(&mut self) -> Result<()> {
        self.state.begin_step()?.accumulate(&self.batch, 1.0, 0.0, 0)
    }

    fn step(&mut self) -> Result<()> {
        self.state.train_on(&self.batch, 0, &no_change(), None).map(|_| ())
    }

    fn both(&mut self) -> Result<()> {
        let mut reducer = GradientReducer::new(self.group, &mut self.buckets);
        let mut step = self.state.begin_shared_step(self.group.rank() as u32)?;
        step.accumulate_last(&self.batch, 1.0 / self.group.size() as f64, 0.0, 0, &mut reducer)?;
        step.combine(reducer, ()).map(|_| ())
    }
}

/// Times the sums of all gradients of a model over the processes, in seconds: the faster of two after
/// a warm-up.
///
/// # Errors
/// Returns an error if a process fails.
pub(crate) fn time_sums(group: &Group, state: &TrainState, buckets: &mut Buckets) -> Result<f64> {
    let gradients = like_gradients(state)?;
    let mut best = f64::INFINITY;
    for pass in 0..3 {
        group.agree(Ok(()))?;
        let begun = Instant::now();
        add_up(group, buckets, state, &gradients)?;
        if pass > 0 {
            best = best.min(begun.elapsed().as_secs_f64());
        }
    }
    Ok(best)
}

/// Returns tensors of the shapes of a model's gradients.
fn like_gradients(state: &TrainState) -> Result<Gradients> {
    let mut gradients = Gradients::new(state.params.len());
    for (id, spec) in state.params.ids().zip(state.model.specs()) {
        if spec.kind == ParamKind::Parameter && !state.is_frozen(id) {
            gradients.set(id, state.params.get(id).copy()?);
        }
    }
    Ok(gradients)
}

/// Adds up gradients over all processes.
fn add_up(group: &Group, buckets: &mut Buckets, state: &TrainState, gradients: &Gradients) -> Result<()> {
    let terms = group.terms();
    let mut reducer = GradientReducer::new(group, buckets);
    let mut all: Vec<_> = gradients.iter().collect();
    // In the order of a backward pass, more or less.
    all.reverse();
    for (id, gradient) in all {
        reducer.add(id, vec![gradient.clone(); terms])?;
    }
    reducer.complete()?;
    reducer.finish(&state.params, &mut Gradients::new(state.params.len()))
}

/// Returns the processor time of this process so far, if the system reports it.
fn processor_ms() -> Option<f64> {
    /// Ticks are hundredths of a second on Linux.
    const TICK_MS: f64 = 10.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in parentheses, may have spaces.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks as f64 * TICK_MS)
}
