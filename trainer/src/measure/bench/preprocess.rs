//! Speed of image preparation, and the time of each stage.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::data::loader::Loader;
use crate::data::loader::order::SampleOrder;
use crate::data::loader::request::BatchRequest;
use crate::data::pipeline::sample::ViewSpec;
use crate::data::pipeline::timer::{PipelineStage, StageTimer};
use crate::data::pipeline::train::TrainPipeline;
use crate::data::pipeline::workspace::Workspace;
use crate::data::source::Source;
use crate::error::DataError;

/// Batch size in the measurement of the loader.
const BATCH: usize = 64;
/// Largest number of images to prepare before timing starts.
const WARM_UP: usize = 64;

/// Settings of the measurement.
#[derive(Clone, Copy, Debug)]
pub struct PreprocessBench {
    /// Number of images to prepare, from the start of the training order.
    pub images: usize,
    /// Size, magnitude and order.
    pub view: ViewSpec,
    /// Also measure the loader end to end, with one thread and with this many.
    pub workers: Option<usize>,
}

/// Result of the measurement.
#[derive(Clone, Debug, Serialize)]
pub struct PreprocessReport {
    /// Number of images prepared.
    pub images: usize,
    /// Pixels of a decoded image, on average.
    pub pixels_per_image: f64,
    /// Images per second and core, from file to normalized image.
    pub images_per_s_core: f64,
    /// Images per second and core for decoding alone, which is the upper limit.
    pub decode_images_per_s_core: f64,
    /// Time of each stage.
    pub stages: BTreeMap<&'static str, StageTime>,
    /// Speed of the loader, mixup included.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub loader: Vec<LoaderRate>,
}

/// Time of one stage.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StageTime {
    /// Microseconds of one core per image.
    pub us_per_image: f64,
    /// Fraction of the time of all stages, 0 to 1.
    pub share: f64,
}

/// Speed of the loader.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LoaderRate {
    /// Number of threads.
    pub workers: usize,
    /// Images per second of wall time, median of several rounds.
    pub images_per_s: f64,
}

/// Prepares images on this thread like a worker of the loader, and measures the time.
///
/// Measures the CPU time of this thread if the system reports it, otherwise wall time. It is
/// divided between the stages in proportion to their wall times.
///
/// # Errors
/// Returns an error if an image cannot be read, or a setting is out of range.
pub fn preprocess(
    source: &Arc<dyn Source>,
    pipeline: &TrainPipeline,
    bench: PreprocessBench,
) -> Result<PreprocessReport, DataError> {
    let images = bench.images.max(1);
    let mut worker = Worker::new(&**source, pipeline, bench.view);
    worker.prepare(images.min(WARM_UP))?;
    worker.workspace.clock = Some(StageTimer::start());
    let (wall, processor) = (Instant::now(), thread_time());
    let pixels = worker.prepare(images)?;
    let wall = wall.elapsed();
    let spent = processor.and_then(|start| thread_time()?.checked_sub(start));
    let spent = spent.filter(|spent| !spent.is_zero()).unwrap_or(wall);
    let clock = worker.workspace.clock.take().unwrap_or_else(StageTimer::start);
    let loader = bench.workers.map_or(Ok(Vec::new()), |n| loader_rates(source, pipeline, bench, n))?;
    Ok(PreprocessReport::new(images, pixels, spent, &clock, loader))
}

/// State of a loader's worker.
struct Worker<'a> {
    source: &'a dyn Source,
    pipeline: &'a TrainPipeline,
    view: ViewSpec,
    order: SampleOrder,
    workspace: Workspace,
    out: Vec<f32>,
}

impl<'a> Worker<'a> {
    fn new(source: &'a dyn Source, pipeline: &'a TrainPipeline, view: ViewSpec) -> Self {
        let out = vec![0.0; pipeline.normalization.image_len(view.size as usize)];
        let order = SampleOrder::new(pipeline.seed, source.len());
        Self { source, pipeline, view, order, workspace: Workspace::default(), out }
    }

    /// Prepares some images; returns the pixels of the decoded ones.
    fn prepare(&mut self, images: usize) -> Result<u64, DataError> {
        let mut pixels = 0;
        for count in 0..images as u64 {
            let sample = self.order.at(count);
            let image = self.pipeline.load(self.source, sample, self.view)?;
            self.workspace.mark(PipelineStage::Decode);
            pixels += u64::from(image.full.0) * u64::from(image.full.1);
            self.pipeline.apply(&image, self.view, sample, &mut self.workspace, &mut self.out)?;
        }
        Ok(pixels)
    }
}

impl PreprocessReport {
    fn new(images: usize, pixels: u64, spent: Duration, clock: &StageTimer, loader: Vec<LoaderRate>) -> Self {
        let all: f64 = PipelineStage::ALL.iter().map(|&s| clock.total(s).as_secs_f64()).sum();
        let us = spent.as_secs_f64() * 1e6 / images as f64;
        let share = |stage| clock.total(stage).as_secs_f64() / all.max(f64::MIN_POSITIVE);
        let time = |stage| StageTime { us_per_image: us * share(stage), share: share(stage) };
        Self {
            images,
            pixels_per_image: pixels as f64 / images as f64,
            images_per_s_core: 1e6 / us,
            decode_images_per_s_core: 1e6 / time(PipelineStage::Decode).us_per_image,
            stages: PipelineStage::ALL.into_iter().map(|stage| (stage.name(), time(stage))).collect(),
            loader,
        }
    }
}

/// Alternates between one worker and many, so that changes in the machine's speed affect both.
fn loader_rates(
    source: &Arc<dyn Source>,
    pipeline: &TrainPipeline,
    bench: PreprocessBench,
    workers: usize,
) -> Result<Vec<LoaderRate>, DataError> {
    const ROUNDS: usize = 5;
    let counts = if workers > 1 { vec![1, workers] } else { vec![1] };
    let mut seen = vec![Vec::new(); counts.len()];
    for _ in 0..ROUNDS {
        for (&workers, seen) in counts.iter().zip(&mut seen) {
            seen.push(loader_rate(source, pipeline, bench, workers)?);
        }
    }
    let median = |rates: &mut Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates[ROUNDS / 2]
    };
    let rates = counts.iter().zip(&mut seen);
    Ok(rates.map(|(&workers, seen)| LoaderRate { workers, images_per_s: median(seen) }).collect())
}

fn loader_rate(
    source: &Arc<dyn Source>,
    pipeline: &TrainPipeline,
    bench: PreprocessBench,
    workers: usize,
) -> Result<f64, DataError> {
    let batches = bench.images.div_ceil(BATCH).max(2 * workers);
    let view = bench.view;
    let requests = (0..batches).map(move |i| BatchRequest::fresh_images((i * BATCH) as u64, BATCH, view));
    let start = Instant::now();
    for batch in Loader::train(source.clone(), pipeline.clone(), requests, workers)? {
        std::hint::black_box(batch?);
    }
    Ok((batches * BATCH) as f64 / start.elapsed().as_secs_f64())
}

/// Returns the CPU time of this thread so far, if the system reports it.
fn thread_time() -> Option<Duration> {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let (seconds, nanoseconds) = (u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?);
        Some(Duration::new(seconds, nanoseconds))
    }
    #[cfg(not(unix))]
    None
}
