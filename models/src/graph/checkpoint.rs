//! Activation checkpointing (Chen et al., 2016): a block keeps what goes in, and is run again in
//! the backward pass.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;

use super::{Context, Gradients, Source, Variable};
use crate::Result;
use crate::ops::{Pullback, Traced};
use crate::params::ParamId;

/// Records of a pass about its ops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recording {
    /// Each op for the backward pass.
    Ops,
    /// Each op, and blocks as one op that keeps its input alone.
    Blocks,
    /// Nothing: a block's first run.
    Nothing,
    /// Each op of a block that is run again: what the first run changed stays as it is.
    Recompute,
}

impl<'a> Context<'a> {
    /// Keeps of each block its input alone, and runs it again in the backward pass: less memory for
    /// about a third more arithmetic, and bitwise the same gradients.
    #[must_use]
    pub fn with_checkpointing(mut self, checkpoint: bool) -> Self {
        self.recording = if checkpoint { Recording::Blocks } else { Recording::Ops };
        self
    }

    /// Tells if this run may change running statistics; a block that is run again may not.
    pub fn observes(&self) -> bool {
        self.is_training() && self.recording != Recording::Recompute
    }

    /// Runs a block of a model, `forward` of a copy of `block`, with or without checkpointing.
    ///
    /// # Errors
    /// Those of `forward`.
    pub fn block<B: Clone + Send + Sync + 'static>(
        &mut self,
        block: &B,
        x: &Variable,
        forward: impl Fn(&B, &mut Context, &Variable) -> Result<Variable> + Send + Sync + 'static,
    ) -> Result<Variable> {
        if !self.is_training() || self.recording != Recording::Blocks {
            return forward(block, self, x);
        }
        let mut first = self.part(Recording::Nothing);
        let value = forward(block, &mut first, &Variable::constant(x.tensor().clone()))?.tensor;
        let mut used = first.used.into_inner();
        used.sort_unstable();
        used.dedup();
        let params: Vec<Variable> = used.iter().map(|&id| self.param(id)).collect();
        let inputs: Vec<&Variable> = std::iter::once(x).chain(&params).collect();
        let (store, mode, block, input) = (self.params.clone(), self.mode, block.clone(), x.tensor().clone());
        let (compute_type, frozen, processes) =
            (self.compute_type, self.frozen.clone(), self.processes.clone());
        let draws = self.draws.clone();
        let pullback: Pullback = Box::new(move |dy, needs| {
            let again = Context::new(&store, mode)
                .with_compute_type(compute_type)
                .with_frozen(frozen.clone())
                .with_processes(processes.clone())
                .with_draws(draws.clone());
            let mut again = again.part(Recording::Recompute);
            let (x, slot) = again.leaf(input.clone(), needs[0]);
            let y = forward(&block, &mut again, &x)?;
            let mut gradients = Gradients::new(store.len());
            again.backward(&y, dy.clone(), &mut gradients)?;
            let dx = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            Ok(std::iter::once(dx).chain(used.iter().map(|&id| gradients.take(id))).collect())
        });
        Ok(self.record(&inputs, Traced { value, pullback, pullback_onto: None }))
    }

    /// A pass with the same parameters and draws, and a tape of its own.
    fn part(&self, recording: Recording) -> Self {
        Self {
            recording,
            compute_type: self.compute_type,
            frozen: self.frozen.clone(),
            statistics_log: self.statistics_log.clone(),
            processes: self.processes.clone(),
            draws: self.draws.clone(),
            ..Self::new(self.params, self.mode)
        }
    }

    /// An input whose gradient is put aside, if it is needed.
    fn leaf(&mut self, tensor: Tensor, needed: bool) -> (Variable, Arc<Mutex<Option<Tensor>>>) {
        let slot = Arc::new(Mutex::new(None));
        if !needed {
            return (Variable::constant(tensor), slot);
        }
        let aside = slot.clone();
        let pullback: Pullback = Box::new(move |dy, _| {
            *aside.lock().unwrap_or_else(PoisonError::into_inner) = Some(dy.clone());
            Ok(Vec::new())
        });
        (Variable { tensor, source: self.tape.record(Vec::new(), pullback, None) }, slot)
    }

    /// Notes that a block's first run reads a parameter.
    pub(super) fn note_use(&self, id: ParamId) -> Source {
        if self.recording == Recording::Nothing {
            self.used.borrow_mut().push(id);
            return Source::Constant;
        }
        Source::Parameter(id)
    }
}
