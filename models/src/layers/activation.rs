//! Activations, those with parameters and those without.

use crate::Result;
use crate::graph::{Context, Macs, SavedForBackward, Variable};
use crate::ops;
use crate::params::{Init, ParamBuilder, ParamId};

/// An element-wise function.
#[derive(Clone, Debug)]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// The exact (erf) GELU.
    Gelu,
    /// `max(x, 0)^2`.
    SquaredRelu,
    /// `scale * max(x, 0)^2 + bias`, both numbers trained.
    StarRelu {
        /// Parameter `scale`, `[1]`.
        scale: ParamId,
        /// Parameter `bias`, `[1]`.
        bias: ParamId,
    },
}

impl Activation {
    /// A StarReLU that starts as the squared rectifier, with parameters `scale` and `bias`.
    pub fn star_relu(b: &mut ParamBuilder) -> Self {
        let scale = b.parameter("scale", &[1], Init::Ones);
        Self::StarRelu { scale, bias: b.parameter("bias", &[1], Init::Zeros) }
    }

    /// Any shape to the same shape.
    ///
    /// # Errors
    /// When `x` is not `f32`, `f64` or `bf16` on the CPU.
    pub fn forward(&self, cx: &mut Context, x: &Variable) -> Result<Variable> {
        let (t, dims) = (x.tensor(), x.dims());
        let mut plain = |op: fn(&candle_core::Tensor) -> Result<ops::Traced>| {
            cx.apply(&[x], dims, Macs::None, SavedForBackward::Input, |_| op(t))
        };
        match self {
            Self::Relu => plain(ops::relu),
            Self::Gelu => plain(ops::gelu),
            Self::SquaredRelu => plain(ops::squared_relu),
            Self::StarRelu { scale, bias } => {
                let (scale, bias) = (cx.param(*scale), cx.param(*bias));
                cx.apply(&[x, &scale, &bias], dims, Macs::None, SavedForBackward::Input, |_| {
                    ops::star_relu(t, scale.tensor(), bias.tensor())
                })
            }
        }
    }
}
