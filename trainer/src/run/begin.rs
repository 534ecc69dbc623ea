//! How a run begins: from the start, from a checkpoint of its own, or from the weights of another.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use efficienttrain_models::{Backbone, ModelOptions, create_model};
use efficienttrain_schedule::Recipe;

use super::{PlanOffset, Run, checks};
use crate::checkpoint::{Saved, nonfinite_params};
use crate::config::{RunOptions, TrainConfig, absolute};
use crate::data::{DataDigest, difference};
use crate::error::{Error, Result};
use crate::history::History;
use crate::loss::Loss;
use crate::network::Network;
use crate::objective::Classification;
use crate::pretrain::{Reconstruction, autoencoder};
use crate::sources::Sources;
use crate::state::TrainState;

impl Run {
    /// A run from the start. Everything that can be wrong with the configuration is found here, before any training.
    ///
    /// # Errors
    /// When the data set, the model, the recipe or an option is not as expected.
    pub fn new(config: TrainConfig, options: RunOptions, sources: Sources) -> Result<Self> {
        let init = config.first_weights()?;
        let mut run = Self::fresh(config, options, sources)?;
        run.begin_with(init)?;
        Ok(run)
    }

    /// A run with weights drawn from its seed, whatever `--init` says.
    fn fresh(config: TrainConfig, options: RunOptions, sources: Sources) -> Result<Self> {
        config.check()?;
        Self::build(config, options, sources, first_state)
    }

    fn begin_with(&mut self, init: Option<Saved>) -> Result<()> {
        if let Some(saved) = init {
            let classes = self.sources.train.classes();
            let initial = saved.begin(&mut self.state, self.config.init_ema, classes)?;
            self.init = Some(format!("{}: {}", saved.path().display(), initial.report));
            self.notes.extend(initial.head);
        }
        Ok(())
    }

    /// A run from the start with a model of one's own, which `model` makes for a number of classes and a size. The recipe
    /// must be a full name, such as `resnet50-etpp`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_backbone(
        config: TrainConfig,
        options: RunOptions,
        sources: Sources,
        model: impl FnOnce(&ModelOptions) -> Result<Box<dyn Backbone>>,
    ) -> Result<Self> {
        let init = config.first_weights()?;
        let state = |config: &TrainConfig, options: &RunOptions, recipe: &Recipe, first: &ModelOptions| {
            state_of(model(first)?, config, options, recipe)
        };
        let mut run = Self::build(config, options, sources, state)?;
        run.begin_with(init)?;
        Ok(run)
    }

    fn build(
        mut config: TrainConfig,
        options: RunOptions,
        sources: Sources,
        state: impl FnOnce(&TrainConfig, &RunOptions, &Recipe, &ModelOptions) -> Result<TrainState>,
    ) -> Result<Self> {
        // A checkpoint and the file of options say everything by themselves.
        config.embed_recipe()?;
        config.check_recipe()?;
        options.check()?;
        let plan = config.plan(sources.train.len())?;
        options.check_replay(&plan)?;
        let num_classes = sources.train.classes().len();
        let first = ModelOptions {
            num_classes,
            input_size: [plan.at(0)?.size as usize; 2],
            ..ModelOptions::default()
        };
        // A checkpoint names the model, also where the recipe chose it.
        config.model.get_or_insert_with(|| plan.recipe().model.clone());
        let state = state(&config, &options, plan.recipe(), &first)?;
        checks::check_batch_norm(&state, &plan)?;
        let (data, mut warnings) =
            (DataDigest::of(&*sources.train, config.data.as_deref()), checks::warnings(&plan)?);
        if config.ema_warmup && state.ema.is_none() {
            warnings.push("--ema-warmup has no effect: the run keeps no average; give --ema-decay".into());
        }
        // Whoever reads the checkpoint or the file of options may do so from elsewhere.
        config.data = config.data.map(absolute);
        Ok(Self {
            config,
            options,
            sources,
            plan,
            state,
            history: History::default(),
            step: 0,
            offset: PlanOffset::default(),
            init: None,
            data,
            notes: Vec::new(),
            warnings,
            bad: BTreeSet::new(),
            stop: Arc::default(),
            keeper: None,
        })
    }

    /// The run with a loss of one's own. It is not stored: give it again to a run that goes on.
    #[must_use]
    pub fn with_loss(mut self, loss: Arc<dyn Loss>) -> Self {
        self.state.objective = Arc::new(Classification(loss));
        self
    }

    /// The run with a flag of one's own for [`Self::stop_flag`], so that one flag stops several runs.
    #[must_use]
    pub fn with_stop_flag(mut self, stop: Arc<AtomicBool>) -> Self {
        self.stop = stop;
        self
    }

    /// A run that goes on where `saved` stopped, bitwise as if it had never stopped.
    ///
    /// # Errors
    /// As [`Run::new`]; also when the data set has changed, or the checkpoint is of another model.
    pub fn resume(saved: &Saved, options: RunOptions, sources: Sources) -> Result<Self> {
        Self::resume_as(saved, saved.run()?.config.clone(), options, sources)
    }

    /// A run that goes on where `saved` stopped with another configuration: where it differs, so does what follows. Where
    /// the plan differs, the run goes on after the compute that it has spent, and with the next image of its order.
    ///
    /// # Errors
    /// As [`Self::resume`]; also when the run as it is now ends before what the checkpoint has spent.
    pub fn resume_as(
        saved: &Saved,
        config: TrainConfig,
        options: RunOptions,
        sources: Sources,
    ) -> Result<Self> {
        check_data(saved, &sources)?;
        // What it began with is in the checkpoint.
        let mut run = Self::fresh(config, options, sources)?;
        run.restore(saved)?;
        run.take_place_of(saved.run()?)?;
        Ok(run)
    }

    /// This run, which has not begun, at the step, with the weights and the history of a checkpoint.
    ///
    /// # Errors
    /// When the checkpoint is of another data set or model, or of a step behind the run's end.
    pub fn go_on(mut self, saved: &Saved) -> Result<Self> {
        check_data(saved, &self.sources)?;
        self.restore(saved)?;
        let (step, total) = (self.step, self.total_steps());
        if step > total {
            let what =
                format!("the checkpoint is at step {step}, the run now ends at step {total}; raise --epochs");
            return Err(Error::config("resume", what));
        }
        Ok(self)
    }

    /// Takes weights, moments, averages and history of a checkpoint.
    fn restore(&mut self, saved: &Saved) -> Result<()> {
        let record = saved.run()?;
        self.notes.extend(saved.restore(&mut self.state)?);
        let stores = [("", Some(&self.state.params)), ("of the average ", self.state.ema.as_ref())];
        for (of, store) in stores {
            if let Some(what) = store.map(nonfinite_params).transpose()?.flatten() {
                let file = saved.path().display();
                self.warnings
                    .push(format!("in {file} {of}{what}: training has diverged before it was written"));
            }
        }
        let before = record.data.as_ref();
        if let Some(what) = before.and_then(|data| self.data.changed_since(data, &record.classes)) {
            let what = format!("the training images are not those that the run has been trained on: {what}");
            self.warnings.push(what);
        }
        (self.step, self.offset, self.history) = (record.step, record.offset, record.history.clone());
        Ok(())
    }

    /// This run from its first step on, but with the weights, moments and averages of a checkpoint, and in the data from
    /// `first_sample` on.
    ///
    /// # Errors
    /// When the checkpoint is of another model.
    pub fn starting_from(mut self, saved: &Saved, first_sample: u64) -> Result<Self> {
        saved.restore(&mut self.state)?;
        self.offset.samples = i64::try_from(first_sample).unwrap_or(i64::MAX);
        Ok(self)
    }
}

/// What a run of this configuration trains, on its device, before the first step: a classifier, or an autoencoder where there
/// is a target.
///
/// # Errors
/// When model, size, an option or the device is not as expected.
pub(crate) fn first_state(
    config: &TrainConfig,
    options: &RunOptions,
    recipe: &Recipe,
    first: &ModelOptions,
) -> Result<TrainState> {
    if config.target.is_none() {
        return state_of(create_model(&recipe.model, first)?, config, options, recipe);
    }
    let model = autoencoder(config, first.input_size[0])?;
    let mut state = state_of(model, config, options, recipe)?;
    state.objective = Arc::new(Reconstruction);
    Ok(state)
}

fn state_of(
    model: impl Into<Network>,
    config: &TrainConfig,
    options: &RunOptions,
    recipe: &Recipe,
) -> Result<TrainState> {
    let mut state = TrainState::with_model(model, recipe, config.seed)?;
    config.apply_to(&mut state)?;
    state.checkpoint_activations = options.checkpoint_activations;
    state.move_to(&options.device.open()?)?;
    state.check_precision()?;
    Ok(state)
}

/// That a checkpoint's run had the same data.
fn check_data(saved: &Saved, sources: &Sources) -> Result<()> {
    let record = saved.run()?;
    if record.classes == sources.train.classes() && record.train_images == sources.train.len() {
        return Ok(());
    }
    let (was, is) = (record.train_images, sources.train.len());
    let images = match was == is {
        true => String::new(),
        false => format!("the run had {was} training images, --data now has {is}; "),
    };
    let classes = difference(&record.classes, sources.train.classes())
        .map_or(String::new(), |difference| format!("the classes differ: {difference}; "));
    let what = format!("{images}{classes}give the same data");
    Err(Error::config("resume", what))
}
