//! Order in which samples are visited.

use std::sync::{Arc, Mutex};

use rand::seq::SliceRandom;
use randaug::{Purpose, sample_rng};

use crate::config::values::SamplerName;
use crate::data::pipeline::sample::SampleId;
use crate::data::source::{Source, labels_of};

/// Endless sequence of samples: one permutation of the set per epoch, a function of the seed and
/// the epoch.
///
/// Batches may straddle two epochs, so that no sample is left out or repeated in between.
#[derive(Debug)]
pub struct SampleOrder {
    seed: u64,
    len: usize,
    /// For a balanced order, the images of each class; empty for a uniform one.
    classes: Vec<Vec<u32>>,
    /// The permutations used last: of the current epoch and of the one that workers have started.
    recent: Mutex<Vec<(u64, Arc<Vec<u32>>)>>,
}

impl SampleOrder {
    /// Creates the order for a set of `len` images.
    pub fn new(seed: u64, len: usize) -> Self {
        Self { seed, len, classes: Vec::new(), recent: Mutex::new(Vec::new()) }
    }

    /// Creates the order of a sampler for a set of images.
    ///
    /// [`SamplerName::Balanced`] takes as many images of each class in an epoch, up to one, and
    /// `source.len()` in all: each class is gone through in random order, from the start again once all of its images
    /// were taken.
    pub fn of(sampler: SamplerName, seed: u64, source: &dyn Source) -> Self {
        let mut order = Self::new(seed, source.len());
        if sampler == SamplerName::Balanced {
            let mut classes = vec![Vec::new(); source.classes().len()];
            for index in 0..source.len() {
                labels_of(source, index).for_each(|label| classes[label as usize].push(index as u32));
            }
            order.classes = classes.into_iter().filter(|images| !images.is_empty()).collect();
        }
        order
    }

    /// Returns the `count`-th sample of the run. The set must not be empty.
    pub fn at(&self, count: u64) -> SampleId {
        let (epoch, position) = (count / self.len as u64, count % self.len as u64);
        let index = self.permutation(epoch)[position as usize] as usize;
        SampleId { epoch, index }
    }

    fn permutation(&self, epoch: u64) -> Arc<Vec<u32>> {
        // A worker that panicked leaves the list as it was: every entry is complete.
        let mut recent = self.recent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, order)) = recent.iter().find(|(e, _)| *e == epoch) {
            return order.clone();
        }
        let mut rng = sample_rng(self.seed, epoch, 0, Purpose::Order);
        let mut order =
            if self.classes.is_empty() { (0..self.len as u32).collect() } else { self.balanced(&mut rng) };
        order.shuffle(&mut rng);
        let order = Arc::new(order);
        if recent.len() >= 3 {
            recent.remove(0);
        }
        recent.push((epoch, order.clone()));
        order
    }

    /// The images of an epoch, as many of each class.
    fn balanced(&self, rng: &mut impl rand::Rng) -> Vec<u32> {
        // What is left over goes to classes in random order.
        let mut classes: Vec<&Vec<u32>> = self.classes.iter().collect();
        classes.shuffle(rng);
        let (each, left) = (self.len / classes.len(), self.len % classes.len());
        let mut order = Vec::with_capacity(self.len);
        for (place, images) in classes.into_iter().enumerate() {
            let mut images = images.clone();
            images.shuffle(rng);
            order.extend(images.iter().cycle().take(each + usize::from(place < left)));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_epoch_is_a_permutation_of_its_own() {
        let order = SampleOrder::new(3, 100);
        let epoch = |e: u64| (0..100).map(|i| order.at(e * 100 + i).index).collect::<Vec<_>>();
        for e in [0, 1, 7, 0] {
            let mut sorted = epoch(e);
            sorted.sort_unstable();
            assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        }
        assert_ne!(epoch(0), epoch(1));
        assert_eq!(epoch(1), {
            let again = SampleOrder::new(3, 100);
            (100..200).map(|i| again.at(i).index).collect::<Vec<_>>()
        });
        assert_ne!(epoch(0), {
            let other = SampleOrder::new(4, 100);
            (0..100).map(|i| other.at(i).index).collect::<Vec<_>>()
        });
    }
}
