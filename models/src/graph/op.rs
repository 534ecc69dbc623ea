//! What an op of a pass is, said once: its cost follows from it, and so does its node in an exported
//! graph.

use super::{CostCounter, Macs, SavedForBackward, Source, Variable};
use crate::ops::Windows;
use crate::params::ParamId;

/// An op of a pass, without its tensors.
///
/// The first input is the activation that the op works on, then come the others in the order that is
/// given. Maps are channels-last. The first dimension of every activation is the batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// The same elements in another shape.
    Reshape,
    /// The sum of two inputs of one shape.
    Add,
    /// Each element times this number.
    Scale(f64),
    /// Weight `[O, C, K, K]` and, if there is one, bias `[O]`.
    Conv2d {
        /// Pixels between kernel positions.
        stride: usize,
        /// Zero pixels on each side.
        padding: usize,
    },
    /// Weight `[C, 1, K, K]` and, if there is one, bias `[C]`; the map keeps its size.
    DepthwiseConv2d {
        /// Rows and columns of the tiles that are convolved each by itself; none for the whole map.
        tile: Option<[usize; 2]>,
    },
    /// Weight `[outputs, inputs]` and, if there is one, bias `[outputs]`.
    Linear,
    /// Weight and bias `[C]` and, if there is one, a map that is added to the result.
    BatchNorm {
        /// Sets what is below 0 to 0, after the addition.
        relu: bool,
        /// Term that is added to the variance.
        eps: f64,
        /// Buffer `[C]` of the running mean.
        running_mean: ParamId,
        /// Buffer `[C]` of the running variance.
        running_var: ParamId,
    },
    /// Weight and, if there is one, bias `[C]`, over the last dimension.
    LayerNorm {
        /// Term that is added to the variance.
        eps: f64,
    },
    /// `max(x, 0)`.
    Relu,
    /// The exact (erf) GELU.
    Gelu,
    /// `max(x, 0)^2`.
    SquaredRelu,
    /// `scale * max(x, 0)^2 + bias`; inputs `scale` and `bias` `[1]`.
    StarRelu,
    /// Packed queries, keys and values `[N, H, W, 3C]`, and a table of relative position bias if
    /// there is one: [`ops::window_attention`](crate::ops::window_attention).
    WindowAttention {
        /// Number of heads.
        heads: usize,
        /// The windows; heads are shared out among them in order.
        windows: Vec<Windows>,
    },
    /// Queries `[N, L, C]`, packed keys and values `[N, M, 2C]`.
    CrossAttention {
        /// Number of heads.
        heads: usize,
    },
    /// Skip path and branch of one shape, then the factors `[C]` of either, if there are any.
    Residual {
        /// The skip path has a factor.
        skip: bool,
        /// The branch has a factor.
        branch: bool,
    },
    /// Elements or samples set to 0 at random in training; does nothing in evaluation.
    Dropout,
    /// Patches `[N, L, C]`, tokens `[1, 1, C]` that come before them, and the position embedding
    /// `[1, L + tokens, C]` that is added to all.
    JoinTokens,
    /// Some tokens `[N, count, C]` of `[N, L, C]`.
    SelectTokens {
        /// The first token.
        start: usize,
    },
    /// Some channels.
    SliceChannels {
        /// The first channel.
        start: usize,
    },
    /// The channels of all inputs, one input after another.
    ConcatChannels,
    /// The pixels of each 2x2 square as channels, column by column.
    MergePatches,
    /// The mean over all dimensions but the first and the last.
    GlobalAvgPool,
    /// The largest value under a square.
    MaxPool2d {
        /// Edge of the square.
        kernel: usize,
        /// Pixels between positions.
        stride: usize,
        /// Pixels on each side, which are never the largest.
        padding: usize,
    },
    /// Each pixel repeated as a square.
    UpsampleNearest {
        /// Edge of the square.
        factor: usize,
    },
    /// Some tokens of each sequence, chosen per sample.
    GatherTokens,
    /// Tokens back at their places, a filler everywhere else.
    RestoreTokens,
    /// An op of another crate.
    Custom {
        /// Its name, for messages.
        name: &'static str,
        /// Its multiply-accumulates.
        macs: Macs,
        /// What it keeps for the backward pass.
        saved: SavedForBackward,
    },
}

impl Op {
    /// Name for messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Reshape => "reshape",
            Self::Add => "add",
            Self::Scale(_) => "scale",
            Self::Conv2d { .. } => "conv2d",
            Self::DepthwiseConv2d { .. } => "depthwise_conv2d",
            Self::Linear => "linear",
            Self::BatchNorm { .. } => "batch_norm",
            Self::LayerNorm { .. } => "layer_norm",
            Self::Relu => "relu",
            Self::Gelu => "gelu",
            Self::SquaredRelu => "squared_relu",
            Self::StarRelu => "star_relu",
            Self::WindowAttention { .. } => "window_attention",
            Self::CrossAttention { .. } => "cross_attention",
            Self::Residual { .. } => "residual",
            Self::Dropout => "dropout",
            Self::JoinTokens => "join_tokens",
            Self::SelectTokens { .. } => "select_tokens",
            Self::SliceChannels { .. } => "slice_channels",
            Self::ConcatChannels => "concat_channels",
            Self::MergePatches => "merge_patches",
            Self::GlobalAvgPool => "global_avg_pool",
            Self::MaxPool2d { .. } => "max_pool2d",
            Self::UpsampleNearest { .. } => "upsample_nearest",
            Self::GatherTokens => "gather_tokens",
            Self::RestoreTokens => "restore_tokens",
            Self::Custom { name, .. } => name,
        }
    }

    /// Multiply-accumulates of the op for inputs and a value of these shapes.
    pub(crate) fn macs(&self, inputs: &[&[usize]], value: &[usize]) -> Macs {
        let elements = |shape: &[usize]| shape.iter().product::<usize>();
        match (self, inputs) {
            (Self::Conv2d { .. } | Self::DepthwiseConv2d { .. }, [_, weight, ..]) => {
                Macs::Conv(elements(value) * elements(&weight[1..]))
            }
            (Self::Linear, [x, weight, ..]) => Macs::Linear(elements(x) * weight[0]),
            (Self::WindowAttention { windows, .. }, _) => {
                let seen: usize = windows.iter().map(|x| x.size[0] * x.size[1]).sum();
                Macs::Attention(2 * elements(value) * seen / windows.len().max(1))
            }
            (Self::CrossAttention { .. }, [_, kv, ..]) => Macs::Attention(2 * elements(value) * kv[1]),
            (Self::Custom { macs, .. }, _) => *macs,
            _ => Macs::None,
        }
    }

    /// Memory that the op saves for its backward pass, for a value of this shape.
    pub(crate) fn saved(&self, value: &[usize]) -> SavedForBackward {
        let elements = value.iter().product::<usize>();
        match self {
            Self::Conv2d { .. }
            | Self::DepthwiseConv2d { .. }
            | Self::Linear
            | Self::BatchNorm { relu: false, .. }
            | Self::LayerNorm { .. }
            | Self::Relu
            | Self::Gelu
            | Self::SquaredRelu
            | Self::StarRelu
            | Self::WindowAttention { .. }
            | Self::Residual { skip: true, branch: false } => SavedForBackward::Input,
            Self::BatchNorm { relu: true, .. } => SavedForBackward::InputAndValue,
            Self::CrossAttention { .. } | Self::Residual { skip: true, branch: true } => {
                SavedForBackward::Inputs(&[0, 1])
            }
            Self::Residual { skip: false, branch: true } => SavedForBackward::Inputs(&[1]),
            Self::Dropout => SavedForBackward::Own(elements),
            // A byte for each result says which pixel it came from.
            Self::MaxPool2d { .. } => SavedForBackward::Own(elements.div_ceil(4)),
            Self::Custom { saved, .. } => *saved,
            _ => SavedForBackward::Nothing,
        }
    }
}

/// What goes into an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// The image.
    Image,
    /// Another tensor that is no value of an op, which an exported graph does not know.
    Constant,
    /// The value of an op of the graph, by its index.
    Op(usize),
    /// A parameter.
    Parameter(ParamId),
}

/// One op of a traced pass.
#[derive(Clone, Debug)]
pub(crate) struct TracedOp {
    pub(crate) op: Op,
    pub(crate) inputs: Vec<Input>,
    pub(crate) shape: Vec<usize>,
    /// Op whose memory the value is in: its own, but for a reshaped value.
    memory: Source,
}

impl TracedOp {
    pub(super) fn new(op: Op, inputs: &[&Variable], shape: &[usize], counter: &CostCounter) -> Self {
        let input = |x: &&Variable| match x.source {
            Source::Constant if counter.image == Some(x.tensor.id()) => Input::Image,
            Source::Constant => Input::Constant,
            Source::Node(index) => Input::Op(index),
            Source::Parameter(id) => Input::Parameter(id),
        };
        let own = Source::Node(counter.ops.len());
        let memory = match (&op, inputs.first()) {
            (Op::Reshape, Some(x)) => counter.memory(x.source),
            _ => own,
        };
        Self { op, inputs: inputs.iter().map(input).collect(), shape: shape.to_vec(), memory }
    }

    pub(super) fn memory(&self) -> Source {
        self.memory
    }
}
