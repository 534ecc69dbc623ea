//! Pickles as data: the tensors and dictionaries in them, without running anything.
//!
//! A pickle is a program that builds Python objects, and Python runs whatever functions it names.
//! This reader knows the few that make tensors; what any other would make becomes an opaque object
//! that is carried along and never looked at. Objects are kept in one list and refer to each other
//! by position, so depth costs nothing, sharing costs nothing, and nothing here recurses.

use std::collections::HashMap;

mod input;
mod machine;
mod rebuild;
mod stack;
mod tensor;

pub(super) use machine::{parse, parse_first};
pub(super) use tensor::TensorInfo;

/// An object on the stack or in a container.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Item {
    /// Anything that no weights are made of: numbers with a fraction, lists, sets, bytes, `None`.
    Opaque,
    /// An integer or a boolean.
    Int(i64),
    /// A position in the list of values.
    At(u32),
}

/// An object that may lead to weights.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Text(&'a str),
    /// A class or function by module and name.
    Global(&'a str, &'a str),
    Tuple(Vec<Item>),
    Dict(Vec<(Item, Item)>),
    /// Object of a class or function that is never called.
    Object(Item),
    Storage(tensor::Storage<'a>),
    Tensor(Box<TensorInfo<'a>>),
}

/// A pickle that was read to its end.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    /// Returns the object that the pickle describes: the last one on the stack.
    pub(super) root: Item,
}

impl<'a> Pickle<'a> {
    pub(super) fn get(&self, item: Item) -> Option<&Value<'a>> {
        look(&self.values, item)
    }

    /// A boolean of the dictionary that the pickle is.
    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        let Some(Value::Dict(entries)) = self.get(self.root) else { return None };
        entries.iter().find_map(|&(name, value)| match (self.get(name), value) {
            (Some(Value::Text(name)), Item::Int(value)) if *name == key => Some(value != 0),
            _ => None,
        })
    }

    /// All texts, in the order in which they were first seen.
    pub(super) fn texts(&self) -> impl Iterator<Item = &'a str> {
        self.values.iter().filter_map(|value| match value {
            Value::Text(text) => Some(*text),
            _ => None,
        })
    }

    /// Bytes of an element of each storage, by its key.
    pub(super) fn storage_widths(&self) -> HashMap<&'a str, usize> {
        let storages = self.values.iter().filter_map(|value| match value {
            Value::Storage(storage) => Some((storage.key, storage.dtype.size_in_bytes())),
            _ => None,
        });
        storages.collect()
    }

    /// An object in a few words, for messages.
    pub(super) fn describe(&self, item: Item) -> String {
        match self.get(item) {
            Some(Value::Dict(_)) => "a dictionary".into(),
            Some(Value::Tensor(_)) => "a single tensor".into(),
            Some(Value::Object(class)) => match self.get(*class) {
                Some(Value::Global(module, name)) => format!("an object of `{module}.{name}`"),
                _ => "an object".into(),
            },
            _ => "a plain value".into(),
        }
    }
}

fn look<'v, 'a>(values: &'v [Value<'a>], item: Item) -> Option<&'v Value<'a>> {
    match item {
        Item::At(index) => values.get(index as usize),
        _ => None,
    }
}
