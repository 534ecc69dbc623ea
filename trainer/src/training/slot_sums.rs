//! Sums over the device slots of a plan.

use efficienttrain_models::Gradients;

use crate::error::Result;

/// Terms that can be added.
pub(crate) trait Merge: Sized {
    /// Adds `other`.
    fn merge(&mut self, other: Self) -> Result<()>;
}

impl Merge for Gradients {
    fn merge(&mut self, other: Self) -> Result<()> {
        Ok(Self::merge(self, other)?)
    }
}

/// Adds up the terms of slots in pairs: `(0 + 1) + (2 + 3)`, and so on.
///
/// The order of additions depends on the number of slots alone, whichever process computes which of
/// them. At most one partial sum for each power of two is kept at a time.
#[derive(Debug)]
pub(crate) struct SlotSums<T> {
    /// Sums of `2^level` slots, with their level, in falling order.
    partials: Vec<(u32, T)>,
}

impl<T> Default for SlotSums<T> {
    fn default() -> Self {
        Self { partials: Vec::new() }
    }
}

impl<T: Merge> SlotSums<T> {
    /// Adds the term of the next slot.
    ///
    /// # Errors
    /// Same as [`Merge::merge`].
    pub(crate) fn push(&mut self, term: T) -> Result<()> {
        let (mut level, mut right) = (0, term);
        while let Some((_, mut left)) = self.partials.pop_if(|(of, _)| *of == level) {
            left.merge(right)?;
            (level, right) = (level + 1, left);
        }
        self.partials.push((level, right));
        Ok(())
    }

    /// Returns the sum over all slots, of which `last` is the last.
    ///
    /// # Errors
    /// Same as [`Merge::merge`].
    pub(crate) fn finish(mut self, last: T) -> Result<T> {
        let mut right = last;
        while let Some((_, mut left)) = self.partials.pop() {
            left.merge(right)?;
            right = left;
        }
        Ok(right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes down which terms are added.
    impl Merge for String {
        fn merge(&mut self, other: Self) -> Result<()> {
            *self = format!("({self}+{other})");
            Ok(())
        }
    }

    fn order(slots: usize) -> String {
        let mut sums = SlotSums::default();
        for slot in 0..slots - 1 {
            sums.push(slot.to_string()).unwrap();
        }
        sums.finish((slots - 1).to_string()).unwrap()
    }

    /// The sum by its definition: both halves of the smallest power of two that holds all slots.
    fn tree(first: usize, width: usize, slots: usize) -> Option<String> {
        if first >= slots {
            return None;
        }
        if width == 1 {
            return Some(first.to_string());
        }
        let [left, right] = [first, first + width / 2].map(|first| tree(first, width / 2, slots));
        match (left, right) {
            (Some(left), Some(right)) => Some(format!("({left}+{right})")),
            (left, _) => left,
        }
    }

    #[test]
    fn slots_are_added_in_pairs() {
        assert_eq!(order(1), "0");
        assert_eq!(order(3), "((0+1)+2)");
        assert_eq!(order(4), "((0+1)+(2+3))");
        assert_eq!(order(7), "(((0+1)+(2+3))+((4+5)+6))");
        for slots in 1..=33usize {
            assert_eq!(Some(order(slots)), tree(0, slots.next_power_of_two(), slots), "{slots} slots");
        }
    }
}
