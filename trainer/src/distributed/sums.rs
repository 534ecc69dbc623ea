//! Ways of adding up gradients over the processes of a group.

use std::fmt;

use candle_core::{CpuStorage, Device, Storage, Tensor};

use crate::config::values::{SumMethod, SumType};
use crate::distributed::collectives::SumRequest;
use crate::distributed::communicator::PendingSum;
use crate::distributed::group::Group;
use crate::error::{Error, Result};

/// A way of adding up gradients, bucket by bucket. All processes begin the same buckets in the same
/// order.
pub(crate) trait Sums: fmt::Debug + Send {
    /// Begins a step with buckets of these lengths. A gradient has `terms` terms.
    fn open(&mut self, lengths: &[usize], terms: usize);

    /// Puts a gradient into a bucket: one term a node of the slots of this process.
    ///
    /// # Errors
    /// Returns an error if there is not enough memory.
    fn put(&mut self, bucket: usize, offset: usize, terms: Vec<Tensor>) -> Result<()>;

    /// Starts to add up a full bucket.
    ///
    /// # Errors
    /// Returns an error if the communication has failed.
    fn begin(&mut self, group: &Group, bucket: usize) -> Result<()>;

    /// Waits for the sum of a bucket, and returns it as one array of `f32`.
    ///
    /// # Errors
    /// Returns an error if a process fails, is gone or is late.
    fn finish(&mut self, group: &Group, bucket: usize) -> Result<Tensor>;
}

/// Returns the way of adding up gradients of a device; on GPUs, NCCL unless it is to be ordered.
///
/// # Errors
/// Returns an error if NCCL is needed and missing, or the GPUs cannot be connected.
pub(crate) fn open_sums(
    group: &Group,
    device: &Device,
    method: SumMethod,
    dtype: SumType,
) -> Result<Box<dyn Sums>> {
    #[cfg(feature = "cuda")]
    if method == SumMethod::Fast && device.is_cuda() && group.is_connected() {
        return Ok(Box::new(crate::distributed::nccl::NcclSums::join(group, device, dtype)?));
    }
    let _ = (group, device, method);
    Ok(Box::new(OrderedSums::new(dtype)))
}

pub(super) fn not_started() -> Error {
    Error::Distributed("a sum of gradients was asked for that has not begun".into())
}

/// Sums on the CPU in the order of the device slots, over the connections between processes.
#[derive(Debug)]
pub(crate) struct OrderedSums {
    dtype: SumType,
    buckets: Vec<Bucket>,
}

#[derive(Debug)]
enum Bucket {
    /// One array a node of the slots of this process.
    Filling(Vec<Vec<f32>>),
    InFlight(PendingSum),
}

impl OrderedSums {
    pub(crate) fn new(dtype: SumType) -> Self {
        Self { dtype, buckets: Vec::new() }
    }
}

impl Sums for OrderedSums {
    fn open(&mut self, lengths: &[usize], terms: usize) {
        let open = |&len: &usize| Bucket::Filling(vec![vec![0.0; len]; terms]);
        self.buckets = lengths.iter().map(open).collect();
    }

    fn put(&mut self, bucket: usize, offset: usize, terms: Vec<Tensor>) -> Result<()> {
        let Bucket::Filling(arrays) = &mut self.buckets[bucket] else { return Err(not_started()) };
        for (array, term) in arrays.iter_mut().zip(&terms) {
            copy(term, &mut array[offset..offset + term.elem_count()])?;
        }
        Ok(())
    }

    fn begin(&mut self, group: &Group, bucket: usize) -> Result<()> {
        let Bucket::Filling(terms) = &mut self.buckets[bucket] else { return Err(not_started()) };
        let job = SumRequest { terms: std::mem::take(terms), dtype: self.dtype };
        self.buckets[bucket] = Bucket::InFlight(group.begin_sum(job)?);
        Ok(())
    }

    fn finish(&mut self, group: &Group, bucket: usize) -> Result<Tensor> {
        let Bucket::InFlight(pending) = &self.buckets[bucket] else { return Err(not_started()) };
        let sum = group.finish_sum(pending)?;
        let len = sum.len();
        Ok(Tensor::from_vec(sum, len, &Device::Cpu)?)
    }
}

/// Copies the values of a tensor.
fn copy(from: &Tensor, to: &mut [f32]) -> Result<()> {
    if from.device().is_cpu() && from.is_contiguous() {
        let (storage, layout) = from.storage_and_layout();
        if let (Storage::Cpu(CpuStorage::F32(values)), Some((begin, end))) =
            (&*storage, layout.contiguous_offsets())
        {
            to.copy_from_slice(&values[begin..end]);
            return Ok(());
        }
    }
    to.copy_from_slice(&from.flatten_all()?.to_vec1()?);
    Ok(())
}
