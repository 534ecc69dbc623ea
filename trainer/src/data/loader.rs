//! Worker threads that prepare batches ahead of the training step, and hand them over in order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use randaug::{BatchShape, Layout, Mixup, Purpose, sample_rng, soft_targets};

use super::order::SampleOrder;
use super::pipeline::{EvalPipeline, TrainPipeline, View, Workspace};
use super::{BadImage, Batch, Source};
use crate::error::DataError;

/// One batch to prepare.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request {
    /// Samples of the run before this batch.
    pub first_sample: u64,
    /// Images in the batch.
    pub count: usize,
    /// Size, magnitude and order; evaluation has its own size.
    pub view: View,
}

/// How often a bad image is replaced by the next one before its batch gives up.
const MAX_REPLACEMENTS: u64 = 64;

type Prepared = Result<Batch, DataError>;
type Make = dyn Fn(&Request, &mut Workspace) -> Prepared + Send + Sync;

/// An iterator over prepared batches: the same ones in the same order for any number of workers.
///
/// Each worker takes the next request, prepares the whole batch, and waits while more than two batches a worker are
/// ready. Dropping the loader stops the workers.
pub struct Loader {
    finished: Receiver<(usize, Prepared)>,
    /// Batches that are ready before their turn.
    early: HashMap<usize, Prepared>,
    next: usize,
    stop: Arc<AtomicBool>,
    /// A place for each batch that may be under way; workers take one before they begin.
    permits: Option<SyncSender<()>>,
    workers: Vec<JoinHandle<()>>,
    failed: bool,
}

impl Loader {
    /// Prepares training batches for `requests` with `workers` threads.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn train(
        source: Arc<dyn Source>,
        pipeline: TrainPipeline,
        requests: impl Iterator<Item = Request> + Send + 'static,
        workers: usize,
    ) -> Result<Self, DataError> {
        let order = SampleOrder::new(pipeline.seed, source.len());
        let make = move |r: &Request, w: &mut Workspace| train_batch(&*source, &order, &pipeline, r, w);
        Self::start(&(Arc::new(make) as Arc<Make>), requests, workers)
    }

    /// Prepares all images of `source` in order, `batch` at a time.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn eval(
        source: Arc<dyn Source>,
        pipeline: EvalPipeline,
        batch: usize,
        workers: usize,
    ) -> Result<Self, DataError> {
        let (len, batch) = (source.len(), batch.max(1));
        let view = View {
            size: pipeline.size as u32,
            magnitude: 0.0,
            order: efficienttrain_schedule::Order::CropThenAugment,
        };
        let requests = (0..len).step_by(batch).map(move |first| Request {
            first_sample: first as u64,
            count: batch.min(len - first),
            view,
        });
        let make = move |r: &Request, w: &mut Workspace| eval_batch(&*source, &pipeline, r, w);
        Self::start(&(Arc::new(make) as Arc<Make>), requests, workers)
    }

    fn start(
        make: &Arc<Make>,
        requests: impl Iterator<Item = Request> + Send + 'static,
        workers: usize,
    ) -> Result<Self, DataError> {
        let workers = workers.max(1);
        let ahead = 2 * workers;
        let (done, finished) = sync_channel(ahead);
        let (permits, taken) = sync_channel(ahead);
        let queue = Arc::new(Mutex::new((requests.enumerate(), taken)));
        let stop = Arc::new(AtomicBool::new(false));
        let mut loader = Self {
            finished,
            early: HashMap::new(),
            next: 0,
            stop: stop.clone(),
            permits: Some(permits),
            workers: Vec::new(),
            failed: false,
        };
        for _ in 0..ahead {
            loader.permit();
        }
        for i in 0..workers {
            let (queue, done, make, stop) = (queue.clone(), done.clone(), make.clone(), stop.clone());
            let work = move || {
                let mut workspace = Workspace::default();
                while !stop.load(Ordering::Relaxed) {
                    let Some((index, request)) = next_request(&queue) else { break };
                    let batch = guarded(&*make, &request, &mut workspace);
                    if done.send((index, batch)).is_err() {
                        break;
                    }
                }
            };
            let thread = std::thread::Builder::new().name(format!("data-{i}")).spawn(work);
            loader.workers.push(thread.map_err(|e| DataError::Worker(format!("cannot start: {e}")))?);
        }
        Ok(loader)
    }

    fn permit(&self) {
        if let Some(permits) = &self.permits {
            // Full or closed both mean that no worker waits for it.
            let _ = permits.try_send(());
        }
    }
}

/// Waits for a permit and takes the next request; none when either has ended.
fn next_request<I: Iterator<Item = (usize, Request)>>(
    queue: &Mutex<(I, Receiver<()>)>,
) -> Option<(usize, Request)> {
    let mut queue = queue.lock().ok()?;
    queue.1.recv().ok()?;
    queue.0.next()
}

/// Runs a worker's step; a panic becomes an error, so that the run ends with a message and never hangs.
fn guarded(make: &Make, request: &Request, workspace: &mut Workspace) -> Prepared {
    let run = std::panic::AssertUnwindSafe(|| make(request, workspace));
    std::panic::catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(DataError::Worker(format!("it panicked: {text}; this is a bug of efficienttrain")))
    })
}

impl Iterator for Loader {
    type Item = Prepared;

    fn next(&mut self) -> Option<Prepared> {
        if self.failed {
            return None;
        }
        let batch = loop {
            if let Some(batch) = self.early.remove(&self.next) {
                break batch;
            }
            let (index, batch) = self.finished.recv().ok()?;
            self.early.insert(index, batch);
        };
        self.next += 1;
        self.failed = batch.is_err();
        self.permit();
        Some(batch)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.permits = None;
        // Workers may wait for room to hand over: take what they have until all have ended.
        while self.finished.recv().is_ok() {}
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

fn train_batch(
    source: &dyn Source,
    order: &SampleOrder,
    pipeline: &TrainPipeline,
    request: &Request,
    w: &mut Workspace,
) -> Prepared {
    let mut batch = Batch::empty(request, source);
    let values = batch.size * batch.size * 3;
    for (i, out) in (0..request.count as u64).zip(batch.pixels.chunks_exact_mut(values)) {
        let count = request.first_sample + i;
        let (epoch, first) = order.at(count);
        let (index, image) = load_or_next(source, first, &mut batch.bad)?;
        batch.labels.push(source.label(index));
        pipeline.apply(&image, request.view, (epoch, index), w, out)?;
    }
    let a = &pipeline.augmentation;
    let mixup = Mixup {
        mixup_alpha: a.mixup,
        cutmix_alpha: a.cutmix,
        switch_prob: a.switch_probability,
        label_smoothing: a.label_smoothing,
        ..Mixup::default()
    };
    let shape = BatchShape {
        batch: request.count,
        channels: 3,
        height: batch.size,
        width: batch.size,
        layout: Layout::Hwc,
    };
    let mut rng = sample_rng(pipeline.seed, 0, request.first_sample, Purpose::Mix);
    let mixed = mixup.apply(&mut batch.pixels, &shape, &batch.labels, source.classes().len(), &mut rng);
    batch.targets = mixed.map_err(|e| DataError::Setting(e.to_string()))?.0;
    Ok(batch)
}

/// The image at `first`, or the next after it that can be read.
fn load_or_next(
    source: &dyn Source,
    first: usize,
    bad: &mut Vec<BadImage>,
) -> Result<(usize, image::RgbImage), DataError> {
    let mut index = first;
    for _ in 0..MAX_REPLACEMENTS {
        match source.load(index) {
            Ok(image) => return Ok((index, image)),
            Err(error) => bad.push(BadImage::of(source, index, &error)),
        }
        index = (index + 1) % source.len();
    }
    let examples = bad.iter().take(3).map(|b| b.reason.clone()).collect::<Vec<_>>().join("; ");
    let what = format!(
        "{MAX_REPLACEMENTS} images in a row could not be read: {examples}; is this the right folder?"
    );
    Err(DataError::Setting(what))
}

fn eval_batch(
    source: &dyn Source,
    pipeline: &EvalPipeline,
    request: &Request,
    w: &mut Workspace,
) -> Prepared {
    let mut batch = Batch::empty(request, source);
    let values = batch.size * batch.size * 3;
    for index in request.first_sample as usize..request.first_sample as usize + request.count {
        match source.load(index) {
            Ok(image) => {
                let start = batch.labels.len() * values;
                pipeline.apply(&image, w, &mut batch.pixels[start..start + values])?;
                batch.labels.push(source.label(index));
            }
            Err(error) => batch.bad.push(BadImage::of(source, index, &error)),
        }
    }
    batch.pixels.truncate(batch.labels.len() * values);
    let targets = soft_targets(&batch.labels, source.classes().len(), 1.0, 0.0);
    batch.targets = targets.map_err(|e| DataError::Setting(e.to_string()))?;
    Ok(batch)
}

impl Batch {
    fn empty(request: &Request, source: &dyn Source) -> Self {
        let size = request.view.size as usize;
        Self {
            pixels: vec![0.0; request.count * size * size * 3],
            targets: Vec::with_capacity(request.count * source.classes().len()),
            labels: Vec::with_capacity(request.count),
            size,
            bad: Vec::new(),
        }
    }
}
