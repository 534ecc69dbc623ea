//! Loading the tensors of a file into the parameters of a model.

use indexmap::IndexSet;

use super::candidate::Candidate;
use super::names::{Spelling, is_computed, spellings};
use super::report::Report;
use super::{Tensors, adapt};
use crate::params::{ParamId, ParamKind, ParamSpec, summary};
use crate::{Error, Model, ParamStore, Result};

/// Allowed differences between a file and a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// Treat missing and unexpected keys as errors. Otherwise, parameters that the file lacks keep
    /// their values.
    pub strict: bool,
    /// Leave out keys that the model does not have, also if strict: those of a decoder, a
    /// projection, or a profiler. Further blocks of the model itself stay errors: they are those of
    /// a deeper one.
    pub ignore_unexpected: bool,
    /// Keep the model's own head if the file has none, or one for other classes.
    pub adapt_head: bool,
    /// Bring the first convolution from the file's number of image channels to the model's.
    pub adapt_input_channels: bool,
    /// Resample tables of positions from the file's input size, which must be a square, to the
    /// model's.
    pub adapt_size: bool,
}

impl Default for LoadOptions {
    /// Everything must fit.
    fn default() -> Self {
        Self {
            strict: true,
            ignore_unexpected: false,
            adapt_head: false,
            adapt_input_channels: false,
            adapt_size: false,
        }
    }
}

const HINT: &str = "; `adapt_head`, `adapt_input_channels` and `adapt_size` allow for other classes, image channels and \
                    input sizes";

/// Copies tensors of a file, under whatever spelling, into the parameters of a model; their type
/// and device stay.
///
/// All or nothing: after an error `params` is as it was.
///
/// # Errors
/// When shapes differ in ways that `options` does not allow, or (if strict) keys are missing or
/// unexpected: all are named, with the expected and the found shape.
pub fn load_into(
    model: &dyn Model,
    params: &mut ParamStore,
    tensors: &Tensors,
    options: &LoadOptions,
) -> Result<Report> {
    load(model, params, tensors, options, None)
}

/// Loads weights like [`load_into`], into a head for other classes, or for the same in another
/// order: `rows` is, for each class of the model, the row of the file's head for it, if there is
/// one. The other rows keep their values.
///
/// # Errors
/// Those of [`load_into`].
pub fn load_into_classes(
    model: &dyn Model,
    params: &mut ParamStore,
    tensors: &Tensors,
    options: &LoadOptions,
    rows: &[Option<usize>],
) -> Result<Report> {
    load(model, params, tensors, options, Some(rows))
}

fn load(
    model: &dyn Model,
    params: &mut ParamStore,
    tensors: &Tensors,
    options: &LoadOptions,
    rows: Option<&[Option<usize>]>,
) -> Result<Report> {
    let spelling = recognize(model, tensors);
    let mut candidates: Vec<_> =
        model.specs().iter().map(|spec| candidate(spec, spelling, tensors)).collect();
    if let Some(rows) = rows {
        adapt::head_rows(model, &mut candidates, params, rows)?;
    }
    if options.adapt_head {
        adapt::keep_head(model, &mut candidates);
    }
    if options.adapt_input_channels {
        adapt::input_channels(&mut candidates)?;
    }
    if options.adapt_size {
        adapt::input_size(model, &mut candidates)?;
    }
    let mut report = Report { spelling: spelling.name, ..Report::default() };
    let mut faults = sort_keys(&candidates, tensors, &mut report);
    // Who adapts already knows of it; what does not fit then is of another model.
    let adapts = options.adapt_head || options.adapt_input_channels || options.adapt_size;
    let hint = if faults.is_empty() || adapts { "" } else { HINT };
    if options.strict {
        faults.extend(report.missing.iter().map(|key| format!("missing `{key}`")));
        let deeper =
            report.unexpected.iter().filter(|key| !options.ignore_unexpected || is_deeper(key, &candidates));
        faults.extend(deeper.map(|key| format!("unexpected `{key}`")));
    }
    if !faults.is_empty() {
        let what = format!("{} (keys in {} spelling){hint}", summary(&faults), spelling.name);
        return Err(Error::Weights { model: model.name().into(), what });
    }
    store(&candidates, params)?;
    Ok(report)
}

/// The number of classes that the weights of a file were trained for: the rows of its head, if it
/// has one.
///
/// `model` may have any number of classes; it stands for the structure alone.
pub fn num_classes(model: &dyn Model, tensors: &Tensors) -> Option<usize> {
    let native = format!("{}.weight", model.classifiers().first()?);
    tensors.get(&recognize(model, tensors).of(&native))?.dims().first().copied()
}

/// The number of image channels that the weights of a file were trained for: the inputs of the first
/// convolution, if the file has it.
///
/// `model` may have any number of channels; it stands for the structure alone.
pub fn in_channels(model: &dyn Model, tensors: &Tensors) -> Option<usize> {
    let stem = adapt::stem_of(model.specs())?;
    tensors.get(&recognize(model, tensors).of(&stem.name))?.dims().get(1).copied()
}

/// The spelling under which the file has the most parameters.
fn recognize(model: &dyn Model, tensors: &Tensors) -> &'static Spelling {
    let found = |s: &Spelling| model.specs().iter().filter(|p| tensors.contains_key(&s.of(&p.name))).count();
    let all = spellings(model.info().family);
    // `max_by_key` takes the last of equals; the first is timm's.
    all.iter().rev().max_by_key(|spelling| found(spelling)).unwrap_or(&all[0])
}

fn candidate<'a>(spec: &'a ParamSpec, spelling: &Spelling, tensors: &Tensors) -> Candidate<'a> {
    let key = spelling.of(&spec.name);
    let tensor = tensors.get(&key).cloned();
    Candidate { spec, key, tensor, adapted: false, kept: false }
}

/// Tells if a key differs from a key of the model only in the numbers of blocks.
fn is_deeper(key: &str, candidates: &[Candidate]) -> bool {
    let without_numbers = |key: &str| -> String {
        let parts =
            key.split('.').map(|part| if part.bytes().all(|b| b.is_ascii_digit()) { "#" } else { part });
        parts.collect::<Vec<_>>().join(".")
    };
    let key = without_numbers(key);
    candidates.iter().any(|candidate| without_numbers(&candidate.key) == key)
}

/// Fills the report; returns the keys whose shapes do not fit.
fn sort_keys(candidates: &[Candidate], tensors: &Tensors, report: &mut Report) -> Vec<String> {
    let mut faults = Vec::new();
    for candidate in candidates {
        let Candidate { spec, key, tensor, adapted, kept } = candidate;
        match tensor {
            _ if *kept => report.reinitialized.push(key.clone()),
            // Old files do not count batches.
            None if spec.kind == ParamKind::Counter => {}
            None => match tensors.unread(key) {
                Some(why) => faults.push(format!("`{key}` {why}")),
                None => report.missing.push(key.clone()),
            },
            Some(t) if !candidate.fits() => {
                faults.push(format!("`{key}` has shape {:?}, expected {:?}", t.dims(), spec.shape));
            }
            Some(t) => {
                report.loaded.push(key.clone());
                if *adapted {
                    report.adapted.push(key.clone());
                } else if t.dims() != spec.shape {
                    report.reshaped.push(key.clone());
                }
            }
        }
    }
    let known: IndexSet<&str> = candidates.iter().map(|c| c.key.as_str()).collect();
    let (computed, unexpected) = tensors
        .all_names()
        .filter(|key| !known.contains(key.as_str()))
        .cloned()
        .partition(|key: &String| is_computed(key));
    (report.computed, report.unexpected) = (computed, unexpected);
    faults
}

fn store(candidates: &[Candidate], params: &mut ParamStore) -> Result<()> {
    let mut values = Vec::with_capacity(candidates.len());
    for (index, candidate) in candidates.iter().enumerate() {
        if let Some(tensor) = candidate.tensor.as_ref().filter(|_| !candidate.kept) {
            let id = ParamId(index);
            let (dtype, device) = (params.get(id).dtype(), params.get(id).device().clone());
            let shaped = tensor.reshape(candidate.spec.shape.as_slice())?;
            // Memory of its own: training works in place, and the tensors of the file belong to the
            // caller.
            values.push((id, shaped.to_device(&device)?.to_dtype(dtype)?.contiguous()?.copy()?));
        }
    }
    for (id, value) in values {
        params.set(id, value);
    }
    Ok(())
}
