//! Training batches of fresh and replayed pictures (paper, section on the replay buffer).

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use efficienttrain_schedule::{Replay, ReplayBuffer, even_split};
use image::RgbImage;
use rand::RngExt;
use randaug::{Purpose, sample_rng};

use crate::data::batch::Batch;
use crate::data::loader::Request;
use crate::data::loader::worker_pool::{Ordered, guarded, spawn};
use crate::data::pipeline::train::TrainPipeline;
use crate::data::pipeline::workspace::Workspace;
use crate::data::source::BadImage;
use crate::error::DataError;

/// Stream of the draws from the buffer.
const DRAWS: Purpose = Purpose::Other(2);

/// A picture that is cropped and augmented, but neither normalised nor erased: 8 bits a value, a quarter of the memory.
/// Its sample's draws for erasing are a function of the sample, so each replay gives the same values.
#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) pixels: RgbImage,
    pub(crate) label: u32,
    /// Epoch and index.
    pub(crate) sample: (u64, usize),
}

/// The fresh pictures of one training batch.
pub(crate) struct Fresh {
    pub(crate) request: Request,
    pub(crate) pictures: Vec<Arc<Picture>>,
    pub(crate) bad: Vec<BadImage>,
}

/// What a worker makes of a request: all there is to do, or, for a batch with replay, its fresh pictures.
pub(crate) enum Made {
    Batch(Batch),
    Fresh(Fresh),
}

/// What pictures must have in common to share a buffer: edge, number of fresh ones in a batch, and rule.
type PictureKind = (u32, usize, Replay);

/// Keeps the buffer and puts batches together. One after the other, as the buffer's content depends on their order.
pub(crate) struct Assembler {
    pipeline: TrainPipeline,
    classes: usize,
    /// The buffer, and what its pictures are.
    buffer: Option<(PictureKind, ReplayBuffer<Arc<Picture>>)>,
    workspace: Workspace,
}

impl Assembler {
    pub(crate) fn new(pipeline: TrainPipeline, classes: usize) -> Self {
        Self { pipeline, classes, buffer: None, workspace: Workspace::default() }
    }

    /// The training batch; none where a request only fills the buffer.
    fn assemble(&mut self, made: Made) -> Result<Option<Batch>, DataError> {
        let Fresh { request, pictures, bad } = match made {
            Made::Batch(batch) => return Ok(Some(batch)),
            Made::Fresh(fresh) => fresh,
        };
        let mut rng = sample_rng(self.pipeline.seed, 0, request.first_sample, DRAWS);
        let pictures = self.buffer(&request)?.next_batch(&pictures, |n| rng.random_range(0..n));
        let pictures = pictures?;
        if request.only_store {
            return Ok(None);
        }
        self.pack(&request, &pictures, bad).map(Some)
    }

    fn pack(
        &mut self,
        request: &Request,
        pictures: &[Arc<Picture>],
        bad: Vec<BadImage>,
    ) -> Result<Batch, DataError> {
        let empty = self.pipeline.batch(pictures.len(), request.view.size, self.classes);
        let mut batch = Batch { bad, ..empty };
        for picture in pictures {
            let of = (picture.label, picture.sample);
            self.pipeline.add(&picture.pixels, of, &mut self.workspace, &mut batch)?;
        }
        self.pipeline.mix(&mut batch, self.classes, request.first_sample)?;
        Ok(batch)
    }

    /// The buffer for a request: an empty one where its pictures are of another kind than those before.
    fn buffer(&mut self, request: &Request) -> Result<&mut ReplayBuffer<Arc<Picture>>, DataError> {
        let kind = (request.view.size, request.fresh(), request.replay);
        let kept = self.buffer.take().filter(|(of, _)| *of == kind);
        let buffer = match kept {
            Some((_, buffer)) => buffer,
            None => {
                let split = even_split(u32::try_from(request.fresh()).unwrap_or(u32::MAX));
                let Replay { times, buffer_batches } = request.replay;
                ReplayBuffer::new(times, buffer_batches, split)?
            }
        };
        Ok(&mut self.buffer.insert((kind, buffer)).1)
    }
}

/// Batches from a thread of their own, so that putting them together does not hold up the step.
pub(crate) struct Assembled {
    batches: Option<Receiver<Result<Batch, DataError>>>,
    thread: Option<JoinHandle<()>>,
}

impl Assembled {
    /// Puts batches together from what workers make.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(crate) fn start(made: Ordered<Made>, mut assembler: Assembler) -> Result<Self, DataError> {
        let (send, batches) = sync_channel(1);
        let work = move || {
            for made in made {
                let batch = guarded(|| assembler.assemble(made?));
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

impl Iterator for Assembled {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batches.as_ref()?.recv().ok()
    }
}

impl Drop for Assembled {
    fn drop(&mut self) {
        // The thread ends when it cannot hand over, and takes the workers with it.
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
