//! What a pass through a model carries along.

use candle_core::Tensor;
use rand::RngExt;

use super::{Act, Gradients, Source, Tape};
use crate::Result;
use crate::ops::{Pullback, Traced};
use crate::params::{ParamId, ParamStore};

/// Training or evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Batch statistics, stochastic depth, and a tape for the backward pass.
    Train {
        /// Seed of this pass's random draws (stochastic depth): the same seed draws the same.
        seed: u64,
        /// Stochastic depth of the last block, 0 to below 1; earlier blocks have proportionally less.
        drop_path: f64,
    },
    /// Running statistics, nothing random, nothing kept.
    Eval,
}

/// One pass through a model: its parameters, its mode and, in training, its tape.
pub struct Context<'a> {
    params: &'a ParamStore,
    mode: Mode,
    tape: Tape,
}

impl<'a> Context<'a> {
    /// A pass with these parameters.
    pub fn new(params: &'a ParamStore, mode: Mode) -> Self {
        Self { params, mode, tape: Tape::default() }
    }

    /// Whether this is a training pass.
    pub fn is_training(&self) -> bool {
        matches!(self.mode, Mode::Train { .. })
    }

    /// The value of a parameter or buffer.
    pub fn value(&self, id: ParamId) -> &'a Tensor {
        self.params.get(id)
    }

    /// A parameter as an input of an op.
    pub fn param(&self, id: ParamId) -> Act {
        Act { tensor: self.params.get(id).clone(), source: Source::Parameter(id) }
    }

    /// Notes the op that made `traced` from `inputs`, in the order of its pullback, and gives its value.
    pub fn record(&mut self, inputs: &[&Act], traced: Traced) -> Act {
        let Traced { value, pullback } = traced;
        Act { tensor: value, source: self.note(inputs, pullback) }
    }

    fn note(&mut self, inputs: &[&Act], pullback: Pullback) -> Source {
        let sources: Vec<Source> = inputs.iter().map(|a| a.source).collect();
        if !self.is_training() || sources.iter().all(|s| *s == Source::Constant) {
            return Source::Constant;
        }
        self.tape.record(sources, pullback)
    }

    /// The same elements in another shape.
    ///
    /// # Errors
    /// When the number of elements differs.
    pub fn reshape(&mut self, x: &Act, shape: &[usize]) -> Result<Act> {
        let before = x.tensor.dims().to_vec();
        let value = x.tensor.reshape(shape)?;
        let pullback: Pullback = Box::new(move |dy, _| Ok(vec![Some(dy.reshape(before.as_slice())?)]));
        Ok(Act { tensor: value, source: self.note(&[x], pullback) })
    }

    /// For each of `n` samples 0 if a branch of block `index` of `depth` is dropped, else 1 over the probability to
    /// keep it.
    ///
    /// `None` in evaluation and where nothing is dropped. The draw depends on the pass's seed, the block and
    /// the branch alone.
    pub fn keep_samples(&self, (index, depth): (usize, usize), branch: &str, n: usize) -> Option<Vec<f64>> {
        let Mode::Train { seed, drop_path } = self.mode else { return None };
        let rate = f64::from(*drop_path_rates(drop_path, depth).get(index)?);
        if rate <= 0.0 {
            return None;
        }
        let mut rng = crate::params::generator(seed, &format!("drop_path.{index}.{branch}"));
        let keep = 1.0 - rate;
        Some((0..n).map(|_| if rng.random::<f64>() < keep { 1.0 / keep } else { 0.0 }).collect())
    }

    /// Adds the gradients of `output`, weighted by `seed` (of its shape), to `gradients`; ends the pass.
    ///
    /// # Errors
    /// When an op fails; in evaluation there is nothing to go back through, and nothing is added.
    pub fn backward(self, output: &Act, seed: Tensor, gradients: &mut Gradients) -> Result<()> {
        self.tape.backward(output, seed, gradients)
    }
}

/// Stochastic depth of every block: evenly spaced from 0 to `rate`, in single precision as the reference has it.
pub fn drop_path_rates(rate: f64, depth: usize) -> Vec<f32> {
    let rate = rate as f32;
    let step = if depth > 1 { rate / (depth - 1) as f32 } else { 0.0 };
    // From both ends, as PyTorch's linspace, so that the last value is exact.
    let at = |i: usize| if i < depth / 2 { step * i as f32 } else { rate - step * (depth - 1 - i) as f32 };
    if depth == 1 { vec![0.0] } else { (0..depth).map(at).collect() }
}
