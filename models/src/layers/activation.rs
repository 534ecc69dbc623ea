//! Activations, those with parameters and those without.

use crate::Result;
use crate::graph::{Context, Op, Variable};
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
        match self {
            Self::Relu => cx.apply(Op::Relu, &[x], dims, |_| ops::relu(t)),
            Self::Gelu => cx.apply(Op::Gelu, &[x], dims, |_| ops::gelu(t)),
            Self::SquaredRelu => cx.apply(Op::SquaredRelu, &[x], dims, |_| ops::squared_relu(t)),
            Self::StarRelu { scale, bias } => {
                let (scale, bias) = (cx.param(*scale), cx.param(*bias));
                cx.apply(Op::StarRelu, &[x, &scale, &bias], dims, |_| {
                    ops::star_relu(t, scale.tensor(), bias.tensor())
                })
            }
        }
    }
}
