//! Random factors of passes: dropout and stochastic depth.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Tensor};
use rand::RngExt;

use crate::{Result, ops};

/// Random factors of a pass: 0 with probability `rate`, else `1 / (1 - rate)`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Draw {
    /// Name, which no other draw of the pass has.
    pub name: String,
    /// Probability of 0, above 0 and below 1.
    pub rate: f64,
    /// Number of factors.
    pub len: usize,
}

impl Draw {
    /// Returns the factors in a pass with this seed.
    fn values(&self, seed: u64) -> impl Iterator<Item = f64> {
        let mut rng = crate::params::generator(seed, &self.name);
        let keep = 1.0 - self.rate;
        (0..self.len).map(move |_| if rng.random::<f64>() < keep { 1.0 / keep } else { 0.0 })
    }

    /// Returns the factors in a pass with this seed: `f64` on the CPU, `f32` on a GPU.
    pub(super) fn tensor(&self, seed: u64, device: &Device) -> Result<Tensor> {
        if device.is_cpu() {
            return Ok(Tensor::from_iter(self.values(seed), device)?);
        }
        let values: Vec<f32> = self.values(seed).map(|x| x as f32).collect();
        ops::upload(&values, &[self.len], device)
    }
}

/// All random factors of passes of one kind. The first pass notes which there are; [`Draws::place`]
/// gives them memory that stays where it is, and [`Draws::fill`] writes those of another pass there.
#[derive(Clone, Debug, Default)]
pub struct Draws(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    draws: Vec<Draw>,
    /// The factors of all draws, one draw after another.
    memory: Option<Tensor>,
}

impl Draws {
    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the memory of a draw, if it has any, and else takes note of it.
    pub(super) fn find_or_note(&self, draw: &Draw) -> Option<Tensor> {
        let mut noted = self.lock();
        let mut start = 0;
        for known in &noted.draws {
            if known == draw {
                return noted.memory.as_ref()?.narrow(0, start, draw.len).ok();
            }
            start += known.len;
        }
        if noted.memory.is_none() {
            noted.draws.push(draw.clone());
        }
        None
    }

    /// Gives the noted draws memory on `device`; later passes read their factors there.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn place(&self, device: &Device) -> Result<()> {
        let mut noted = self.lock();
        let len: usize = noted.draws.iter().map(|draw| draw.len).sum();
        if len > 0 {
            noted.memory = Some(Tensor::zeros(len, DType::F32, device)?);
        }
        Ok(())
    }

    /// Writes the factors of a pass with this seed to the memory of the draws, in line with the work
    /// that is queued on the device.
    ///
    /// # Errors
    /// When the copy fails.
    pub fn fill(&self, seed: u64) -> Result<()> {
        let noted = self.lock();
        let Some(memory) = &noted.memory else { return Ok(()) };
        let values: Vec<f32> =
            noted.draws.iter().flat_map(|draw| draw.values(seed).map(|x| x as f32)).collect();
        ops::upload_into(memory, &values)
    }
}
