//! Device slots of a plan: which process has which, and the order in which their terms are added.
//!
//! Gradients are added in pairs over slots, `((0 + 1) + (2 + 3))` and so on: the order of additions
//! depends on the number of slots alone. A process adds what is complete within its own slots, and
//! passes on the rest as pieces.

use std::ops::Range;

use candle_core::Tensor;
use efficienttrain_models::{Gradients, ops};

use crate::error::Result;

/// Returns the slots of rank `rank` of `ranks`, of `slots` in all; none is left out.
pub(crate) fn slots_of(rank: usize, ranks: usize, slots: u32) -> Range<u32> {
    let first = |rank: usize| (u64::from(slots) * rank as u64 / ranks.max(1) as u64) as u32;
    first(rank)..first(rank + 1)
}

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

impl Merge for Tensor {
    fn merge(&mut self, other: Self) -> Result<()> {
        Ok(ops::accumulate(self, &other)?)
    }
}

/// Sum of the slots from `first` on that belong to one node of the tree of additions: `2^level` of
/// them, or fewer at the end of all slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) first: u32,
    pub(crate) level: u32,
}

impl Node {
    /// The node of a single slot.
    pub(crate) fn leaf(slot: u32) -> Self {
        Self { first: slot, level: 0 }
    }

    fn end(self) -> u64 {
        u64::from(self.first) + (1 << self.level)
    }

    /// Returns true if the node is the left one of its parent.
    fn is_left(self) -> bool {
        u64::from(self.first).is_multiple_of(2 << self.level)
    }

    fn parent(self) -> Self {
        Self { first: self.first, level: self.level + 1 }
    }
}

/// Adds up terms of the slots in their order, as far as both terms of an addition are there.
#[derive(Debug)]
pub(crate) struct SlotSums<T> {
    /// Terms that wait for the one to their right.
    pieces: Vec<(Node, T)>,
}

impl<T> Default for SlotSums<T> {
    fn default() -> Self {
        Self { pieces: Vec::new() }
    }
}

impl<T: Merge> SlotSums<T> {
    /// Adds the term of the next node.
    ///
    /// # Errors
    /// Same as [`Merge::merge`].
    pub(crate) fn push(&mut self, node: Node, term: T) -> Result<()> {
        let (mut node, mut right) = (node, term);
        while let Some((left, mut sum)) =
            self.pieces.pop_if(|(left, _)| left.level == node.level && left.is_left())
        {
            sum.merge(right)?;
            (node, right) = (left.parent(), sum);
        }
        self.pieces.push((node, right));
        Ok(())
    }

    /// Returns the pieces that are complete without the terms of others, of `slots` slots in all.
    ///
    /// # Errors
    /// Same as [`Merge::merge`].
    pub(crate) fn finish(mut self, slots: u32) -> Result<Vec<(Node, T)>> {
        let Some((mut last, mut right)) = self.pieces.pop() else { return Ok(Vec::new()) };
        let reaches_the_end = last.end() >= u64::from(slots);
        // At the end of all slots, the right node of a pair may be smaller, or not be there.
        while reaches_the_end && let Some((left, mut sum)) = self.pieces.pop_if(|(left, _)| left.is_left()) {
            sum.merge(right)?;
            (last, right) = (left.parent(), sum);
        }
        self.pieces.push((last, right));
        Ok(self.pieces)
    }

    /// Returns the waiting terms, to take parts of them out.
    pub(crate) fn pieces_mut(&mut self) -> impl Iterator<Item = (Node, &mut T)> {
        self.pieces.iter_mut().map(|(node, term)| (*node, term))
    }
}

/// Nothing to add: only the nodes count.
impl Merge for () {
    fn merge(&mut self, (): Self) -> Result<()> {
        Ok(())
    }
}

/// Returns the nodes that the slots `own` of `slots` add up to.
pub(crate) fn nodes_of(own: Range<u32>, slots: u32) -> Vec<Node> {
    let mut sums = SlotSums::<()>::default();
    // Adding nothing cannot fail.
    own.for_each(|slot| sums.push(Node::leaf(slot), ()).unwrap_or_default());
    sums.finish(slots).unwrap_or_default().into_iter().map(|(node, ())| node).collect()
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

    fn pieces(own: Range<u32>, slots: u32) -> Vec<(Node, String)> {
        let mut sums = SlotSums::default();
        own.for_each(|slot| sums.push(Node::leaf(slot), slot.to_string()).unwrap());
        sums.finish(slots).unwrap()
    }

    fn order(slots: u32, ranks: usize) -> String {
        let mut sums = SlotSums::default();
        for rank in 0..ranks {
            for (node, sum) in pieces(slots_of(rank, ranks, slots), slots) {
                sums.push(node, sum).unwrap();
            }
        }
        let mut whole = sums.finish(slots).unwrap();
        assert_eq!(whole.len(), 1, "{slots} slots on {ranks} ranks: {whole:?}");
        whole.remove(0).1
    }

    /// The sum by its definition: both halves of the smallest power of two that holds all slots.
    fn tree(first: u32, width: u32, slots: u32) -> Option<String> {
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
        assert_eq!(order(1, 1), "0");
        assert_eq!(order(3, 1), "((0+1)+2)");
        assert_eq!(order(4, 1), "((0+1)+(2+3))");
        assert_eq!(order(7, 1), "(((0+1)+(2+3))+((4+5)+6))");
    }

    #[test]
    fn the_order_is_the_same_on_any_number_of_ranks() {
        for slots in 1..=33u32 {
            let whole = tree(0, slots.next_power_of_two(), slots).unwrap();
            for ranks in 1..=slots as usize {
                assert_eq!(order(slots, ranks), whole, "{slots} slots on {ranks} ranks");
            }
        }
    }

    #[test]
    fn every_rank_has_slots_and_each_slot_one_rank() {
        for slots in 1..=33 {
            for ranks in 1..=slots as usize {
                let all: Vec<_> = (0..ranks).map(|rank| slots_of(rank, ranks, slots)).collect();
                assert!(all.iter().all(|own| !own.is_empty()), "{slots} slots on {ranks} ranks");
                assert!(all.into_iter().flatten().eq(0..slots));
            }
        }
    }

    /// One piece where each rank has as many slots as a power of two, few otherwise.
    #[test]
    fn few_pieces_are_passed_on() {
        let most = |slots: u32, ranks: usize| {
            (0..ranks).map(|rank| nodes_of(slots_of(rank, ranks, slots), slots).len()).max().unwrap()
        };
        for (slots, ranks) in [(4, 2), (8, 2), (8, 4), (8, 8), (12, 3), (64, 16)] {
            assert_eq!(most(slots, ranks), 1, "{slots} slots on {ranks} ranks");
        }
        assert_eq!((most(8, 3), most(12, 4)), (2, 2));
        assert!(most(1000, 7) <= 2 * 10);
    }
}
