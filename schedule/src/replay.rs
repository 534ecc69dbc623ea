//! Rules of the replay buffer, for any type of items (ids in tests, images in a loader). Method
//! section 4.

use crate::error::{Result, count, field};
use crate::plan::Plan;
use crate::rounding::PlanStage;
use crate::stage::Replay;
use std::collections::VecDeque;

/// First-in first-out store of chunks of recent mini-batches, and the rule by which a training
/// batch is drawn from it.
///
/// A mini-batch of fresh items is cut into `split` chunks (the first ones one larger when it does
/// not divide), appended to a store of at most `buffer_batches * split` chunks, and then followed
/// by `(times - 1) * split` chunks drawn with replacement from the store, which already holds the
/// new batch. So the size of a training batch varies when the batch does not divide by `split`.
#[derive(Debug, Clone)]
pub struct ReplayBuffer<T> {
    chunks: VecDeque<Vec<T>>,
    capacity: usize,
    split: usize,
    times: usize,
}

/// Chunks per mini-batch in the reference.
pub const REFERENCE_SPLIT: u32 = 32;

/// Returns the number of chunks of a mini-batch of `fresh` items for which every training batch has
/// the same size: the largest divisor of `fresh` up to the reference's 32.
#[must_use]
pub fn even_split(fresh: u32) -> u32 {
    (1..=REFERENCE_SPLIT.min(fresh)).rev().find(|&split| fresh.is_multiple_of(split)).unwrap_or(1)
}

impl<T: Clone> ReplayBuffer<T> {
    /// Creates an empty buffer for batches that are trained on `times` times on average.
    ///
    /// # Errors
    /// A field error when a number is 0.
    pub fn new(times: u32, buffer_batches: u32, split: u32) -> Result<Self> {
        count("replay.times", times, "1 means no replay")?;
        count("replay.buffer_batches", buffer_batches, "the buffer must hold at least the current batch")?;
        count("replay.split", split, "the reference uses 32")?;
        let (times, split) = (times as usize, split as usize);
        Ok(Self { chunks: VecDeque::new(), capacity: buffer_batches as usize * split, split, times })
    }

    /// Stores `fresh` and returns the training batch: `fresh`, then the chunks whose indices `draw`
    /// returns. `draw(n)` is called `(times - 1) * split` times and returns an index below n, the
    /// number of chunks stored now, oldest first.
    ///
    /// # Errors
    /// A field error when `draw` returns an index that is not below n; `fresh` is stored
    /// nevertheless.
    pub fn next_batch(&mut self, fresh: &[T], mut draw: impl FnMut(usize) -> usize) -> Result<Vec<T>> {
        self.store(fresh);
        let mut batch = fresh.to_vec();
        for _ in 0..(self.times - 1) * self.split {
            let index = draw(self.chunks.len());
            let Some(chunk) = self.chunks.get(index) else {
                let expected = format!("a number below {}", self.chunks.len());
                return Err(field("replay draw", expected, index, "draw uniformly over the chunks stored"));
            };
            batch.extend_from_slice(chunk);
        }
        Ok(batch)
    }

    fn store(&mut self, fresh: &[T]) {
        let (length, larger) = (fresh.len() / self.split, fresh.len() % self.split);
        let mut rest = fresh;
        for index in 0..self.split {
            let (chunk, tail) = rest.split_at(length + usize::from(index < larger));
            self.chunks.push_back(chunk.to_vec());
            rest = tail;
        }
        while self.chunks.len() > self.capacity {
            self.chunks.pop_front();
        }
    }

    /// Stored chunks, oldest first.
    pub fn chunks(&self) -> impl ExactSizeIterator<Item = &[T]> {
        self.chunks.iter().map(Vec::as_slice)
    }
}

/// Returns the bytes of a full buffer of images: `buffer_batches` mini-batches of `fresh_batch` RGB
/// images of side `size`, at `bytes_per_value` (1 for u8, 2 for half precision).
#[must_use]
pub fn buffer_bytes(buffer_batches: u32, fresh_batch: u32, size: u32, bytes_per_value: u32) -> u128 {
    let factors = [buffer_batches, fresh_batch, 3, size, size, bytes_per_value];
    factors.iter().fold(1, |bytes: u128, &factor| bytes.saturating_mul(u128::from(factor)))
}

impl Plan {
    /// Returns the stage in which a stage's replay buffer began to fill: the first of the stages up
    /// to it with the same size, batch and replay. A buffer outlives a stage as long as its images
    /// can still be used.
    #[must_use]
    pub fn replay_start(&self, stage: usize) -> usize {
        let kind = |stage: &PlanStage| (stage.size, stage.batch_per_device, stage.replay);
        let stages = self.stages();
        // A stage without steps leaves the buffer alone.
        let alike =
            |&before: &usize| stages[before].steps == 0 || kind(&stages[before]) == kind(&stages[stage]);
        (0..stage).rev().take_while(alike).last().unwrap_or(stage)
    }

    /// Returns the mini-batches of fresh images in the buffer at the end of a stage: its capacity,
    /// or fewer if there were not so many. 0 without replay.
    #[must_use]
    pub fn replay_batches(&self, stage: usize) -> u64 {
        let Replay { times, buffer_batches } = self.stages()[stage].replay;
        if times == 1 {
            return 0;
        }
        let run = &self.stages()[self.replay_start(stage)..=stage];
        let stored: u64 = run.iter().map(|s| s.steps * u64::from(s.accumulation)).sum();
        stored.min(u64::from(buffer_batches))
    }

    /// Returns the memory of one device's buffer at the end of a stage, in bytes, with one byte per
    /// value. 0 without replay.
    #[must_use]
    pub fn replay_bytes(&self, stage: usize) -> u128 {
        let s = &self.stages()[stage];
        let batches = u32::try_from(self.replay_batches(stage)).unwrap_or(u32::MAX);
        buffer_bytes(batches, s.batch_per_device / s.replay.times, s.size, 1)
    }
}
