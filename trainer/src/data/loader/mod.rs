//! Batches prepared ahead of the training step.

pub(crate) mod order;
pub(crate) mod replay;
pub(crate) mod request;
pub(crate) mod worker_pool;

use std::sync::Arc;

use efficienttrain_schedule::Replay;
use randaug::soft_targets;

use crate::data::batch::Batch;
use crate::data::decode::{Decoded, bad};
use crate::data::loader::order::SampleOrder;
use crate::data::loader::replay::{Assembled, Assembler, Fresh, Made, Picture};
use crate::data::loader::worker_pool::{Busy, Make, Ordered};
use crate::data::pipeline::eval::EvalPipeline;
use crate::data::pipeline::train::TrainPipeline;
use crate::data::pipeline::view::View;
use crate::data::pipeline::workspace::Workspace;
use crate::data::source::{BadImage, Source};
use crate::error::DataError;

/// One batch to prepare.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request {
    /// Samples of the run before this batch.
    pub first_sample: u64,
    /// Images in the batch, replayed ones included.
    pub count: usize,
    /// Size, magnitude and order; evaluation has its own size.
    pub view: View,
    /// Where part of the images come from; [`Replay::OFF`] if none.
    pub replay: Replay,
    /// Fill the replay buffer with the fresh images and give no batch: so a run that goes on finds the buffer as it was.
    pub only_store: bool,
}

impl Request {
    /// A batch of fresh images.
    pub fn fresh_images(first_sample: u64, count: usize, view: View) -> Self {
        Self { first_sample, count, view, replay: Replay::OFF, only_store: false }
    }

    /// Images to read from the source.
    pub fn fresh(&self) -> usize {
        self.count / self.replay.times.max(1) as usize
    }
}

/// How often a bad image is replaced by the next one before its batch gives up.
const MAX_REPLACEMENTS: u64 = 64;

type Prepared = Result<Batch, DataError>;

/// An iterator over prepared batches: the same ones in the same order for any number of workers.
///
/// Each worker takes the next request, prepares the whole batch, and waits while more than two batches a worker are
/// ready. Where there is a replay buffer, one more thread keeps it and puts batches together. Dropping the loader stops
/// them all.
pub struct Loader {
    batches: Box<dyn Iterator<Item = Prepared> + Send>,
    busy: Busy,
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
        let assembler = Assembler::new(pipeline.clone(), source.classes().len());
        let order = SampleOrder::new(pipeline.seed, source.len());
        let make = move |r: &Request, w: &mut Workspace| train_batch(&*source, &order, &pipeline, r, w);
        let made = Ordered::start(&(Arc::new(make) as Arc<Make<Request, Made>>), requests, workers)?;
        let busy = made.busy();
        Ok(Self { batches: Box::new(Assembled::start(made, assembler)?), busy })
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
        let requests = (0..len)
            .step_by(batch)
            .map(move |first| Request::fresh_images(first as u64, batch.min(len - first), view));
        let make = move |r: &Request, w: &mut Workspace| eval_batch(&*source, &pipeline, r, w);
        let made = Ordered::start(&(Arc::new(make) as Arc<Make<Request, Batch>>), requests, workers)?;
        let busy = made.busy();
        Ok(Self { batches: Box::new(made), busy })
    }

    /// Time that the threads have spent on images so far, all of them together, in seconds.
    pub fn busy_seconds(&self) -> f64 {
        self.busy.seconds()
    }
}

impl Iterator for Loader {
    type Item = Prepared;

    fn next(&mut self) -> Option<Prepared> {
        self.batches.next()
    }
}

fn train_batch(
    source: &dyn Source,
    order: &SampleOrder,
    pipeline: &TrainPipeline,
    request: &Request,
    w: &mut Workspace,
) -> Result<Made, DataError> {
    let mut bad = Vec::new();
    let mut sample = |i: usize| {
        let (epoch, first) = order.at(request.first_sample + i as u64);
        let mut load = |index| pipeline.load(source, (epoch, index), request.view);
        let (index, image) = load_or_next(source, first, &mut bad, &mut load)?;
        Ok::<_, DataError>(((epoch, index), image))
    };
    if request.replay.times > 1 {
        let mut pictures = Vec::with_capacity(request.fresh());
        for i in 0..request.fresh() {
            let (sample, image) = sample(i)?;
            let mut pixels = image::RgbImage::default();
            pipeline.prepare(&image, request.view, sample, w, &mut pixels)?;
            pictures.push(Arc::new(Picture { pixels, label: source.label(sample.1), sample }));
        }
        return Ok(Made::Fresh(Fresh { request: *request, pictures, bad }));
    }
    let classes = source.classes().len();
    let mut batch = pipeline.batch(request.count, request.view.size, classes);
    let mut picture = image::RgbImage::default();
    for i in 0..request.count {
        let (sample, image) = sample(i)?;
        pipeline.prepare(&image, request.view, sample, w, &mut picture)?;
        pipeline.add(&picture, (source.label(sample.1), sample), w, &mut batch)?;
    }
    pipeline.mix(&mut batch, classes, request.first_sample)?;
    Ok(Made::Batch(Batch { bad, ..batch }))
}

/// The image at `first`, or the next after it that can be read.
fn load_or_next(
    source: &dyn Source,
    first: usize,
    bad: &mut Vec<BadImage>,
    load: &mut dyn FnMut(usize) -> Result<Decoded, DataError>,
) -> Result<(usize, Decoded), DataError> {
    let mut index = first;
    for _ in 0..MAX_REPLACEMENTS {
        match load(index) {
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
    let mut batch = Batch::empty(request.count, request.view.size as usize, source.classes().len());
    let values = batch.size * batch.size * 3;
    for index in request.first_sample as usize..request.first_sample as usize + request.count {
        let start = batch.labels.len() * values;
        let mut prepare = |image| {
            let prepared = pipeline.apply(&image, w, &mut batch.pixels[start..start + values]);
            prepared.map_err(|error| bad(&source.name(index), &error))
        };
        match source.load(index).and_then(&mut prepare) {
            Ok(()) => {
                batch.labels.push(source.label(index));
                batch.samples.push(index);
            }
            Err(error) => batch.bad.push(BadImage::of(source, index, &error)),
        }
    }
    batch.pixels.truncate(batch.labels.len() * values);
    let targets = soft_targets(&batch.labels, source.classes().len(), 1.0, 0.0);
    batch.targets = targets.map_err(|e| DataError::Setting(e.to_string()))?;
    Ok(batch)
}
