//! Training batches of fresh and replayed pictures (paper, section on the replay buffer).

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use efficienttrain_schedule::{Replay, ReplayBuffer, even_split};
use image::RgbImage;
use rand::RngExt;
use randaug::sample_rng;

use super::ordered::{Ordered, guarded, spawn};
use super::pipeline::{TrainPipeline, Workspace, setting};
use super::{BadImage, Batch, Request};
use crate::error::DataError;
use crate::purposes::REPLAY;

/// A picture that is cropped and augmented, but neither normalised nor erased: 8 bits a value, a quarter of the memory.
/// Its sample's draws for erasing are a function of the sample, so each replay gives the same values.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) pixels: RgbImage,
    pub(super) label: u32,
    /// Epoch and index.
    pub(super) sample: (u64, usize),
}

/// The fresh pictures of one training batch.
pub(super) struct Fresh {
    pub(super) request: Request,
    pub(super) pictures: Vec<Arc<Picture>>,
    pub(super) bad: Vec<BadImage>,
}

/// What a worker makes of a request: all there is to do, or, for a batch with replay, its fresh pictures.
pub(super) enum Made {
    Batch(Batch),
    Fresh(Fresh),
}

/// What pictures must have in common to share a buffer: edge, number of fresh ones in a batch, and rule.
type PictureKind = (u32, usize, Replay);

/// Keeps the buffer and puts batches together. One after the other, as the buffer's content depends on their order.
pub(super) struct Assembler {
    pipeline: TrainPipeline,
    classes: usize,
    /// The buffer, and what its pictures are.
    buffer: Option<(PictureKind, ReplayBuffer<Arc<Picture>>)>,
    workspace: Workspace,
}

impl Assembler {
    pub(super) fn new(pipeline: TrainPipeline, classes: usize) -> Self {
        Self { pipeline, classes, buffer: None, workspace: Workspace::default() }
    }

    /// The training batch; none where a request only fills the buffer.
    fn assemble(&mut self, made: Made) -> Result<Option<Batch>, DataError> {
        let Fresh { request, pictures, bad } = match made {
            Made::Batch(batch) => return Ok(Some(batch)),
            Made::Fresh(fresh) => fresh,
        };
        let mut rng = sample_rng(self.pipeline.seed, 0, request.first_sample, REPLAY);
        let pictures = self.buffer(&request)?.next_batch(&pictures, |n| rng.random_range(0..n));
        let pictures = pictures.map_err(setting)?;
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
                ReplayBuffer::new(times, buffer_batches, split).map_err(setting)?
            }
        };
        Ok(&mut self.buffer.insert((kind, buffer)).1)
    }
}

/// Batches from a thread of their own, so that putting them together does not hold up the step.
pub(super) struct Assembled {
    batches: Option<Receiver<Result<Batch, DataError>>>,
    thread: Option<JoinHandle<()>>,
}

impl Assembled {
    /// Puts batches together from what workers make.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(super) fn start(made: Ordered<Made>, mut assembler: Assembler) -> Result<Self, DataError> {
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
