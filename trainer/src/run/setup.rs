//! Sets up a run: recipe and plan, model and weights, and checks of both.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle_core::Device;
use efficienttrain_models::{Backbone, ModelOptions, create_model};
use efficienttrain_schedule::{Plan, Recipe};

use crate::checkpoint::offset::PlanOffset;
use crate::checkpoint::read::Checkpoint;
use crate::config::options::RunOptions;
use crate::config::train::TrainConfig;
use crate::config::values::{LossName, NonFinitePolicy};
use crate::data::source::cached::Cached;
use crate::data::source::digest::DataDigest;
use crate::data::source::{Source, labels_of};
use crate::distributed::buckets::Buckets;
use crate::distributed::group::Group;
use crate::distributed::sums::OrderedSums;
use crate::error::{Error, Result};
use crate::events::history::History;
use crate::hub::data_folder;
use crate::pretrain::masked::{Reconstruction, autoencoder};
use crate::run::bad_images::BadImages;
use crate::run::init_weights::{load_init, open_init};
use crate::run::memory_check::largest_on_host;
use crate::run::sources::Sources;
use crate::run::{Run, checks};
use crate::training::loss::{BinaryCrossEntropy, CrossEntropy, Loss};
use crate::training::memory::memory;
use crate::training::network::Network;
use crate::training::objective::Classification;
use crate::training::state::TrainState;
use crate::util::paths::absolute;

impl Run {
    /// Creates a run from its start. All errors in the configuration are reported here, before any
    /// training.
    ///
    /// # Errors
    /// Returns an error if the data set, the model, the recipe or an option is invalid.
    pub fn new(mut config: TrainConfig, options: RunOptions, sources: Sources) -> Result<Self> {
        let init = open_init(&mut config)?;
        let mut run = Self::without_init(config, options, sources)?;
        run.load_init(init)?;
        Ok(run)
    }

    /// Checks that recipe, model and sizes are compatible, before any data is read.
    ///
    /// # Errors
    /// Same as [`TrainConfig::recipe`]; also if the model is unknown or does not support a size of
    /// the curriculum.
    pub fn check(config: &TrainConfig) -> Result<()> {
        let recipe = config.recipe()?;
        let sizes = recipe.curriculum.stages.iter().map(|stage| stage.size).chain([config.base_size]);
        for size in sizes {
            if config.target.is_some() {
                autoencoder(config, size as usize)?;
            }
            create_model(&recipe.model, &config.model_options(1, size as usize))?;
        }
        Ok(())
    }

    /// Creates a run with random weights from its seed, ignoring `--init`.
    pub(crate) fn without_init(config: TrainConfig, options: RunOptions, sources: Sources) -> Result<Self> {
        Self::check(&config)?;
        Self::assemble(config, options, sources, initial_state)
    }

    fn load_init(&mut self, init: Option<Checkpoint>) -> Result<()> {
        if let Some(saved) = init {
            let classes = self.sources.train.classes();
            let initial = load_init(&saved, &mut self.state, self.config.init_ema, classes)?;
            self.init = Some(format!("{}: {}", saved.path().display(), initial.report));
            self.notes.extend(initial.head);
        }
        Ok(())
    }

    /// Creates a run with a custom model, which `model` constructs for a number of classes and a
    /// size. The recipe must be a full name, such as `resnet50-etpp`.
    ///
    /// # Errors
    /// Same as [`Self::new`].
    pub fn with_backbone(
        mut config: TrainConfig,
        options: RunOptions,
        sources: Sources,
        model: impl FnOnce(&ModelOptions) -> Result<Box<dyn Backbone>>,
    ) -> Result<Self> {
        let init = open_init(&mut config)?;
        let state = |config: &TrainConfig, options: &RunOptions, recipe: &Recipe, first: &ModelOptions| {
            state_of(model(first)?, config, options, recipe)
        };
        let mut run = Self::assemble(config, options, sources, state)?;
        run.load_init(init)?;
        Ok(run)
    }

    fn assemble(
        mut config: TrainConfig,
        options: RunOptions,
        sources: Sources,
        state: impl FnOnce(&TrainConfig, &RunOptions, &Recipe, &ModelOptions) -> Result<TrainState>,
    ) -> Result<Self> {
        // Checkpoint and options file are then complete by themselves.
        config.embed_recipe()?;
        config.recipe()?;
        options.check()?;
        let sources = cached(sources, &options)?;
        checks::check_labels(&config, &sources)?;
        class_weights(&config, &*sources.train)?;
        let plan = config.plan(sources.train.len())?;
        options.check_replay(&plan, 1)?;
        let num_classes = sources.train.classes().len();
        let first = config.model_options(num_classes, plan.at(0)?.size as usize);
        // Makes the checkpoint name the model even if the recipe chose it.
        config.model.get_or_insert_with(|| plan.recipe().model.clone());
        let state = state(&config, &options, plan.recipe(), &first)?;
        checks::check_batch_norm(&state, &plan)?;
        let memory = largest_on_host(&state, &plan)?;
        let folder = config.data.as_deref().map(data_folder).transpose()?;
        let (data, mut warnings) =
            (DataDigest::of(&*sources.train, folder.as_deref()), checks::warnings(&plan)?);
        warnings.extend(checks::combined_labels(&config, sources.train.classes()));
        warnings.extend(memory.and_then(|(step, host)| step.warning(host)));
        if config.ema_warmup && state.ema.is_none() {
            warnings.push(
                "option `ema-warmup` has no effect: the run has no EMA; give option `ema-decay`".into(),
            );
        }
        let described = config.target.is_none().then(|| checks::describe_labels(&*sources.train));
        let notes = described.flatten().into_iter().collect();
        // Checkpoint and options file may be read from another folder.
        config.data = config.data.map(absolute);
        let bad = BadImages::new(options.max_bad_images);
        let mut group = Group::alone();
        group.set_slots(config.devices)?;
        let buckets = Buckets::new(options.bucket_mib, Box::new(OrderedSums::new(config.sum_type)));
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
            notes,
            warnings,
            bad,
            stop: Arc::default(),
            group,
            stop_agreed: false,
            buckets,
            writer: None,
        })
    }

    /// Sets a custom loss. It is not stored: set it again for a resumed run.
    #[must_use]
    pub fn with_loss(mut self, loss: Arc<dyn Loss>) -> Self {
        self.state.objective = Arc::new(Classification(loss));
        self
    }

    /// Sets a custom flag for [`Self::stop_flag`], so that one flag stops several runs.
    #[must_use]
    pub fn with_stop_flag(mut self, stop: Arc<AtomicBool>) -> Self {
        self.stop = stop;
        self
    }
}

/// Creates the initial state of a configuration on its device: a classifier, or an autoencoder if
/// there is a target.
///
/// # Errors
/// Returns an error if model, size, an option or the device is invalid.
pub(crate) fn initial_state(
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
    configure(&mut state, config)?;
    state.checkpoint_activations = options.checkpoint_activations;
    state.move_to(&options.device.open()?)?;
    state.check_precision()?;
    Ok(state)
}

/// Sets loss, precision, layer-wise decay, frozen parameters and the handling of non-finite steps.
fn configure(state: &mut TrainState, config: &TrainConfig) -> Result<()> {
    state.objective = Arc::new(Classification(loss_of(config)));
    state.precision = config.precision;
    state.ema_warmup = config.ema_warmup;
    state.undo_bad_steps = config.on_nonfinite != NonFinitePolicy::Stop;
    if config.layer_decay < 1.0 {
        state.set_layer_decay(config.layer_decay);
    }
    if !config.freeze.is_empty() {
        state.freeze(&config.freeze)?;
    }
    if !config.no_decay.is_empty() {
        state.exempt_from_decay(&config.no_decay)?;
    }
    Ok(())
}

/// Returns the weights of the classes of a data set, if the run has any.
///
/// # Errors
/// Those of [`ClassWeights::of`](crate::config::ClassWeights).
pub(crate) fn class_weights(config: &TrainConfig, source: &dyn Source) -> Result<Option<Arc<[f32]>>> {
    let Some(weights) = &config.class_weights else { return Ok(None) };
    let mut counts = vec![0; source.classes().len()];
    let labels = (0..source.len()).flat_map(|index| labels_of(source, index));
    labels.for_each(|label| counts[label as usize] += 1);
    Ok(Some(weights.of(source.classes(), &counts)?.into()))
}

fn loss_of(config: &TrainConfig) -> Arc<dyn Loss> {
    match config.loss {
        LossName::CrossEntropy => Arc::new(CrossEntropy),
        LossName::Bce => {
            Arc::new(BinaryCrossEntropy { threshold: config.bce_threshold.map(|threshold| threshold as f32) })
        }
    }
}

/// Like [`checks::check_batch_norm`], for a run that does not start yet.
///
/// # Errors
/// Same as [`checks::check_batch_norm`].
pub(crate) fn check_batches(
    config: &TrainConfig,
    options: &RunOptions,
    plan: &Plan,
    num_classes: usize,
) -> Result<()> {
    if checks::stages(plan).all(|(_, stage)| stage.batch_per_device > 1) {
        return Ok(());
    }
    let first = config.model_options(num_classes, plan.at(0)?.size as usize);
    checks::check_batch_norm(&initial_state(config, options, plan.recipe(), &first)?, plan)
}

/// Keeps decoded training images in memory if the options say so.
fn cached(sources: Sources, options: &RunOptions) -> Result<Sources> {
    let bytes = u64::from(options.cache_mib) << 20;
    if bytes == 0 {
        return Ok(sources);
    }
    let free = memory(&Device::Cpu)?.free;
    if bytes > free {
        let what = format!(
            "{} MiB for decoded images, but {} MiB of memory are available; give less, or 0 for none",
            options.cache_mib,
            free >> 20
        );
        return Err(Error::config("cache-mib", what));
    }
    Ok(Sources { train: Arc::new(Cached::new(sources.train, bytes)), val: sources.val })
}
