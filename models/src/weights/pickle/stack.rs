//! The stack of a pickle, and the marks on it.

use super::Item;
use crate::weights::Fallible;

/// Objects on the stack, in the memo, and in all: many times what a checkpoint has, and a few dozen
/// megabytes.
const MAX_OBJECTS: usize = 1 << 20;

#[derive(Default)]
pub(super) struct Stack {
    items: Vec<Item>,
    /// Heights at the open marks.
    marks: Vec<usize>,
}

impl Stack {
    pub(super) fn mark(&mut self) -> Fallible<()> {
        self.marks.push(self.items.len());
        limit(self.marks.len())
    }

    pub(super) fn push(&mut self, item: Item) -> Fallible<()> {
        self.items.push(item);
        limit(self.items.len())
    }

    /// Returns the last item, which must be above the last mark.
    pub(super) fn top(&self) -> Fallible<Item> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.items[floor..].last().copied().ok_or_else(|| "an object is missing on its stack".into())
    }

    pub(super) fn pop(&mut self) -> Fallible<Item> {
        let top = self.top()?;
        self.items.pop();
        Ok(top)
    }

    pub(super) fn pop_to_mark(&mut self) -> Fallible<Vec<Item>> {
        let mark = self.marks.pop().ok_or("a mark is missing on its stack")?;
        Ok(self.items.split_off(mark))
    }
}

pub(super) fn limit(objects: usize) -> Fallible<()> {
    if objects <= MAX_OBJECTS { Ok(()) } else { Err(format!("it has more than {MAX_OBJECTS} objects")) }
}
