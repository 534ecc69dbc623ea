//! Gradients in buckets, which are added up over all ranks while the backward pass goes on.
//!
//! Parameters are put into buckets in the order in which the backward pass completes their
//! gradients. The first step finds that order; from the second on, a bucket is on its way as soon as
//! it is full.

use candle_core::Tensor;
use efficienttrain_models::{Gradients, ParamId, ParamStore};

use crate::distributed::collectives::ALIGNMENT;
use crate::distributed::group::Group;
use crate::distributed::sums::Sums;
use crate::error::{Error, Result};

/// Place of a gradient in its bucket.
#[derive(Clone, Copy, Debug)]
struct Place {
    bucket: usize,
    offset: usize,
    len: usize,
}

/// Where each gradient goes.
#[derive(Debug)]
struct Layout {
    /// In the order in which gradients are completed.
    places: Vec<Place>,
    /// Length of each bucket, and the number of its gradients.
    buckets: Vec<(usize, usize)>,
}

/// Layout, and which parameters it is for.
#[derive(Debug)]
struct Order {
    layout: Layout,
    ids: Vec<ParamId>,
}

/// The buckets of a run.
#[derive(Debug)]
pub(crate) struct Buckets {
    /// Length of a full bucket, in numbers.
    capacity: usize,
    sums: Box<dyn Sums>,
    /// Known after the first step at a size: position embeddings grow with the images.
    order: Option<Order>,
    size: [usize; 2],
}

impl Buckets {
    /// Creates buckets of `mib` MiB, which are added up by `sums`.
    pub(crate) fn new(mib: f64, sums: Box<dyn Sums>) -> Self {
        Self { capacity: (mib * f64::from(1 << 18)).max(1.0) as usize, sums, order: None, size: [0; 2] }
    }

    /// Adds up in another way from the next step on.
    pub(crate) fn set_sums(&mut self, sums: Box<dyn Sums>) {
        self.sums = sums;
    }

    /// Prepares for steps with images of a size.
    pub(crate) fn enter(&mut self, size: [usize; 2]) {
        if self.size != size {
            (self.size, self.order) = (size, None);
        }
    }

    /// Forgets the order of gradients.
    pub(crate) fn forget(&mut self) {
        self.order = None;
    }
}

impl Layout {
    /// Fills buckets with gradients of these lengths, in order.
    fn new(lengths: &[usize], capacity: usize) -> Self {
        let (mut places, mut buckets) = (Vec::new(), Vec::<(usize, usize)>::new());
        for &len in lengths {
            // So that each gradient begins where vector loads are aligned.
            let padded = len.next_multiple_of(ALIGNMENT);
            if buckets.last().is_none_or(|(filled, _)| filled + padded > capacity) {
                buckets.push((0, 0));
            }
            let bucket = buckets.len() - 1;
            let (filled, count) = &mut buckets[bucket];
            places.push(Place { bucket, offset: *filled, len });
            (*filled, *count) = (*filled + padded, *count + 1);
        }
        Self { places, buckets }
    }
}

impl Order {
    fn place(&self, id: ParamId) -> Option<Place> {
        let at = self.ids.iter().position(|of| *of == id)?;
        self.layout.places.get(at).copied()
    }
}

/// The gradients of one step in flight.
pub(crate) struct GradientReducer<'a> {
    group: &'a Group,
    buckets: &'a mut Buckets,
    /// Number of terms of a gradient: the nodes of the slots of this rank.
    terms: usize,
    /// Number of gradients that are missing in each bucket.
    missing: Vec<usize>,
    /// Number of buckets in flight.
    in_flight: usize,
    /// Gradients of the first step, in the order in which they were completed.
    recorded: Vec<(ParamId, Vec<Tensor>)>,
}

impl<'a> GradientReducer<'a> {
    /// Begins a step.
    pub(crate) fn new(group: &'a Group, buckets: &'a mut Buckets) -> Self {
        let terms = group.terms();
        let mut reducer =
            Self { group, buckets, terms, missing: Vec::new(), in_flight: 0, recorded: Vec::new() };
        reducer.open_buckets();
        reducer
    }

    pub(crate) fn group(&self) -> &Group {
        self.group
    }

    fn open_buckets(&mut self) {
        let buckets = self.buckets.order.iter().flat_map(|order| order.layout.buckets.iter().copied());
        let (lengths, missing): (Vec<usize>, Vec<usize>) = buckets.unzip();
        self.buckets.sums.open(&lengths, self.terms);
        self.missing = missing;
    }

    /// Takes the complete gradient of a parameter: one term a node of this rank's slots. Starts to add
    /// up a bucket once it and those before it are full.
    ///
    /// # Errors
    /// Returns an error if the communication has failed.
    pub(crate) fn add(&mut self, id: ParamId, terms: Vec<Tensor>) -> Result<()> {
        let Some(order) = &self.buckets.order else {
            self.recorded.push((id, terms));
            return Ok(());
        };
        let changed =
            || Error::Distributed("the backward pass of this model differs from step to step".into());
        let Place { bucket, offset, len } = order.place(id).ok_or_else(changed)?;
        let fits = terms.iter().all(|term| term.elem_count() == len);
        if terms.len() != self.terms || self.missing[bucket] == 0 || !fits {
            return Err(changed());
        }
        self.buckets.sums.put(bucket, offset, terms)?;
        self.missing[bucket] -= 1;
        self.begin_full()
    }

    /// Sends full buckets in flight, in order: it must be the same on all ranks.
    fn begin_full(&mut self) -> Result<()> {
        while self.missing.get(self.in_flight) == Some(&0) {
            self.buckets.sums.begin(self.group, self.in_flight)?;
            self.in_flight += 1;
        }
        Ok(())
    }

    /// Sends off what the first step has recorded.
    ///
    /// # Errors
    /// Returns an error if a gradient is missing, or the ranks have different models.
    pub(crate) fn complete(&mut self) -> Result<()> {
        if self.buckets.order.is_none() {
            let recorded = std::mem::take(&mut self.recorded);
            let length = |(_, terms): &(ParamId, Vec<Tensor>)| terms.first().map_or(0, Tensor::elem_count);
            let lengths: Vec<usize> = recorded.iter().map(length).collect();
            let ids: Vec<ParamId> = recorded.iter().map(|(id, _)| *id).collect();
            self.check_order(&ids, &lengths)?;
            let layout = Layout::new(&lengths, self.buckets.capacity);
            self.buckets.order = Some(Order { layout, ids });
            self.open_buckets();
            recorded.into_iter().try_for_each(|(id, terms)| self.add(id, terms))?;
        }
        match self.in_flight == self.missing.len() {
            true => Ok(()),
            false => Err(Error::Distributed(
                "a parameter has no gradient in this step; on several processes each must have one in every step"
                    .into(),
            )),
        }
    }

    /// Checks that all ranks have the same gradients in the same order.
    fn check_order(&self, ids: &[ParamId], lengths: &[usize]) -> Result<()> {
        let mut digest = crc32fast::Hasher::new();
        let numbers = ids.iter().map(|id| id.index()).chain(lengths.iter().copied());
        numbers.for_each(|number| digest.update(&(number as u64).to_le_bytes()));
        let digests = self.group.gather(digest.finalize().to_le_bytes().to_vec())?;
        match digests.iter().position(|digest| *digest != digests[0]) {
            None => Ok(()),
            Some(rank) => Err(Error::Distributed(format!(
                "{} has other gradients than rank 0; start the same program with the same options on all hosts",
                self.group.name(rank)
            ))),
        }
    }

    /// Waits for the sums and puts them into `gradients`, as parts of the buckets.
    ///
    /// # Errors
    /// Returns an error if a rank fails, is gone or is late.
    pub(crate) fn finish(self, params: &ParamStore, gradients: &mut Gradients) -> Result<()> {
        let Buckets { sums, order, .. } = self.buckets;
        let Some(order) = order else { return Ok(()) };
        let finish = |bucket| sums.finish(self.group, bucket);
        let sums: Vec<Tensor> = (0..self.in_flight).map(finish).collect::<Result<_>>()?;
        for (&id, place) in order.ids.iter().zip(&order.layout.places) {
            let Place { bucket, offset, len } = *place;
            let part = sums[bucket].narrow(0, offset, len)?.reshape(params.get(id).dims())?;
            gradients.set(id, part.to_device(params.get(id).device())?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_filled_in_order_and_aligned() {
        let layout = Layout::new(&[100, 10, 1000, 64], 256);
        assert_eq!(layout.buckets, [(192, 2), (1024, 1), (64, 1)]);
        let places: Vec<_> = layout.places.iter().map(|p| (p.bucket, p.offset, p.len)).collect();
        assert_eq!(places, [(0, 0, 100), (0, 128, 10), (1, 0, 1000), (2, 0, 64)]);
    }
}
