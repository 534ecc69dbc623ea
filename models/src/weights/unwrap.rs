//! The state dict within a checkpoint.

use candle_core::Tensor;
use indexmap::IndexMap;

use super::pickle::{Item, Pickle, TensorInfo, Value};
use super::{Fallible, Tensors};

/// Keys under which programs store weights: timm, torchvision and the usual research code.
const MODEL: [&str; 6] = ["model", "state_dict", "model_state_dict", "module", "net", "network"];
/// The same for moving averages.
const EMA: [&str; 6] =
    ["model_ema", "state_dict_ema", "ema", "ema_state_dict", "model_ema_state_dict", "ema_model"];
/// Prefixes that wrappers leave: data-parallel and averaged modules, compiled modules, modules of
/// Lightning and the like.
const PREFIXES: [&str; 6] = ["module.", "_orig_mod.", "model.", "net.", "network.", "backbone."];
/// Wrappers within wrappers: more than any program makes.
const MAX_DEPTH: usize = 6;

/// The tensors of a state dict, and those of a kind that is not read, with the reason.
pub(super) struct StateDict<'p, 'a> {
    pub(super) tensors: IndexMap<&'a str, &'p TensorInfo<'a>>,
    unread: Vec<(&'a str, String)>,
}

impl StateDict<'_, '_> {
    pub(super) fn note_unread(&self, tensors: &mut Tensors) {
        self.unread.iter().for_each(|(name, why)| tensors.insert_unread((*name).into(), why.clone()));
    }
}

/// The state dict in a pickle, and the keys that lead to it.
pub(super) fn state_dict<'p, 'a>(
    pickle: &'p Pickle<'a>,
    prefer_ema: bool,
) -> Fallible<(String, StateDict<'p, 'a>)> {
    let (mut at, mut path) = (pickle.root, Vec::new());
    let wrappers = if prefer_ema { [EMA, MODEL] } else { [MODEL, EMA] }.concat();
    while path.len() < MAX_DEPTH {
        let entries = named(pickle, at)?;
        let inner = wrappers.iter().find_map(|&key| {
            let item = *entries.get(key)?;
            matches!(pickle.get(item), Some(Value::Dict(_))).then_some((key, item))
        });
        let Some((key, item)) = inner else { break };
        path.push(key);
        at = item;
    }
    let entries = named(pickle, at)?;
    let mut state = StateDict { tensors: IndexMap::new(), unread: Vec::new() };
    for (&name, &item) in &entries {
        match tensor(pickle, item) {
            Ok(Some(info)) => drop(state.tensors.insert(name, info)),
            Ok(None) => {}
            Err(why) => state.unread.push((name, why)),
        }
    }
    if state.tensors.is_empty() {
        if let Some((name, why)) = state.unread.first() {
            return Err(format!("`{name}` {why}"));
        }
        let found = entries.iter().take(8).map(|(key, item)| format!("`{key}`: {}", pickle.describe(*item)));
        return Err(format!(
            "it holds no state dict; expected tensors at its top or under one of `{}`, found {{{}}}",
            [MODEL, EMA].concat().join("`, `"),
            found.collect::<Vec<_>>().join(", ")
        ));
    }
    Ok((path.join("."), state))
}

/// The entries of a dictionary whose keys are text.
fn named<'a>(pickle: &Pickle<'a>, item: Item) -> Fallible<IndexMap<&'a str, Item>> {
    let Some(Value::Dict(entries)) = pickle.get(item) else {
        return Err(format!(
            "it holds {}, not a state dict; save `model.state_dict()` instead",
            pickle.describe(item)
        ));
    };
    let text = |(key, value): &(Item, Item)| match pickle.get(*key) {
        Some(Value::Text(key)) => Some((*key, *value)),
        _ => None,
    };
    Ok(entries.iter().filter_map(text).collect())
}

/// The entry as a tensor; none for values of other kinds, the reason for tensors of a kind that is
/// not read.
fn tensor<'p, 'a>(pickle: &'p Pickle<'a>, item: Item) -> Result<Option<&'p TensorInfo<'a>>, String> {
    match pickle.get(item) {
        Some(Value::Tensor(info)) => Ok(Some(info.as_ref())),
        Some(Value::Object(class)) if is_tensor(pickle.get(*class)) => Err(format!(
            "is {}, a kind of tensor that is not read; make it a dense tensor of float32",
            pickle.describe(item)
        )),
        _ => Ok(None),
    }
}

/// Tells if calling this would make a tensor of a kind that is not supported.
fn is_tensor(class: Option<&Value>) -> bool {
    match class {
        Some(Value::Global("torch._utils" | "torch._tensor", _)) => true,
        Some(Value::Global("torch", name)) => name.ends_with("Storage"),
        _ => false,
    }
}

/// The tensors with the prefixes of wrappers off, where all names have them: all but those of
/// single numbers that a wrapper keeps beside its module, such as the `n_averaged` of PyTorch's
/// `AveragedModel`, which are left out.
pub(super) fn without_prefixes(mut tensors: Tensors) -> Tensors {
    loop {
        let is_own = |name: &str, tensor: &Tensor| tensor.elem_count() == 1 && !name.contains('.');
        let wrapped = |prefix: &&str| {
            let mut inner = tensors.iter().filter(|(name, t)| !is_own(name, t)).peekable();
            inner.peek().is_some() && inner.all(|(name, _)| name.starts_with(*prefix))
        };
        let Some(prefix) = PREFIXES.into_iter().find(|prefix| wrapped(prefix)) else { return tensors };
        tensors = tensors.renamed(|name| name.strip_prefix(prefix).map(str::to_string));
    }
}
