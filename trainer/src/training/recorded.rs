//! Passes on a GPU that are recorded once and launched as CUDA graphs afterwards.
//!
//! To launch the kernels of a pass one by one takes the processor 9 to 15 ms, whatever the size of
//! the images; small ones are computed faster than that. The first pass of a kind (size, batch,
//! stochastic depth, ...) runs as ever, the second one is recorded, and later ones are launched by one
//! call each. Kernels, their order and so the results are the same. What changes from pass to pass
//! lies at fixed addresses: images, targets, random factors and the seed of the backward pass.
//!
//! `EFFICIENTTRAIN_GRAPHS=0` disables it.

use std::sync::{Arc, LazyLock};

use candle_core::{DType, Device, Tensor, TensorId};
use efficienttrain_models::{Draws, Gradients, Mode, ParamId, ops};
use ops::cuda::Graph;

use crate::config::precision::Precision;
use crate::error::Result;
use crate::training::objective::DeviceBatch;
use crate::training::state::TrainState;

static ENABLED: LazyLock<bool> =
    LazyLock::new(|| std::env::var("EFFICIENTTRAIN_GRAPHS").as_deref() != Ok("0"));

/// A pass of a step.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    pub(crate) batch: &'a DeviceBatch,
    /// Share of the step's images.
    pub(crate) share: f64,
    pub(crate) drop_path: f64,
    /// Seed of the pass's random draws.
    pub(crate) seed: u64,
}

/// What became of a pass.
pub(crate) enum Attempt {
    /// It was launched as a graph; its loss.
    Launched(Tensor),
    /// It is still to be run, with notes about its random factors if the next one may be recorded.
    Left(Option<Draws>),
}

/// What the kernels of a pass depend on.
#[derive(Clone, Debug, PartialEq)]
struct Kind {
    images: Vec<usize>,
    targets: Option<Vec<usize>>,
    drop_path: u64,
    precision: Precision,
    checkpoint_activations: bool,
    frozen: Arc<[bool]>,
    objective: usize,
    /// Weights and buffers, which a recording addresses.
    params: Vec<TensorId>,
}

impl Kind {
    fn of(state: &TrainState, pass: &Pass) -> Self {
        Self {
            images: pass.batch.images.dims().to_vec(),
            targets: pass.batch.targets.as_ref().map(|targets| targets.dims().to_vec()),
            drop_path: pass.drop_path.to_bits(),
            precision: state.precision,
            checkpoint_activations: state.checkpoint_activations,
            frozen: state.frozen(),
            objective: Arc::as_ptr(&state.objective).cast::<()>() as usize,
            params: state.params.iter().map(|(_, t)| t.id()).collect(),
        }
    }
}

/// Records passes, and launches those that it has recorded.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    phase: Phase,
    /// Why passes are not recorded, until it is told.
    refusal: Option<String>,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Empty,
    /// A pass of this kind has run.
    Seen(Kind, Draws),
    Recorded(Box<Recorded>),
    /// A pass of this kind cannot be recorded.
    Refused(Kind),
}

impl Recorder {
    /// Runs a pass forward and backward and adds its gradients, if passes of its kind are recorded
    /// already or can be now.
    pub(crate) fn run(
        &mut self,
        state: &TrainState,
        pass: Pass,
        gradients: &mut Gradients,
    ) -> Result<Attempt> {
        let recordable = *ENABLED && state.device().is_cuda() && state.processes.is_none();
        if !recordable || !state.objective.is_recordable() {
            return Ok(Attempt::Left(None));
        }
        let kind = Kind::of(state, &pass);
        match std::mem::take(&mut self.phase) {
            Phase::Recorded(recorded) if recorded.kind == kind => self.phase = Phase::Recorded(recorded),
            Phase::Refused(known) if known == kind => {
                self.phase = Phase::Refused(known);
                return Ok(Attempt::Left(None));
            }
            Phase::Seen(known, draws) if known == kind => match Recorded::new(state, &kind, pass, draws) {
                Ok(recorded) => {
                    let loss = recorded.add_gradients(pass, gradients);
                    self.phase = Phase::Recorded(Box::new(recorded));
                    return loss.map(Attempt::Launched);
                }
                Err(reason) => {
                    self.refusal = Some(reason.to_string());
                    self.phase = Phase::Refused(kind);
                    return Ok(Attempt::Left(None));
                }
            },
            // Memory of another recording is given back here.
            _ => {
                let draws = Draws::default();
                self.phase = Phase::Seen(kind, draws.clone());
                return Ok(Attempt::Left(Some(draws)));
            }
        }
        let Phase::Recorded(recorded) = &mut self.phase else { return Ok(Attempt::Left(None)) };
        recorded.launch(pass, state)?;
        recorded.add_gradients(pass, gradients).map(Attempt::Launched)
    }

    /// Returns why passes of the present kind could not be recorded, once.
    pub(crate) fn take_refusal(&mut self) -> Option<String> {
        self.refusal.take()
    }
}

/// A pass forward and backward as one graph. Tensors are freed in this order.
#[derive(Debug)]
struct Recorded {
    kind: Kind,
    loss: Tensor,
    gradients: Vec<(ParamId, Tensor)>,
    inputs: Inputs,
    graph: Graph,
}

/// What a recorded pass reads, at fixed addresses.
#[derive(Debug)]
struct Inputs {
    /// All elements in one dimension.
    images: Tensor,
    targets: Option<Tensor>,
    draws: Draws,
    /// Gradient of the loss, a scalar, and its present value.
    seed: Tensor,
    factor: f32,
}

impl Inputs {
    fn new(batch: &DeviceBatch, draws: Draws, device: &Device) -> Result<Self> {
        let flat = |t: &Tensor| Tensor::zeros(t.elem_count(), DType::F32, device);
        let targets = batch.targets.as_ref().map(flat).transpose()?;
        draws.place(device)?;
        // Not a number that a pass could have.
        let (seed, factor) = (Tensor::zeros((), DType::F32, device)?, f32::NAN);
        Ok(Self { images: flat(&batch.images)?, targets, draws, seed, factor })
    }

    /// The same memory in the shapes of a batch.
    fn batch(&self, kind: &Kind) -> Result<DeviceBatch> {
        let images = self.images.reshape(kind.images.as_slice())?;
        let shaped = |(flat, shape): (&Tensor, &Vec<usize>)| flat.reshape(shape.as_slice());
        let targets = self.targets.as_ref().zip(kind.targets.as_ref()).map(shaped).transpose()?;
        Ok(DeviceBatch { images, targets })
    }

    /// Copies what a pass reads to its place.
    fn fill(&mut self, pass: Pass, state: &TrainState) -> Result<()> {
        ops::cuda::write_part(&self.images, 0, &pass.batch.images.flatten_all()?)?;
        if let (Some(flat), Some(targets)) = (&self.targets, &pass.batch.targets) {
            ops::cuda::write_part(flat, 0, &targets.flatten_all()?)?;
        }
        self.draws.fill(pass.seed)?;
        let factor = (pass.share * state.scale()) as f32;
        if self.factor.to_bits() != factor.to_bits() {
            ops::upload_into(&self.seed, &[factor])?;
            self.factor = factor;
        }
        Ok(())
    }
}

impl Recorded {
    /// Records a pass and runs it once.
    fn new(state: &TrainState, kind: &Kind, pass: Pass, draws: Draws) -> Result<Self> {
        let mut inputs = Inputs::new(pass.batch, draws.clone(), state.device())?;
        inputs.fill(pass, state)?;
        let batch = inputs.batch(kind)?;
        let (graph, (loss, gradients)) = Graph::record(state.device(), || -> Result<_> {
            let mode = Mode::Train { seed: pass.seed, drop_path: pass.drop_path };
            let mut cx = state.context(mode).with_draws(Some(draws));
            let loss = state.objective.loss(&mut cx, &state.model, &batch, pass.seed)?;
            let mut gradients = Gradients::new(state.params.len());
            cx.backward(&loss, inputs.seed.clone(), &mut gradients)?;
            let gradients = gradients.iter().map(|(id, gradient)| (id, gradient.clone())).collect();
            Ok((loss.tensor().clone(), gradients))
        })?;
        Ok(Self { kind: kind.clone(), loss, gradients, inputs, graph })
    }

    fn launch(&mut self, pass: Pass, state: &TrainState) -> Result<()> {
        self.inputs.fill(pass, state)?;
        Ok(self.graph.launch()?)
    }

    /// Adds the gradients of the last launch to `gradients`, and returns its loss.
    fn add_gradients(&self, pass: Pass, gradients: &mut Gradients) -> Result<Tensor> {
        // The only pass of a step is over before the next launch.
        let alone = pass.share == 1.0;
        for (id, gradient) in &self.gradients {
            match gradients.get(*id) {
                Some(sum) => ops::accumulate(sum, gradient)?,
                None if alone => gradients.set(*id, gradient.clone()),
                None => gradients.set(*id, gradient.copy()?),
            }
        }
        Ok(if alone { self.loss.clone() } else { self.loss.copy()? })
    }
}
