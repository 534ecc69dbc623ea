//! Initial weights of a run, from a checkpoint or a weight file.

use std::collections::HashMap;

use efficienttrain_models::Error as ModelError;
use efficienttrain_models::weights::{self, LoadOptions, Report, Tensors};

use crate::checkpoint::finite::nonfinite;
use crate::checkpoint::read::Checkpoint;
use crate::config::train::TrainConfig;
use crate::error::{Error, Result};
use crate::pretrain::masked::encoder_of;
use crate::training::state::TrainState;

/// Report of loading initial weights.
#[derive(Clone, Debug)]
pub(crate) struct InitReport {
    /// Report of each tensor.
    pub report: Report,
    /// How the head was adapted to the classes of the run, if it was not loaded unchanged.
    pub head: Option<String>,
}

/// Rows of a file's head for the classes of a run.
struct HeadRows {
    /// Row of each class of the run, if the file has the class.
    rows: Vec<Option<usize>>,
    /// Description.
    what: String,
}

/// Opens the file of `init`. A run that it is from, or timm's description beside it, also gives
/// channels and numbers by which images are normalized, and the latter the model, unless the
/// configuration has its own.
///
/// # Errors
/// Returns an error if it cannot be read or is not a weight file.
pub(crate) fn open_init(config: &mut TrainConfig) -> Result<Option<Checkpoint>> {
    let named = |error: Error| match error {
        Error::Io { path, source } => {
            Error::config("init", format!("cannot read {}: {source}", path.display()))
        }
        other => other,
    };
    let init = config.init.as_deref().map(Checkpoint::open).transpose().map_err(named)?;
    let Some(saved) = &init else { return Ok(init) };
    if let Some(record) = &saved.record {
        config.adopt_normalization(&record.config);
    } else if let Some(description) = saved.description()? {
        description.complete(config);
    }
    Ok(init)
}

/// Loads the weights into a new state and its average. Rows of the head are assigned to the classes
/// by name, and other classes keep their random initialization; position embeddings are resampled
/// to the model's size; of a pre-training checkpoint, the encoder is loaded.
///
/// # Errors
/// Returns an error if the weights belong to another model or are not finite, or `ema` is given and
/// there is no average.
pub(crate) fn load_init(
    saved: &Checkpoint,
    state: &mut TrainState,
    ema: bool,
    classes: &[String],
) -> Result<InitReport> {
    let ignore_unexpected = saved.record.is_none();
    let adapt = LoadOptions {
        adapt_head: true,
        adapt_input_channels: true,
        adapt_size: true,
        ignore_unexpected,
        ..LoadOptions::default()
    };
    let mut params = state.params.to_device(&candle_core::Device::Cpu)?;
    let first = match &saved.record {
        Some(run) if run.config.target.is_some() => encoder_of(saved, &run.config, run.base_size, ema)?,
        _ => saved.weights(ema)?,
    };
    let (model, rows) = (&*state.model, head_rows(saved, classes));
    let loaded = match &rows {
        Some(head) => weights::load_into_classes(model, &mut params, &first, &adapt, &head.rows),
        None => weights::load_into(model, &mut params, &first, &adapt),
    };
    let report = loaded.map_err(|error| match error {
        ModelError::Weights { .. } => {
            let what = format!("{error}; expected weights of the trained model, see option `model`");
            saved.error(what)
        }
        other => other.into(),
    })?;
    check_finite(saved, &first, &report)?;
    let head = head_in_words(saved, model.classifiers(), rows, &report);
    state.params = params.to_device(state.device())?;
    if let Some(average) = &mut state.ema {
        *average = state.params.deep_clone()?;
    }
    Ok(InitReport { report, head })
}

/// Checks that all weights are finite: otherwise training would fail and blame the learning rate.
fn check_finite(saved: &Checkpoint, tensors: &Tensors, report: &Report) -> Result<()> {
    let loaded = report.loaded.iter().filter_map(|key| Some((key.as_str(), tensors.get(key)?)));
    match nonfinite(loaded)? {
        None => Ok(()),
        Some(what) => {
            Err(saved
                .error(format!("{what}; its training has diverged, or the file is damaged: use another")))
        }
    }
}

/// Matches the rows of the head with classes by name; none if they agree with the run's in order,
/// or are unknown.
fn head_rows(saved: &Checkpoint, classes: &[String]) -> Option<HeadRows> {
    let known = saved.record.as_ref().filter(|run| run.config.target.is_none())?.classes.as_slice();
    if known == classes {
        return None;
    }
    let mut rows_of: HashMap<&str, std::vec::IntoIter<usize>> = HashMap::new();
    for class in known {
        let all = || (0..known.len()).filter(|&i| known[i] == *class).collect::<Vec<_>>();
        rows_of.entry(class).or_insert_with(|| all().into_iter());
    }
    // Each of several classes with the same name takes a separate row.
    let rows: Vec<Option<usize>> =
        classes.iter().map(|class| rows_of.get_mut(class.as_str()).and_then(Iterator::next)).collect();
    let new: Vec<&str> =
        classes.iter().zip(&rows).filter(|(_, row)| row.is_none()).map(|(c, _)| c.as_str()).collect();
    let taken = classes.len() - new.len();
    let mut what = format!("the head takes {taken} of its {} rows by the names of their classes", rows.len());
    if !new.is_empty() {
        let more = new.len().saturating_sub(8);
        let and = if more > 0 { format!(" and {more} more") } else { String::new() };
        what += &format!("; randomly initialized: {}{and}", new[..new.len() - more].join(", "));
    }
    Some(HeadRows { rows, what })
}

/// Describes how the head was loaded, if that is worth a line.
fn head_in_words(
    saved: &Checkpoint,
    heads: &[&str],
    rows: Option<HeadRows>,
    report: &Report,
) -> Option<String> {
    if heads.is_empty() {
        return None;
    }
    let by_place = saved.record.is_none() && report.reinitialized.is_empty();
    let what = "the head is loaded unchanged, class by class in order: the file does not name them";
    rows.map(|head| head.what).or_else(|| by_place.then(|| what.into()))
}
