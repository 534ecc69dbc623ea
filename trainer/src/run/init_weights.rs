//! The first weights of a run, from a checkpoint or a weight file.

use std::collections::HashMap;

use efficienttrain_models::Error as ModelError;
use efficienttrain_models::weights::{self, LoadOptions, Report, Tensors};

use crate::checkpoint::finite::nonfinite;
use crate::checkpoint::read::Checkpoint;
use crate::config::train::TrainConfig;
use crate::error::{Error, Result};
use crate::pretrain::masked::encoder_of;
use crate::training::state::TrainState;

/// What became of first weights.
#[derive(Clone, Debug)]
pub(crate) struct InitReport {
    /// What became of each tensor.
    pub report: Report,
    /// How the head was brought to the classes of the run, where it was not taken as a whole.
    pub head: Option<String>,
}

/// Rows of a file's head for the classes of a run.
struct HeadRows {
    /// Row of each class of the run, if the file has the class.
    rows: Vec<Option<usize>>,
    /// In words.
    what: String,
}

/// Opens the file of `init`.
///
/// # Errors
/// Returns an error if it cannot be read or is no weight file.
pub(crate) fn open_init(config: &TrainConfig) -> Result<Option<Checkpoint>> {
    let named = |error: Error| match error {
        Error::Io { path, source } => {
            Error::config("init", format!("cannot read {}: {source}", path.display()))
        }
        other => other,
    };
    config.init.as_deref().map(Checkpoint::open).transpose().map_err(named)
}

/// Puts the weights into a state that has not begun, and into its average. Rows of the head go to the class of their
/// name among `classes`, those of other classes stay as drawn; tables of positions are brought to the model's size; of
/// pre-training the encoder is taken.
///
/// # Errors
/// Returns an error if the weights are those of another model or not finite, or `ema` is asked for and there is none.
pub(crate) fn load_init(
    saved: &Checkpoint,
    state: &mut TrainState,
    ema: bool,
    classes: &[String],
) -> Result<InitReport> {
    let ignore_unexpected = saved.record.is_none();
    let adapt =
        LoadOptions { adapt_head: true, adapt_size: true, ignore_unexpected, ..LoadOptions::default() };
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
            let what = format!("{error}; expected weights of the model that is trained: see option `model`");
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

/// Training cannot begin with numbers that are not finite, and would blame the learning rate.
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

/// The rows of the head by the names of their classes; none where they are the run's in its order, or not known.
fn head_rows(saved: &Checkpoint, classes: &[String]) -> Option<HeadRows> {
    let known = saved.record.as_ref().filter(|run| run.config.target.is_none())?.classes.as_slice();
    if known == classes {
        return None;
    }
    let mut places: HashMap<&str, std::vec::IntoIter<usize>> = HashMap::new();
    for class in known {
        let all = || (0..known.len()).filter(|&i| known[i] == *class).collect::<Vec<_>>();
        places.entry(class).or_insert_with(|| all().into_iter());
    }
    // Of classes that share a name, each takes a row of its own.
    let rows: Vec<Option<usize>> =
        classes.iter().map(|class| places.get_mut(class.as_str()).and_then(Iterator::next)).collect();
    let new: Vec<&str> =
        classes.iter().zip(&rows).filter(|(_, row)| row.is_none()).map(|(c, _)| c.as_str()).collect();
    let taken = classes.len() - new.len();
    let mut what = format!("the head takes {taken} of its {} rows by the names of their classes", rows.len());
    if !new.is_empty() {
        let more = new.len().saturating_sub(8);
        let and = if more > 0 { format!(" and {more} more") } else { String::new() };
        what += &format!("; drawn anew: {}{and}", new[..new.len() - more].join(", "));
    }
    Some(HeadRows { rows, what })
}

/// What became of the head, where that is worth a line.
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
    let what = "the head is taken as it is, class by class in their order: the file does not name them";
    rows.map(|head| head.what).or_else(|| by_place.then(|| what.into()))
}
