//! Sums of gradients on GPUs, by NCCL.
//!
//! NCCL neither has time limits nor says which process is missing. That comes from the connections
//! between the processes: while this one waits for NCCL, it looks at them.

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use efficienttrain_models::ops::cuda::{Nccl, PendingReduction, uuid, write_part};
use efficienttrain_models::{Error as ModelError, ops};
use serde::{Deserialize, Serialize};

use crate::config::values::SumType;
use crate::distributed::group::Group;
use crate::distributed::slots::Merge;
use crate::distributed::sums::{Sums, not_started};
use crate::error::{Error, Result};

/// Looks before the first sleep.
const SPINS: u32 = 200;
/// Sleep between two looks.
const NAP: Duration = Duration::from_micros(50);
/// Time in which the end of a process is heard of after NCCL has failed.
const HEAR: Duration = Duration::from_secs(2);
/// What may be wrong if all processes answer, but NCCL does not.
const CHECK: &str = "all processes answer, so look at the connections between their GPUs: NCCL_DEBUG=INFO shows what \
                     NCCL does, NCCL_SOCKET_IFNAME selects the network interface, and a firewall may be in the way";

/// Sums of gradients that stay on the GPUs.
#[derive(Debug)]
pub(crate) struct NcclSums {
    nccl: Nccl,
    device: Device,
    dtype: DType,
    buckets: Vec<Bucket>,
}

#[derive(Debug)]
enum Bucket {
    /// Its length. Memory is taken for the first gradient.
    Empty(usize),
    Filling(Tensor),
    InFlight(PendingReduction),
    Taken,
}

/// What a process has to add up with.
#[derive(Debug, Serialize, Deserialize)]
struct Card {
    /// The GPU, which must be another one for each process.
    uuid: String,
    /// Version of NCCL, which must be the same.
    version: String,
}

impl Card {
    fn of(device: &Device) -> Result<Self> {
        let missing = |e: ModelError| {
            Error::config(
                "sums",
                format!("{e}, or give option `sums` ordered, which needs no NCCL but is slower"),
            )
        };
        Ok(Self { version: Nccl::version().map_err(missing)?, uuid: uuid(device)? })
    }
}

impl NcclSums {
    /// Connects the GPUs of all processes.
    ///
    /// # Errors
    /// Returns an error if NCCL is missing or differs, two processes have the same GPU, or one of
    /// them fails, is gone or is late.
    pub(crate) fn join(group: &Group, device: &Device, dtype: SumType) -> Result<Self> {
        let own = group.agree(Card::of(device))?;
        let cards = group.gather_values(&own)?;
        check_cards(group, &cards)?;
        let id = if group.is_first() { Nccl::unique_id() } else { Ok(Vec::new()) };
        let id = group.agree(id.map_err(Error::from))?;
        let id = group.broadcast(|| id)?;
        let joined = Nccl::join(device, &id, group.rank(), group.size(), &mut patience(group));
        let dtype = match dtype {
            SumType::F32 => DType::F32,
            SumType::Bf16 => DType::BF16,
        };
        Ok(Self { nccl: named(group, joined)?, device: device.clone(), dtype, buckets: Vec::new() })
    }
}

/// Checks that the processes can be connected: NCCL would wait without end for two of the same GPU.
fn check_cards(group: &Group, cards: &[Card]) -> Result<()> {
    for (rank, card) in cards.iter().enumerate() {
        if let Some(first) = cards[..rank].iter().position(|other| other.uuid == card.uuid) {
            let what = format!(
                "{} and {} have the same GPU ({}), and NCCL needs one for each process; start as many processes on a \
                 host as it has GPUs, with option `device` cuda, or give option `sums` ordered",
                group.name(first),
                group.name(rank),
                card.uuid
            );
            return Err(Error::config("device", what));
        }
        if card.version != cards[0].version {
            let what = format!(
                "{} has NCCL {}, {} has {}; install the same version on all hosts",
                group.name(rank),
                card.version,
                group.name(0),
                cards[0].version
            );
            return Err(Error::config("sums", what));
        }
    }
    Ok(())
}

impl Sums for NcclSums {
    fn open(&mut self, lengths: &[usize], _: usize) {
        self.buckets = lengths.iter().map(|&len| Bucket::Empty(len)).collect();
    }

    fn put(&mut self, bucket: usize, offset: usize, terms: Vec<Tensor>) -> Result<()> {
        let mut terms = terms.into_iter();
        let Some(mut sum) = terms.next() else { return Ok(()) };
        for term in terms {
            sum.merge(term)?;
        }
        let bucket = &mut self.buckets[bucket];
        if let Bucket::Empty(len) = *bucket {
            // Also clears the gaps between gradients.
            *bucket = Bucket::Filling(Tensor::zeros(len, self.dtype, &self.device)?);
        }
        let Bucket::Filling(flat) = bucket else { return Err(not_started()) };
        Ok(write_part(flat, offset, &sum)?)
    }

    fn begin(&mut self, group: &Group, bucket: usize) -> Result<()> {
        let bucket = &mut self.buckets[bucket];
        let Bucket::Filling(flat) = std::mem::replace(bucket, Bucket::Taken) else {
            return Err(not_started());
        };
        let pending = self.nccl.all_reduce(flat, &mut patience(group));
        *bucket = Bucket::InFlight(named(group, pending)?);
        Ok(())
    }

    fn finish(&mut self, group: &Group, bucket: usize) -> Result<Tensor> {
        let Bucket::InFlight(pending) = std::mem::replace(&mut self.buckets[bucket], Bucket::Taken) else {
            return Err(not_started());
        };
        let sum = named(group, self.nccl.wait(pending, &mut patience(group)))?;
        Ok(ops::cast(&sum, DType::F32)?.value)
    }
}

/// Returns what to do while NCCL is not done: fails if another process has failed, or the time is
/// out.
fn patience(group: &Group) -> impl FnMut() -> Result<()> {
    let (began, mut looks) = (Instant::now(), 0u32);
    move || {
        if let Some(why) = group.failure() {
            return Err(Error::Distributed(why));
        }
        if began.elapsed() >= group.limit() {
            return Err(overdue(group));
        }
        looks = looks.saturating_add(1);
        if looks < SPINS {
            std::thread::yield_now();
        } else {
            std::thread::sleep(NAP);
        }
        Ok(())
    }
}

/// Returns why NCCL is late: whoever does not answer is named.
fn overdue(group: &Group) -> Error {
    match group.gather(Vec::new()) {
        Err(error) => error,
        Ok(_) => {
            let seconds = group.limit().as_secs_f64();
            Error::Distributed(format!("NCCL has not added up gradients for {seconds} s; {CHECK}"))
        }
    }
}

/// Replaces an error of NCCL by the end of a process, if that is why.
fn named<T>(group: &Group, outcome: Result<T>) -> Result<T> {
    let Err(Error::Model(error @ ModelError::Device { .. })) = outcome else { return outcome };
    let until = Instant::now() + HEAR;
    while Instant::now() < until {
        if let Some(why) = group.failure() {
            return Err(Error::Distributed(why));
        }
        std::thread::sleep(NAP);
    }
    Err(Error::Distributed(error.to_string()))
}
