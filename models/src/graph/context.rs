//! The context of a pass through a model.

use std::cell::RefCell;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::checkpoint::Recording;
use super::{CostCounter, Draw, Draws, Gradients, Op, Source, StatisticsLog, Tape, Variable};
use crate::Result;
use crate::ops::{self, BatchStatistics, Processes, Pullback, PullbackOnto, Traced};
use crate::params::{ParamId, ParamStore};

/// Position of a block: its index, and the number of blocks of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockIndex {
    /// Index, from 0.
    pub index: usize,
    /// Number of blocks.
    pub depth: usize,
}

/// Training or evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Batch statistics, stochastic depth, and a tape for the backward pass.
    Train {
        /// Seed of this pass's random draws (stochastic depth): the same seed draws the same.
        seed: u64,
        /// Stochastic depth of the last block, 0 to below 1; earlier blocks have proportionally
        /// less.
        drop_path: f64,
    },
    /// Running statistics, nothing random, nothing kept.
    Eval,
    /// Nothing is computed: only shapes pass through, and the cost of the ops is counted.
    Count,
}

/// One pass through a model: its parameters, its mode and, in training, its tape.
pub struct Context<'a> {
    pub(super) params: &'a ParamStore,
    pub(super) mode: Mode,
    pub(super) tape: Tape,
    pub(super) counter: CostCounter,
    pub(super) recording: Recording,
    pub(super) compute_type: DType,
    /// Parameters that were read, if nothing else is noted.
    pub(super) used: RefCell<Vec<ParamId>>,
    /// Parameters and buffers that training leaves as they are, by position; empty for none.
    pub(super) frozen: Arc<[bool]>,
    /// Destination of batch statistics; if none, they are blended into the running ones.
    pub(super) statistics_log: Option<StatisticsLog>,
    /// Processes that batch norms take their statistics over, if not over this pass alone.
    pub(super) processes: Option<Arc<dyn Processes>>,
    /// The random factors of the pass, if they are noted or lie on the device already.
    pub(super) draws: Option<Draws>,
}

impl<'a> Context<'a> {
    /// A pass with these parameters.
    pub fn new(params: &'a ParamStore, mode: Mode) -> Self {
        let (tape, counter) = (Tape::default(), CostCounter::default());
        let (recording, used, frozen) = (Recording::Ops, RefCell::default(), Arc::default());
        let (compute_type, statistics_log, processes, draws) = (DType::F32, None, None, None);
        Self {
            params,
            mode,
            tape,
            counter,
            recording,
            compute_type,
            used,
            frozen,
            statistics_log,
            processes,
            draws,
        }
    }

    /// Freezes parameters and buffers, by their position: a batch norm with frozen running
    /// statistics normalizes by them in training too, as PyTorch's in `eval()` or timm's
    /// `FrozenBatchNorm2d` does. Stochastic depth and dropout are no state and stay active, as in
    /// timm's frozen modules.
    #[must_use]
    pub fn with_frozen(mut self, frozen: Arc<[bool]>) -> Self {
        self.frozen = frozen;
        self
    }

    /// Tells if training leaves a parameter or buffer unchanged.
    pub fn is_frozen(&self, id: ParamId) -> bool {
        self.frozen.get(id.index()).copied().unwrap_or(false)
    }

    /// Makes batch norms normalize by the statistics of all `processes`, which run the same pass with
    /// other images at the same time (synchronized batch norm).
    #[must_use]
    pub fn with_processes(mut self, processes: Option<Arc<dyn Processes>>) -> Self {
        self.processes = processes;
        self
    }

    /// Takes the random factors of the pass from `draws`, and notes those that it does not hold.
    #[must_use]
    pub fn with_draws(mut self, draws: Option<Draws>) -> Self {
        self.draws = draws;
        self
    }

    /// Mixed precision: with [`DType::BF16`], or [`DType::F16`] on a GPU, layers read and write
    /// their activations in that type, as PyTorch's autocast does, while arithmetic inside of ops,
    /// parameters and their gradients, normalization statistics and the residual stream stay in
    /// `f32`. With any other type, nothing changes.
    #[must_use]
    pub fn with_compute_type(mut self, dtype: DType) -> Self {
        self.compute_type = dtype;
        self
    }

    /// Device of the parameters and of the pass.
    pub fn device(&self) -> Device {
        self.params.iter().next().map_or(Device::Cpu, |(_, t)| t.device().clone())
    }

    /// Returns `x` in the type that layers compute in.
    ///
    /// # Errors
    /// When it is on an unsupported device.
    pub fn to_compute_dtype(&mut self, x: &Variable) -> Result<Variable> {
        if self.is_mixed() { self.cast(x, self.compute_type) } else { Ok(x.clone()) }
    }

    /// Returns `x` in the type of the residual stream.
    ///
    /// # Errors
    /// When it is on an unsupported device.
    pub fn to_residual_dtype(&mut self, x: &Variable) -> Result<Variable> {
        if self.is_mixed() { self.cast(x, DType::F32) } else { Ok(x.clone()) }
    }

    /// Returns the element type of a layer's value for the input `x`.
    pub fn layer_type(&self, x: &Variable) -> DType {
        if self.is_mixed() { self.compute_type } else { x.tensor.dtype() }
    }

    fn is_mixed(&self) -> bool {
        matches!(self.compute_type, DType::BF16 | DType::F16) && self.mode != Mode::Count
    }

    /// Returns `x` in another element type.
    ///
    /// # Errors
    /// When there is no way from one type to the other, or `x` is on an unsupported device.
    pub fn cast(&mut self, x: &Variable, dtype: DType) -> Result<Variable> {
        if x.tensor.dtype() == dtype {
            return Ok(x.clone());
        }
        let traced = ops::cast(&x.tensor, dtype)?;
        Ok(self.record(&[x], traced))
    }

    /// Tells if this is a training pass.
    pub fn is_training(&self) -> bool {
        matches!(self.mode, Mode::Train { .. })
    }

    /// Returns the value of a parameter or buffer.
    pub fn value(&self, id: ParamId) -> &'a Tensor {
        self.params.get(id)
    }

    /// Returns a parameter as an input of an op.
    pub fn param(&self, id: ParamId) -> Variable {
        Variable { tensor: self.params.get(id).clone(), source: self.note_use(id) }
    }

    /// Runs one op of a layer and records it for the backward pass; returns its value, of shape
    /// `shape`.
    ///
    /// `inputs` are the op's inputs in the order of its pullback, and `op` says what it is: while a
    /// model is counted or exported, that is noted and `run` is not called.
    ///
    /// # Errors
    /// The op's own.
    pub fn apply(
        &mut self,
        op: Op,
        inputs: &[&Variable],
        shape: &[usize],
        run: impl FnOnce(&Self) -> Result<Traced>,
    ) -> Result<Variable> {
        if self.mode == Mode::Count {
            return self.counter.note(op, inputs, shape);
        }
        let traced = run(self)?;
        debug_assert_eq!(traced.value.dims(), shape, "a layer promised another shape");
        Ok(self.record(inputs, traced))
    }

    /// Records the op that computed `traced` from `inputs`, in the order of its pullback, and
    /// returns its value.
    pub fn record(&mut self, inputs: &[&Variable], traced: Traced) -> Variable {
        let Traced { value, pullback, pullback_onto } = traced;
        Variable { tensor: value, source: self.note(inputs, pullback, pullback_onto) }
    }

    fn note(
        &mut self,
        inputs: &[&Variable],
        pullback: Pullback,
        pullback_onto: Option<PullbackOnto>,
    ) -> Source {
        let sources: Vec<Source> = inputs.iter().map(|a| a.source).collect();
        let noted = self.is_training() && self.recording != Recording::Nothing;
        if !noted || sources.iter().all(|s| *s == Source::Constant) {
            return Source::Constant;
        }
        self.tape.record(sources, pullback, pullback_onto)
    }

    /// The same elements in another shape.
    ///
    /// # Errors
    /// When the number of elements differs.
    pub fn reshape(&mut self, x: &Variable, shape: &[usize]) -> Result<Variable> {
        if self.mode == Mode::Count {
            return self.counter.note(Op::Reshape, &[x], shape);
        }
        let before = x.tensor.dims().to_vec();
        let value = x.tensor.reshape(shape)?;
        let pullback: Pullback = Box::new(move |dy, _| Ok(vec![Some(dy.reshape(before.as_slice())?)]));
        Ok(Variable { tensor: value, source: self.note(&[x], pullback, None) })
    }

    /// Returns the statistics that a batch norm normalizes `x` by in training.
    pub(crate) fn batch_statistics(&self, x: &Tensor) -> Result<BatchStatistics> {
        match &self.processes {
            Some(processes) => BatchStatistics::of_all(x, processes),
            None => BatchStatistics::of(x),
        }
    }

    /// Records that statistics are taken over the rows of a tensor of this shape, while costs are
    /// counted.
    pub(crate) fn note_statistics(&mut self, shape: &[usize]) {
        if self.mode == Mode::Count {
            let values = shape[..shape.len().saturating_sub(1)].iter().product();
            let fewest = &mut self.counter.fewest_values;
            *fewest = Some(fewest.map_or(values, |fewest| fewest.min(values)));
        }
    }

    /// Notes what the image of a counted pass is, as opposed to other constants.
    pub(crate) fn note_image(&mut self, image: &Variable) {
        self.counter.image = Some(image.tensor.id());
    }

    /// Ends the pass and returns the costs that were counted in [`Mode::Count`].
    pub(crate) fn into_counter(self) -> CostCounter {
        self.counter
    }

    /// Returns, for each element, 0 with probability `rate` or `1 / (1 - rate)`, of shape `[n]`;
    /// `None` outside training, and if nothing is dropped. The draw depends only on the seed of the
    /// pass and `name`.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn dropout_mask(&self, rate: f64, name: &str, n: usize) -> Result<Option<Tensor>> {
        let Mode::Train { seed, .. } = self.mode else { return Ok(None) };
        if rate <= 0.0 {
            return Ok(None);
        }
        let draw = Draw { name: name.into(), rate, len: n };
        let placed = self.draws.as_ref().and_then(|draws| draws.find_or_note(&draw));
        placed.map_or_else(|| draw.tensor(seed, &self.device()), Ok).map(Some)
    }

    /// Returns, for each of `n` samples, 0 if the block's branch is dropped, or 1 over the
    /// probability to keep it, of shape `[n]`.
    ///
    /// `None` in evaluation, and if nothing is dropped. The draw depends only on the seed of the
    /// pass, the block and the branch.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn drop_path_mask(&self, block: BlockIndex, branch: &str, n: usize) -> Result<Option<Tensor>> {
        let rate = self.drop_path_rate(block);
        self.dropout_mask(rate, &format!("drop_path.{}.{branch}", block.index), n)
    }

    /// Returns the probability that a sample drops the block's branches; 0 in evaluation.
    pub fn drop_path_rate(&self, block: BlockIndex) -> f64 {
        let Mode::Train { drop_path, .. } = self.mode else { return 0.0 };
        drop_path_rates(drop_path, block.depth).get(block.index).map_or(0.0, |&rate| f64::from(rate))
    }

    /// Adds the gradients of `output`, weighted by `seed` (of its shape), to `gradients`; ends the
    /// pass.
    ///
    /// # Errors
    /// When an op fails; in evaluation there is nothing to go back through, and nothing is added.
    pub fn backward(self, output: &Variable, seed: Tensor, gradients: &mut Gradients) -> Result<()> {
        self.backward_with(output, seed, gradients, &mut |_, _| ())
    }

    /// Like [`Self::backward`], and calls `ready` for each parameter as soon as nothing more is added
    /// to its gradient, in the order of the backward pass. The order depends on the model alone.
    ///
    /// # Errors
    /// As [`Self::backward`].
    pub fn backward_with(
        self,
        output: &Variable,
        seed: Tensor,
        gradients: &mut Gradients,
        ready: &mut (dyn FnMut(ParamId, &mut Gradients) + Send),
    ) -> Result<()> {
        in_thread_pool(&self.device(), || self.tape.backward(output, seed, gradients, ready))
    }
}

/// Runs a pass where that is fastest. On the CPU this is inside the thread pool: a parallel loop
/// that starts outside it puts its thread to sleep first. Work for a GPU stays on the thread that
/// it is on: cuDNN's handles and plans are made once per thread.
pub(crate) fn in_thread_pool<R: Send>(device: &Device, pass: impl FnOnce() -> R + Send) -> R {
    if device.is_cpu() { rayon::scope(|_| pass()) } else { pass() }
}

/// Stochastic depth of every block: evenly spaced from 0 to `rate`, in single precision as the
/// reference has it.
pub fn drop_path_rates(rate: f64, depth: usize) -> Vec<f32> {
    let rate = rate as f32;
    let step = if depth > 1 { rate / (depth - 1) as f32 } else { 0.0 };
    // From both ends, as PyTorch's linspace, so that the last value is exact.
    let at = |i: usize| if i < depth / 2 { step * i as f32 } else { rate - step * (depth - 1 - i) as f32 };
    if depth == 1 { vec![0.0] } else { (0..depth).map(at).collect() }
}
