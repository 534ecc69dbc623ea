//! The tensors of a file.

use std::ops::{Deref, DerefMut};

use candle_core::Tensor;
use indexmap::IndexMap;

/// Tensors by name, in the order of a file: a map, which also knows of the tensors whose type is
/// not read. Those matter only if a model asks for them.
#[derive(Clone, Debug, Default)]
pub struct Tensors {
    read: IndexMap<String, Tensor>,
    unread: IndexMap<String, String>,
}

impl Tensors {
    /// Notes a tensor that is not read, and why.
    pub(super) fn insert_unread(&mut self, name: String, reason: String) {
        self.unread.insert(name, reason);
    }

    /// Returns why the file's tensor of this name was not read; none if it was, or if there
    /// is none.
    pub fn unread(&self, name: &str) -> Option<&str> {
        self.unread.get(name).map(String::as_str)
    }

    /// Returns the names of all tensors of the file, those that were not read behind the others.
    pub(super) fn all_names(&self) -> impl Iterator<Item = &String> {
        self.read.keys().chain(self.unread.keys())
    }

    /// Returns all tensors under new names; those for which `rename` gives none are left out.
    #[must_use]
    pub fn renamed(self, rename: impl Fn(&str) -> Option<String>) -> Self {
        Self {
            read: self.read.into_iter().filter_map(|(name, t)| Some((rename(&name)?, t))).collect(),
            unread: self.unread.into_iter().filter_map(|(name, why)| Some((rename(&name)?, why))).collect(),
        }
    }
}

impl Deref for Tensors {
    type Target = IndexMap<String, Tensor>;

    fn deref(&self) -> &Self::Target {
        &self.read
    }
}

impl DerefMut for Tensors {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.read
    }
}

impl FromIterator<(String, Tensor)> for Tensors {
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(tensors: I) -> Self {
        Self { read: tensors.into_iter().collect(), unread: IndexMap::new() }
    }
}

impl IntoIterator for Tensors {
    type Item = (String, Tensor);
    type IntoIter = indexmap::map::IntoIter<String, Tensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.read.into_iter()
    }
}

impl<'a> IntoIterator for &'a Tensors {
    type Item = (&'a String, &'a Tensor);
    type IntoIter = indexmap::map::Iter<'a, String, Tensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.read.iter()
    }
}
