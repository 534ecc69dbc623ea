//! Pickles as data: the tensors and dictionaries in them, without running anything.
//!
//! A pickle is a program that builds Python objects, and Python runs whatever functions it names. This reader knows the
//! few that make tensors; what any other would make becomes an opaque object that is carried along and never looked at.
//! Objects lie in one list and refer to each other by position, so depth costs nothing, sharing costs nothing, and
//! nothing here recurses.

mod input;
mod machine;
mod rebuild;
mod stack;
mod tensor;

pub(super) use machine::parse;
pub(super) use tensor::TensorInfo;

/// What stands on the stack or in a container.
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
    /// What a class or function would have made that is never called.
    Object(Item),
    Storage(tensor::Storage<'a>),
    Tensor(Box<TensorInfo<'a>>),
}

/// A pickle that was read to its end.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    /// What the pickle is: the last object left.
    pub(super) root: Item,
}

impl<'a> Pickle<'a> {
    pub(super) fn get(&self, item: Item) -> Option<&Value<'a>> {
        look(&self.values, item)
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
