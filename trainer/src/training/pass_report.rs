//! What the processes of a job tell each other about the passes of a step, besides gradients.

use candle_core::{DType, Device, Tensor};
use efficienttrain_models::ops::BatchStatistics;
use efficienttrain_models::{ObservedStatistics, ParamStore};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::distributed::group::{Group, to_json};
use crate::error::{Error, Result};

/// Losses and batch statistics of the passes of this process.
pub(crate) struct PassReports<R> {
    header: Header<R>,
    statistics: Vec<Vec<ObservedStatistics>>,
}

/// Beginning of a message; the numbers of the statistics follow it.
#[derive(Serialize, Deserialize)]
struct Header<R> {
    /// Loss of each pass, as bits: JSON has no `NaN`.
    losses: Vec<u32>,
    remarks: R,
}

/// Losses and batch statistics of all passes of a step, in order.
pub(crate) struct CombinedReports<R> {
    pub(crate) losses: Vec<f32>,
    statistics: Vec<Vec<ObservedStatistics>>,
    /// Of each rank.
    pub(crate) remarks: Vec<R>,
}

impl<R: Serialize + DeserializeOwned> PassReports<R> {
    /// Reports passes with these losses, with remarks of any kind.
    pub(crate) fn of<'a>(
        losses: impl Iterator<Item = &'a Tensor>,
        statistics: Option<Vec<Vec<ObservedStatistics>>>,
        remarks: R,
    ) -> Result<Self> {
        let bits = |loss: &Tensor| Ok(loss.to_scalar::<f32>()?.to_bits());
        let header = Header { losses: losses.map(bits).collect::<Result<_>>()?, remarks };
        Ok(Self { header, statistics: statistics.unwrap_or_default() })
    }

    /// Returns the reports of all ranks together.
    ///
    /// # Errors
    /// Returns an error if a rank fails, is gone or is late.
    pub(crate) fn exchange(self, group: &Group) -> Result<CombinedReports<R>> {
        let all = group.gather(self.to_bytes()?)?;
        let mut combined =
            CombinedReports { losses: Vec::new(), statistics: Vec::new(), remarks: Vec::new() };
        for (rank, bytes) in all.iter().enumerate() {
            let unlike = || {
                let what = format!("{} reports other batch norms than this one", group.name(rank));
                Error::Distributed(what)
            };
            let (header, numbers) = read(bytes).ok_or_else(unlike)?;
            combined.losses.extend(header.losses.iter().map(|&bits| f32::from_bits(bits)));
            combined.remarks.push(header.remarks);
            // The own ones are the pattern of all others.
            let pattern = self.statistics.first().map_or(&[][..], Vec::as_slice);
            let mut numbers = numbers.into_iter();
            for _ in &header.losses {
                combined.statistics.push(like(pattern, &mut numbers)?.ok_or_else(unlike)?);
            }
            if numbers.next().is_some() {
                return Err(unlike());
            }
        }
        Ok(combined)
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        let header = to_json(&self.header)?;
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header);
        for observed in self.statistics.iter().flatten() {
            let BatchStatistics { mean, variance, count, .. } = &observed.statistics;
            for values in [mean, variance] {
                let values = values.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
                bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
            }
            bytes.extend((*count as f64).to_le_bytes());
        }
        Ok(bytes)
    }
}

/// Reads a message; none if it is none.
fn read<R: DeserializeOwned>(bytes: &[u8]) -> Option<(Header<R>, Vec<f64>)> {
    let (len, rest) = bytes.split_first_chunk()?;
    let (header, numbers) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
    let numbers = numbers.as_chunks().0.iter().map(|&x| f64::from_le_bytes(x)).collect();
    Some((serde_json::from_slice(header).ok()?, numbers))
}

/// Returns statistics of the same batch norms with other numbers; none if there are too few.
fn like(
    pattern: &[ObservedStatistics],
    numbers: &mut impl Iterator<Item = f64>,
) -> Result<Option<Vec<ObservedStatistics>>> {
    let mut all = Vec::with_capacity(pattern.len());
    for observed in pattern {
        let of = &observed.statistics;
        let channels = of.mean.elem_count();
        let mut next = || -> Result<Tensor> {
            let values: Vec<f64> = numbers.by_ref().take(channels).collect();
            Ok(Tensor::new(values, &Device::Cpu)?.to_dtype(of.mean.dtype())?.to_device(of.mean.device())?)
        };
        let (mean, variance) = (next()?, next()?);
        let Some(count) = numbers.next().filter(|_| variance.elem_count() == channels) else {
            return Ok(None);
        };
        all.push(observed.with_statistics(BatchStatistics::new(mean, variance, count as usize)));
    }
    Ok(Some(all))
}

impl<R> CombinedReports<R> {
    /// Moves the running statistics towards those of all passes in turn.
    ///
    /// # Errors
    /// Returns an error if a device is out of memory.
    pub(crate) fn apply_statistics(&self, params: &ParamStore) -> Result<()> {
        self.statistics.iter().flatten().try_for_each(|observed| Ok(observed.apply(params)?))
    }
}
