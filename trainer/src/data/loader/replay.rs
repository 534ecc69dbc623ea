//! Training batches of fresh and replayed images (the replay buffer of the paper).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use crate::util::purposes::REPLAY;
use efficienttrain_schedule::{Replay, ReplayBuffer, even_split};
use image::RgbImage;
use rand::RngExt;
use randaug::sample_rng;

use crate::data::batch::Batch;
use crate::data::labels::ImageLabels;
use crate::data::loader::request::BatchRequest;
use crate::data::loader::worker_pool::{OrderedWorkers, catch_panic, spawn};
use crate::data::pipeline::sample::SampleId;
use crate::data::pipeline::train::TrainPipeline;
use crate::data::pipeline::workspace::Workspace;
use crate::data::source::BadImage;
use crate::error::DataError;

/// A cropped and augmented image, before normalization and erasing: 8 bits per value take a quarter
/// of the memory. The random draws for erasing are a function of the sample, so each replay gives
/// the same values.
#[derive(Debug)]
pub(crate) struct PreparedImage {
    pub(crate) pixels: RgbImage,
    pub(crate) labels: ImageLabels,
    pub(crate) sample: SampleId,
}

/// The fresh images of one training batch.
pub(crate) struct FreshImages {
    pub(crate) request: BatchRequest,
    pub(crate) images: Vec<Arc<PreparedImage>>,
    pub(crate) bad: Vec<BadImage>,
}

/// Output of a worker: a complete batch, or the fresh images of a batch with replay.
pub(crate) enum WorkerOutput {
    Batch(Batch),
    Fresh(FreshImages),
}

/// Properties that images must share to share a buffer.
#[derive(Clone, Copy, PartialEq)]
struct BufferKey {
    size: u32,
    fresh: usize,
    replay: Replay,
}

/// Owns the replay buffers and assembles batches in order, since a buffer depends on their order.
pub(crate) struct ReplayCollator {
    pipeline: TrainPipeline,
    classes: usize,
    /// One for each device slot.
    buffers: BTreeMap<u32, (BufferKey, ReplayBuffer<Arc<PreparedImage>>)>,
    workspace: Workspace,
}

impl ReplayCollator {
    pub(crate) fn new(pipeline: TrainPipeline, classes: usize) -> Self {
        Self { pipeline, classes, buffers: BTreeMap::new(), workspace: Workspace::default() }
    }

    /// Returns the training batch; none if the request only fills the buffer.
    fn collate(&mut self, output: WorkerOutput) -> Result<Option<Batch>, DataError> {
        let FreshImages { request, images, bad } = match output {
            WorkerOutput::Batch(batch) => return Ok(Some(batch)),
            WorkerOutput::Fresh(fresh) => fresh,
        };
        let mut rng = sample_rng(self.pipeline.seed, 0, request.first_sample, REPLAY);
        let images = self.buffer(&request)?.next_batch(&images, |n| rng.random_range(0..n))?;
        if request.warm_replay_only {
            return Ok(None);
        }
        self.assemble(&request, &images, bad).map(Some)
    }

    fn assemble(
        &mut self,
        request: &BatchRequest,
        images: &[Arc<PreparedImage>],
        bad: Vec<BadImage>,
    ) -> Result<Batch, DataError> {
        let empty = self.pipeline.empty_batch(images.len(), request.view.size, self.classes);
        let mut batch = Batch { bad, ..empty };
        for image in images {
            let PreparedImage { pixels, labels, sample } = &**image;
            self.pipeline.append(pixels, labels, *sample, &mut self.workspace, &mut batch)?;
        }
        self.pipeline.mix(&mut batch, self.classes, request.first_sample)?;
        Ok(batch)
    }

    /// Returns the buffer for a request, that of its slot; it starts empty if its images have other
    /// properties than those before.
    fn buffer(&mut self, request: &BatchRequest) -> Result<&mut ReplayBuffer<Arc<PreparedImage>>, DataError> {
        let key = BufferKey { size: request.view.size, fresh: request.fresh(), replay: request.replay };
        let kept = self.buffers.remove(&request.slot).filter(|(of, _)| *of == key);
        let buffer = match kept {
            Some((_, buffer)) => buffer,
            None => {
                let split = even_split(u32::try_from(request.fresh()).unwrap_or(u32::MAX));
                let Replay { times, buffer_batches } = request.replay;
                ReplayBuffer::new(times, buffer_batches, split)?
            }
        };
        Ok(&mut self.buffers.entry(request.slot).or_insert((key, buffer)).1)
    }
}

/// Training batches in order: directly from the workers, or assembled on a thread once a batch
/// replays images.
pub(crate) enum TrainBatches {
    Direct { outputs: OrderedWorkers<WorkerOutput>, collator: Box<ReplayCollator> },
    Collated(CollatorThread),
    Ended,
}

impl TrainBatches {
    pub(crate) fn new(outputs: OrderedWorkers<WorkerOutput>, collator: ReplayCollator) -> Self {
        Self::Direct { outputs, collator: Box::new(collator) }
    }
}

impl Iterator for TrainBatches {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let fresh = match self {
            Self::Ended => return None,
            Self::Collated(thread) => return thread.next(),
            Self::Direct { outputs, .. } => match outputs.next()? {
                Ok(WorkerOutput::Batch(batch)) => return Some(Ok(batch)),
                Ok(WorkerOutput::Fresh(fresh)) => fresh,
                Err(error) => return Some(Err(error)),
            },
        };
        let Self::Direct { outputs, collator } = std::mem::replace(self, Self::Ended) else { return None };
        match CollatorThread::start(fresh, outputs, *collator) {
            Ok(thread) => {
                *self = Self::Collated(thread);
                self.next()
            }
            Err(error) => Some(Err(error)),
        }
    }
}

/// Thread that assembles batches, so that the training step does not wait for it.
pub(crate) struct CollatorThread {
    batches: Option<Receiver<Result<Batch, DataError>>>,
    thread: Option<JoinHandle<()>>,
}

impl CollatorThread {
    /// Starts the thread with `first`, which precedes `outputs`.
    ///
    /// # Errors
    /// Returns an error if the system cannot start a thread.
    fn start(
        first: FreshImages,
        outputs: OrderedWorkers<WorkerOutput>,
        mut collator: ReplayCollator,
    ) -> Result<Self, DataError> {
        let (send, batches) = sync_channel(1);
        let work = move || {
            for output in std::iter::once(Ok(WorkerOutput::Fresh(first))).chain(outputs) {
                let batch = catch_panic(|| collator.collate(output?));
                let Some(batch) = batch.transpose() else { continue };
                let failed = batch.is_err();
                if send.send(batch).is_err() || failed {
                    break;
                }
            }
        };
        Ok(Self { batches: Some(batches), thread: Some(spawn("data-replay".into(), work)?) })
    }
}

impl Iterator for CollatorThread {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batches.as_ref()?.recv().ok()
    }
}

impl Drop for CollatorThread {
    fn drop(&mut self) {
        // The thread ends when it cannot send a batch, and stops the workers.
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
