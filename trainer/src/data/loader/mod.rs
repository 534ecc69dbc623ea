//! Prepares batches ahead of the training step.

pub(crate) mod order;
pub(crate) mod prepare;
pub(crate) mod replay;
pub(crate) mod request;
pub(crate) mod worker_pool;

use std::ops::Range;
use std::sync::Arc;

use crate::data::batch::Batch;
use crate::data::loader::order::SampleOrder;
use crate::data::loader::prepare::{eval_batch, train_batch};
use crate::data::loader::replay::{ReplayCollator, TrainBatches, WorkerOutput};
use crate::data::loader::request::BatchRequest;
use crate::data::loader::worker_pool::{BusyTime, OrderedWorkers, WorkFn};
use crate::data::pipeline::eval::EvalPipeline;
use crate::data::pipeline::train::TrainPipeline;
use crate::data::pipeline::workspace::Workspace;
use crate::data::source::Source;
use crate::error::DataError;

/// Iterator over prepared batches: the same batches in the same order for any number of workers.
///
/// Each worker takes the next request, prepares the whole batch, and waits while more than two
/// batches per worker are ready. Once a request replays images, one more thread owns the replay
/// buffer and assembles batches. Dropping the loader stops all threads.
pub struct Loader {
    batches: Box<dyn Iterator<Item = Result<Batch, DataError>> + Send>,
    busy: BusyTime,
}

impl Loader {
    /// Prepares training batches for `requests` with `workers` threads.
    ///
    /// # Errors
    /// Returns an error if the system cannot start a thread.
    pub fn train(
        source: Arc<dyn Source>,
        pipeline: TrainPipeline,
        requests: impl Iterator<Item = BatchRequest> + Send + 'static,
        workers: usize,
    ) -> Result<Self, DataError> {
        let collator = ReplayCollator::new(pipeline.clone(), source.classes().len());
        let order = SampleOrder::of(pipeline.sampler, pipeline.seed, &*source);
        let work = move |request: &BatchRequest, w: &mut Workspace| {
            train_batch(&*source, &order, &pipeline, request, w)
        };
        let work: Arc<WorkFn<BatchRequest, WorkerOutput>> = Arc::new(work);
        let outputs = OrderedWorkers::start(&work, requests, workers)?;
        let busy = outputs.busy_time();
        Ok(Self { batches: Box::new(TrainBatches::new(outputs, collator)), busy })
    }

    /// Prepares all images of `source` in order, in batches of `batch`.
    ///
    /// # Errors
    /// Returns an error if the system cannot start a thread.
    pub fn eval(
        source: Arc<dyn Source>,
        pipeline: EvalPipeline,
        batch: usize,
        workers: usize,
    ) -> Result<Self, DataError> {
        Self::eval_share(source, pipeline, batch, workers, (0, 1))
    }

    /// Prepares every so many batches of `source`, of which several processes take turns: `share` is
    /// the position of this one, and their number.
    ///
    /// # Errors
    /// Same as [`Self::eval`].
    pub(crate) fn eval_share(
        source: Arc<dyn Source>,
        pipeline: EvalPipeline,
        batch: usize,
        workers: usize,
        (rank, ranks): (usize, usize),
    ) -> Result<Self, DataError> {
        let (len, batch) = (source.len(), batch.max(1));
        let firsts = (rank * batch..len).step_by(ranks.max(1) * batch);
        let ranges = firsts.map(move |first| first..(first + batch).min(len));
        let work = move |range: &Range<usize>, w: &mut Workspace| eval_batch(&*source, &pipeline, range, w);
        let work: Arc<WorkFn<Range<usize>, Batch>> = Arc::new(work);
        let batches = OrderedWorkers::start(&work, ranges, workers)?;
        let busy = batches.busy_time();
        Ok(Self { batches: Box::new(batches), busy })
    }

    /// Returns the total time that all threads have spent on images so far, in seconds.
    pub fn busy_seconds(&self) -> f64 {
        self.busy.seconds()
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batches.next()
    }
}
