//! The state dict within a checkpoint.

use indexmap::IndexMap;

use super::pickle::{Item, Pickle, TensorInfo, Value};
use super::{Fallible, Tensors};

/// Keys under which programs store weights: timm, torchvision and the usual research code.
const MODEL: [&str; 6] = ["model", "state_dict", "model_state_dict", "module", "net", "network"];
/// The same for moving averages.
const EMA: [&str; 6] =
    ["model_ema", "state_dict_ema", "ema", "ema_state_dict", "model_ema_state_dict", "ema_model"];
/// Prefixes that wrappers leave: data-parallel modules, compiled modules.
const PREFIXES: [&str; 2] = ["module.", "_orig_mod."];
/// Wrappers within wrappers: more than any program makes.
const MAX_DEPTH: usize = 6;

/// The tensors of the state dict in a pickle, and the keys that lead to it.
pub(super) fn state_dict<'p, 'a>(
    pickle: &'p Pickle<'a>,
    prefer_ema: bool,
) -> Fallible<(String, IndexMap<&'a str, &'p TensorInfo<'a>>)> {
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
    let tensors = entries.iter().filter_map(|(name, item)| tensor(pickle, name, *item).transpose());
    let tensors = tensors.collect::<Fallible<IndexMap<_, _>>>()?;
    if tensors.is_empty() {
        let found = entries.iter().take(8).map(|(key, item)| format!("`{key}`: {}", pickle.describe(*item)));
        return Err(format!(
            "it holds no state dict; expected tensors at its top or under one of `{}`, found {{{}}}",
            [MODEL, EMA].concat().join("`, `"),
            found.collect::<Vec<_>>().join(", ")
        ));
    }
    Ok((path.join("."), tensors))
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

/// The entry as a tensor; none for values of other kinds, an error for tensors of a kind that is not read.
fn tensor<'p, 'a>(
    pickle: &'p Pickle<'a>,
    name: &'a str,
    item: Item,
) -> Fallible<Option<(&'a str, &'p TensorInfo<'a>)>> {
    match pickle.get(item) {
        Some(Value::Tensor(info)) => Ok(Some((name, info.as_ref()))),
        Some(Value::Object(class)) if is_tensor(pickle.get(*class)) => Err(format!(
            "`{name}` is {}, a kind of tensor that is not read; make it a dense tensor of float32",
            pickle.describe(item)
        )),
        _ => Ok(None),
    }
}

/// Whether calling this would make a tensor, of a kind that is not read.
fn is_tensor(class: Option<&Value>) -> bool {
    match class {
        Some(Value::Global("torch._utils" | "torch._tensor", _)) => true,
        Some(Value::Global("torch", name)) => name.ends_with("Storage"),
        _ => false,
    }
}

/// The tensors with the prefixes of wrappers off, where all names have them.
pub(super) fn without_prefixes(mut tensors: Tensors) -> Tensors {
    while let Some(prefix) =
        PREFIXES.iter().find(|p| !tensors.is_empty() && tensors.keys().all(|name| name.starts_with(**p)))
    {
        tensors = tensors.into_iter().map(|(name, t)| (name[prefix.len()..].to_string(), t)).collect();
    }
    tensors
}
