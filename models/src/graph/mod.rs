//! The engine of training: a tape of ops with hand-written backward passes.
//!
//! Candle's own engine begins every edge with a tensor of zeros and an addition, and keeps all
//! activations until the end. Here a gradient with one contribution is moved, not added, a node's
//! saved tensors are freed as soon as the backward pass has gone through it,
//! and the gradient of the image is never computed.

mod checkpoint;
mod context;
mod counter;
mod draws;
mod gradients;
mod op;
mod statistics;

pub(crate) use context::in_thread_pool;
pub use context::{BlockIndex, Context, Mode, drop_path_rates};
pub(crate) use counter::CostCounter;
pub use counter::{Macs, SavedForBackward};
pub(crate) use draws::Draw;
pub use draws::Draws;
pub use gradients::Gradients;
pub use op::Op;
pub(crate) use op::{Input, TracedOp};
pub use statistics::{ObservedStatistics, StatisticsLog};

use candle_core::Tensor;

use crate::Result;
use crate::ops::{Pullback, PullbackOnto, accumulate};
use crate::params::ParamId;

/// A tensor of a pass, and the destination of its gradient.
#[derive(Clone, Debug)]
pub struct Variable {
    tensor: Tensor,
    source: Source,
}

impl Variable {
    /// Returns an input that needs no gradient.
    pub fn constant(tensor: Tensor) -> Self {
        Self { tensor, source: Source::Constant }
    }

    /// The value.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// Lengths of the dimensions.
    pub fn dims(&self) -> &[usize] {
        self.tensor.dims()
    }
}

/// Destination of a value's gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Constant,
    Node(usize),
    Parameter(ParamId),
}

struct Node {
    inputs: Vec<Source>,
    pullback: Pullback,
    pullback_onto: Option<PullbackOnto>,
}

impl Node {
    /// The parameters among the inputs, as often as they occur.
    fn parameters(&self) -> impl Iterator<Item = ParamId> {
        self.inputs.iter().filter_map(|source| match source {
            Source::Parameter(id) => Some(*id),
            _ => None,
        })
    }

    /// The gradients of the inputs. Of the first input the sum with `pending` contributions, which
    /// are taken, if the op can add to them.
    fn gradients(&self, grad: &Tensor, pending: &mut [Option<Tensor>]) -> Result<Vec<Option<Tensor>>> {
        let needs: Vec<bool> = self.inputs.iter().map(|s| *s != Source::Constant).collect();
        let known = match self.inputs.first() {
            // An input that occurs twice has a contribution of this op as well.
            Some(first @ Source::Node(i)) if !self.inputs[1..].contains(first) => Some(&mut pending[*i]),
            _ => None,
        };
        if let (Some(onto), Some(known)) = (&self.pullback_onto, known)
            && let Some(sum) = known.take()
        {
            return onto(grad, &needs, &sum);
        }
        (self.pullback)(grad, &needs)
    }
}

/// The ops of one forward pass, in order.
#[derive(Default)]
struct Tape {
    nodes: Vec<Node>,
}

impl Tape {
    fn record(
        &mut self,
        inputs: Vec<Source>,
        pullback: Pullback,
        pullback_onto: Option<PullbackOnto>,
    ) -> Source {
        self.nodes.push(Node { inputs, pullback, pullback_onto });
        Source::Node(self.nodes.len() - 1)
    }

    /// Walks back from `output`, adding to `gradients`, and frees each node on the way. Calls
    /// `ready` for each parameter once its gradient is complete.
    fn backward(
        self,
        output: &Variable,
        seed: Tensor,
        gradients: &mut Gradients,
        ready: &mut dyn FnMut(ParamId, &mut Gradients),
    ) -> Result<()> {
        let mut uses = self.uses(gradients.len());
        let mut pending: Vec<Option<Tensor>> = vec![None; self.nodes.len()];
        if let Source::Node(last) = output.source {
            pending[last] = Some(seed);
        }
        for (index, node) in self.nodes.into_iter().enumerate().rev() {
            // A node that does not lead to the output has no gradient, and adds none.
            if let Some(grad) = pending[index].take() {
                let contributions = node.gradients(&grad, &mut pending)?;
                for (source, contribution) in node.inputs.iter().zip(contributions) {
                    let Some(contribution) = contribution else { continue };
                    match *source {
                        Source::Constant => {}
                        Source::Node(i) => pending[i] = Some(join(pending[i].take(), contribution)?),
                        Source::Parameter(id) => gradients.add(id, contribution)?,
                    }
                }
            }
            for id in node.parameters() {
                uses[id.index()] -= 1;
                if uses[id.index()] == 0 {
                    ready(id, gradients);
                }
            }
        }
        Ok(())
    }

    /// The number of times that each of `params` parameters is an input of a node.
    fn uses(&self, params: usize) -> Vec<usize> {
        let mut uses = vec![0; params];
        self.nodes.iter().flat_map(Node::parameters).for_each(|id| uses[id.index()] += 1);
        uses
    }
}

/// Adds two contributions to the same gradient, in a new tensor: either may share its memory with
/// the gradient of another node (both terms of a sum get the same tensor).
fn join(first: Option<Tensor>, second: Tensor) -> Result<Tensor> {
    match first {
        None => Ok(second),
        Some(first) => Ok(crate::ops::add(&first, &second)?.value),
    }
}
