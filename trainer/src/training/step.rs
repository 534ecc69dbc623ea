//! One optimizer step: gradients are accumulated over micro-batches, then applied.
//!
//! A [`Step`] borrows the state for as long as it lasts, so that nothing else can be done with a
//! state in the middle of a step. Dropped without an update, it leaves the state as it was.

use candle_core::Tensor;
use efficienttrain_models::{Gradients, Mode, ObservedStatistics, ParamId, ParamKind, StatisticsLog, ops};
use efficienttrain_schedule::StepSettings;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::data::batch::Batch;
use crate::distributed::buckets::GradientReducer;
use crate::distributed::slots::{Node, SlotSums};
use crate::error::{Error, Result};
use crate::training::ema::{average_others, warmed_decay};
use crate::training::objective::DeviceBatch;
use crate::training::pass_report::PassReports;
use crate::training::pending::PendingUpdate;
#[cfg(feature = "cuda")]
use crate::training::recorded::{Attempt, Pass};
use crate::training::state::TrainState;

/// Result of one optimizer step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepResult {
    /// Loss, averaged over the images of the step.
    pub loss: f64,
    /// Norm of all gradients together, before clipping.
    pub grad_norm: f64,
}

/// Optimizer step whose gradients are being accumulated.
#[derive(Debug)]
pub struct Step<'a> {
    pub(super) state: &'a mut TrainState,
    /// Of the present slot.
    gradients: Gradients,
    /// Of the slots before it.
    sums: SlotSums<Gradients>,
    /// The present slot.
    slot: u32,
    pub(super) losses: Vec<MicroLoss>,
    /// Batch statistics of each pass, if they are combined with those of other processes.
    statistics: Option<Vec<Vec<ObservedStatistics>>>,
    /// Buffers as they were before the step.
    pub(super) buffers: Vec<(ParamId, Tensor)>,
}

/// Loss of a micro-batch, on its device, and its share of the step.
#[derive(Debug)]
pub(super) struct MicroLoss {
    loss: Tensor,
    share: f64,
}

impl TrainState {
    /// Starts an optimizer step.
    ///
    /// # Errors
    /// Returns an error if there is not enough memory for a copy of the buffers.
    pub fn begin_step(&mut self) -> Result<Step<'_>> {
        let undo = self.undo_bad_steps;
        Step::begin(self, undo)
    }

    /// Starts the part of a step that a process computes whose first device slot is `slot`.
    ///
    /// # Errors
    /// Same as [`Self::begin_step`].
    pub(crate) fn begin_shared_step(&mut self, slot: u32) -> Result<Step<'_>> {
        let mut step = self.begin_step()?;
        // Those of all processes are the same in each of them already.
        let synchronized = step.state.processes.is_some();
        (step.slot, step.statistics) = (slot, (!synchronized).then(Vec::new));
        Ok(step)
    }

    /// Trains on one batch: a step with a single micro-batch.
    ///
    /// # Errors
    /// Same as [`Step::accumulate`] and [`Step::update`].
    pub fn train_on(
        &mut self,
        batch: &Batch,
        seed: u64,
        settings: &StepSettings,
        clip_grad: Option<f64>,
    ) -> Result<StepResult> {
        let mut step = self.begin_step()?;
        step.accumulate(batch, 1.0, settings.drop_path, seed)?;
        step.update(settings, clip_grad)
    }

    /// Checks on one batch that every parameter has a gradient; changes nothing.
    ///
    /// # Errors
    /// The error names the parameters that would never be trained.
    pub fn check_gradients(&mut self, batch: &Batch) -> Result<()> {
        // The pass is like those of a step, so it takes no more memory.
        let mut step = Step::begin(self, true)?;
        step.accumulate(batch, 1.0, 0.0, 0)?;
        let model = &step.state.model;
        Ok(step.gradients.check_complete(model.name(), model.specs())?)
    }
}

impl<'a> Step<'a> {
    /// Starts a step that restores all buffers when dropped, or only frozen ones without `undo`.
    pub(crate) fn begin(state: &'a mut TrainState, undo: bool) -> Result<Self> {
        let mut buffers = Vec::new();
        for (spec, id) in state.model.specs().iter().zip(state.params.ids()) {
            if spec.kind != ParamKind::Parameter && (undo || state.is_frozen(id)) {
                buffers.push((id, state.params.get(id).copy()?));
            }
        }
        let gradients = Gradients::new(state.params.len());
        let (sums, losses) = (SlotSums::default(), Vec::new());
        Ok(Self { state, gradients, sums, slot: 0, losses, statistics: None, buffers })
    }

    /// Adds the gradients of one micro-batch, weighted by its `share` of the step. Does not wait
    /// for a GPU.
    ///
    /// # Errors
    /// Returns an error if the batch is incompatible with the model.
    pub fn accumulate(&mut self, batch: &Batch, share: f64, drop_path: f64, seed: u64) -> Result<()> {
        self.run_pass(batch, share, drop_path, seed, None)
    }

    /// Runs the last pass of this process. Gradients go to other processes as they are completed.
    ///
    /// # Errors
    /// Same as [`Self::accumulate`]; also if the communication fails.
    pub(crate) fn accumulate_last(
        &mut self,
        batch: &Batch,
        share: f64,
        drop_path: f64,
        seed: u64,
        reducer: &mut GradientReducer,
    ) -> Result<()> {
        self.run_pass(batch, share, drop_path, seed, Some(reducer))?;
        reducer.complete()
    }

    fn run_pass(
        &mut self,
        batch: &Batch,
        share: f64,
        drop_path: f64,
        seed: u64,
        reducer: Option<&mut GradientReducer>,
    ) -> Result<()> {
        let batch = DeviceBatch::new(batch, self.state.objective.has_accuracy(), self.state.device())?;
        let mut draws = None;
        #[cfg(feature = "cuda")]
        if reducer.is_none() && self.statistics.is_none() {
            let pass = Pass { batch: &batch, share, drop_path, seed };
            let mut recorder = std::mem::take(&mut self.state.recorder);
            let ran = recorder.run(self.state, pass, &mut self.gradients);
            self.state.recorder = recorder;
            match ran? {
                Attempt::Launched(loss) => {
                    self.losses.push(MicroLoss { loss, share });
                    return Ok(());
                }
                Attempt::Left(noted) => draws = noted,
            }
        }
        let state = &*self.state;
        let mut cx = state.context(Mode::Train { seed, drop_path }).with_draws(draws.take());
        let log = StatisticsLog::default();
        if self.statistics.is_some() {
            cx = cx.with_statistics_log(log.clone());
        }
        let loss = state.objective.loss(&mut cx, &state.model, &batch, seed)?;
        let seed = Tensor::new((share * state.scale()) as f32, state.device())?;
        self.losses.push(MicroLoss { loss: loss.tensor().clone(), share });
        if let Some(passes) = &mut self.statistics {
            passes.push(log.take());
        }
        let Some(reducer) = reducer else { return Ok(cx.backward(&loss, seed, &mut self.gradients)?) };
        let (sums, last) = (&mut self.sums, Node::leaf(self.slot));
        let mut outcome = Ok(());
        let mut ready = |id: ParamId, gradients: &mut Gradients| {
            let gradient = gradients.take(id);
            if let (Some(gradient), false, Ok(())) = (gradient, state.is_frozen(id), &outcome) {
                outcome = send(reducer, id, sums, last, gradient);
            }
        };
        cx.backward_with(&loss, seed, &mut self.gradients, &mut ready)?;
        outcome
    }

    /// Ends the passes of one device slot of the plan. Gradients are summed within a slot first,
    /// and then over slots in pairs.
    ///
    /// # Errors
    /// Returns an error if a sum does not fit into memory.
    pub fn next_slot(&mut self) -> Result<()> {
        let next = Gradients::new(self.state.params.len());
        self.sums.push(Node::leaf(self.slot), std::mem::replace(&mut self.gradients, next))?;
        self.slot += 1;
        Ok(())
    }

    /// Combines this part of a step with those of other processes: gradients, losses, and the
    /// statistics of batch norms, which are applied in the order of the passes. Returns what each
    /// process says in `remarks`, in order of ranks.
    ///
    /// # Errors
    /// Returns an error if another process fails, is gone or is late.
    pub(crate) fn combine<R: Serialize + DeserializeOwned>(
        &mut self,
        reducer: GradientReducer,
        remarks: R,
    ) -> Result<Vec<R>> {
        let share = self.losses.first().map_or(0.0, |micro| micro.share);
        let own =
            PassReports::of(self.losses.iter().map(|micro| &micro.loss), self.statistics.take(), remarks)?;
        let all = own.exchange(reducer.group())?;
        // Frozen ones are restored after the step, as if this process had run all passes.
        all.apply_statistics(&self.state.params)?;
        let device = self.state.device();
        let loss = |&loss: &f32| Ok(MicroLoss { loss: Tensor::new(loss, device)?, share });
        self.losses = all.losses.iter().map(loss).collect::<Result<_>>()?;
        reducer.finish(&self.state.params, &mut self.gradients)?;
        self.sums = SlotSums::default();
        Ok(all.remarks)
    }

    /// Applies the accumulated gradients.
    ///
    /// # Errors
    /// Returns an error if the loss or the norm of the gradients is not finite; the state is then
    /// as before the step.
    pub fn update(self, settings: &StepSettings, clip_grad: Option<f64>) -> Result<StepResult> {
        self.launch_update(settings, clip_grad)?.finish()
    }

    /// Launches the update without waiting for a GPU. On the CPU it is complete when this returns.
    ///
    /// # Errors
    /// Same as [`Self::update`].
    pub(crate) fn launch_update(
        mut self,
        settings: &StepSettings,
        clip_grad: Option<f64>,
    ) -> Result<PendingUpdate<'a>> {
        self.add_up_slots()?;
        let frozen: Vec<ParamId> = self.state.params.ids().filter(|&id| self.state.is_frozen(id)).collect();
        for id in frozen {
            self.gradients.take(id);
        }
        let on_cpu = self.state.device().is_cpu();
        // On a GPU, the update kernels read the last loss themselves.
        let last_loss = self.losses.last().filter(|_| !on_cpu).map(|micro| &micro.loss);
        let clip = self.clip_factor(clip_grad, last_loss)?;
        let result = if on_cpu { Some(self.check_finite(&clip, settings.step)?) } else { None };
        let decay = self.next_ema_decay(settings);
        self.take_step(settings, &clip, decay)?;
        // Must precede the update of their average.
        self.restore_frozen_buffers();
        self.update_other_averages(decay, (!on_cpu).then_some(&clip))?;
        self.gradients.clear();
        if on_cpu {
            self.buffers.clear();
        }
        Ok(PendingUpdate::new(settings.step, self, clip, result))
    }

    /// Adds the gradients of earlier slots to those of the last one.
    fn add_up_slots(&mut self) -> Result<()> {
        let (mut sums, last) = (std::mem::take(&mut self.sums), Node::leaf(self.slot));
        sums.push(last, std::mem::take(&mut self.gradients))?;
        for (_, sum) in sums.finish(self.slot + 1)? {
            self.gradients = sum;
        }
        Ok(())
    }

    fn check_finite(&self, clip: &ops::ClipFactor, step: u64) -> Result<StepResult> {
        let (loss, grad_norm) = (total(&self.losses)?, clip.read()?.norm);
        match loss.is_finite() && grad_norm.is_finite() {
            true => Ok(StepResult { loss, grad_norm }),
            false => Err(Error::NotFinite { step, loss, grad_norm }),
        }
    }

    /// Returns the norm of the accumulated gradients and the factor that clips it.
    fn clip_factor(&self, clip: Option<f64>, loss: Option<&Tensor>) -> Result<ops::ClipFactor> {
        let gradients: Vec<&Tensor> = self.gradients.iter().map(|(_, g)| g).collect();
        let limits = ops::NormLimits { clip, optimizer: self.state.optimizer.own_limit() };
        Ok(ops::clip_factor(&gradients, loss, 1.0 / self.state.scale(), limits)?)
    }

    /// Counts an update of the average, if there is one, and returns its decay.
    fn next_ema_decay(&mut self, settings: &StepSettings) -> Option<f64> {
        let state = &mut *self.state;
        state.ema.as_ref()?;
        let decay = settings.ema_decay?;
        let decay = if state.ema_warmup { warmed_decay(decay, state.ema_updates) } else { decay };
        state.ema_updates += 1;
        Some(decay)
    }

    /// Takes the step of the optimizer with gradients multiplied by `factor`, and moves the averages
    /// of what it changes.
    fn take_step(
        &mut self,
        settings: &StepSettings,
        factor: &ops::ClipFactor,
        ema_decay: Option<f64>,
    ) -> Result<()> {
        let TrainState { model, params, optimizer, ema, .. } = &mut *self.state;
        let rates = (settings.lr, settings.weight_decay);
        let average = ema.as_ref().zip(ema_decay);
        optimizer.step(model.specs(), params, &self.gradients, rates, factor, average)
    }

    /// Moves the averages of everything else, unless `factor` marks the step as skipped.
    fn update_other_averages(&mut self, decay: Option<f64>, factor: Option<&ops::ClipFactor>) -> Result<()> {
        let state = &mut *self.state;
        let (Some(ema), Some(decay)) = (&mut state.ema, decay) else { return Ok(()) };
        average_others(ema, &state.params, &*state.model, &self.gradients, decay, factor)
    }

    /// Restores frozen buffers, which the passes of the step have changed.
    fn restore_frozen_buffers(&mut self) {
        for (id, value) in &self.buffers {
            if self.state.is_frozen(*id) {
                self.state.params.set(*id, value.clone());
            }
        }
    }
}

/// Undoes a step that was not applied; an applied one has no buffers left to restore.
impl Drop for Step<'_> {
    fn drop(&mut self) {
        for (id, value) in std::mem::take(&mut self.buffers) {
            self.state.params.set(id, value);
        }
    }
}

/// Sends the complete gradient of a parameter: its last term, and those of earlier slots.
fn send(
    reducer: &mut GradientReducer,
    id: ParamId,
    earlier: &mut SlotSums<Gradients>,
    last: Node,
    gradient: Tensor,
) -> Result<()> {
    let mut sums = SlotSums::default();
    for (node, gradients) in earlier.pieces_mut() {
        if let Some(gradient) = gradients.take(id) {
            sums.push(node, gradient)?;
        }
    }
    sums.push(last, gradient)?;
    let terms = sums.finish(reducer.group().slots())?;
    reducer.add(id, terms.into_iter().map(|(_, term)| term).collect())
}

/// Returns the loss of a step.
pub(super) fn total(losses: &[MicroLoss]) -> Result<f64> {
    let mut sum = 0.0;
    for MicroLoss { loss, share } in losses {
        sum += share * f64::from(loss.to_scalar::<f32>()?);
    }
    Ok(sum)
}
