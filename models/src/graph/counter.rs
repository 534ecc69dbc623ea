//! Counting what a pass costs, from shapes alone.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, TensorId};

use super::op::{Op, TracedOp};
use super::{Source, Variable};
use crate::Result;

/// Multiply-accumulates of one op, by kind. Norms, activations, softmax, biases and sums count as
/// nothing, as is usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Macs {
    /// None to speak of.
    None,
    /// A convolution.
    Conv(usize),
    /// A linear layer.
    Linear(usize),
    /// The two products of attention.
    Attention(usize),
}

/// Memory that an op saves for its backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SavedForBackward {
    /// Nothing.
    Nothing,
    /// Its first input.
    Input,
    /// The inputs at these places.
    Inputs(&'static [usize]),
    /// Its first input and its value.
    InputAndValue,
    /// This many elements of its own, in single precision.
    Own(usize),
}

/// Sums over the ops of a pass.
#[derive(Debug, Default)]
pub(crate) struct CostCounter {
    pub(crate) conv: u64,
    pub(crate) linear: u64,
    pub(crate) attention: u64,
    /// Multiply-accumulates whose first input needs no gradient.
    pub(crate) on_constants: u64,
    /// Elements kept, by the op that made them.
    kept: BTreeMap<usize, u64>,
    /// Elements that ops keep besides their inputs and values.
    own: u64,
    /// The image that goes in.
    pub(crate) image: Option<TensorId>,
    /// The ops, in order.
    pub(crate) ops: Vec<TracedOp>,
    /// The fewest values per channel of which a batch norm takes statistics.
    pub(crate) fewest_values: Option<usize>,
}

impl CostCounter {
    /// A tensor that has this shape and takes no memory.
    pub(crate) fn placeholder(shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::zeros((), DType::F32, &Device::Cpu)?.broadcast_as(shape)?)
    }

    /// Elements kept for the backward pass.
    pub(crate) fn kept(&self) -> u64 {
        self.kept.values().sum::<u64>() + self.own
    }

    pub(super) fn note(&mut self, op: Op, inputs: &[&Variable], shape: &[usize]) -> Result<Variable> {
        let shapes: Vec<&[usize]> = inputs.iter().map(|x| x.dims()).collect();
        let (arithmetic, saved) = (op.macs(&shapes, shape), op.saved(shape));
        let macs = match arithmetic {
            Macs::None => 0,
            Macs::Conv(n) | Macs::Linear(n) | Macs::Attention(n) => n as u64,
        };
        match arithmetic {
            Macs::None => {}
            Macs::Conv(_) => self.conv += macs,
            Macs::Linear(_) => self.linear += macs,
            Macs::Attention(_) => self.attention += macs,
        }
        if inputs.first().is_some_and(|x| self.memory(x.source) == Source::Constant) {
            self.on_constants += macs;
        }
        let value = Variable { tensor: Self::placeholder(shape)?, source: Source::Node(self.ops.len()) };
        self.ops.push(TracedOp::new(op, inputs, shape, self));
        match saved {
            SavedForBackward::Nothing => {}
            SavedForBackward::Input => self.keep(inputs.iter().take(1).copied()),
            SavedForBackward::Inputs(places) => {
                self.keep(places.iter().filter_map(|&i| inputs.get(i).copied()));
            }
            SavedForBackward::InputAndValue => self.keep(inputs.iter().take(1).copied().chain([&value])),
            SavedForBackward::Own(n) => self.own += n as u64,
        }
        Ok(value)
    }

    /// Source of the memory that a value is in: a reshaped value is in that of another one.
    pub(super) fn memory(&self, source: Source) -> Source {
        match source {
            Source::Node(index) => self.ops[index].memory(),
            other => other,
        }
    }

    /// Counts tensors once, however many ops keep them. Images and parameters live anyway.
    fn keep<'a>(&mut self, tensors: impl Iterator<Item = &'a Variable>) {
        for tensor in tensors {
            if let Source::Node(index) = self.memory(tensor.source) {
                self.kept.insert(index, tensor.tensor.elem_count() as u64);
            }
        }
    }
}
