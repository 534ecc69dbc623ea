//! Linear layer and the two-layer perceptron of transformers.

use crate::Result;
use crate::graph::{Act, Context};
use crate::ops;
use crate::params::{Init, ParamBuilder, ParamId};

/// A linear layer with parameters `weight` (`[outputs, inputs]`) and `bias`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: ParamId,
    bias: ParamId,
}

impl Linear {
    /// A layer whose parameters start as given.
    pub fn new(b: &mut ParamBuilder, inputs: usize, outputs: usize, weight: Init, bias: Init) -> Self {
        let weight = b.parameter("weight", &[outputs, inputs], weight);
        Self { weight, bias: b.parameter("bias", &[outputs], bias) }
    }

    /// `[..., inputs]` to `[..., outputs]`.
    ///
    /// # Errors
    /// When the last dimension does not fit.
    pub fn forward(&self, cx: &mut Context, x: &Act) -> Result<Act> {
        let (weight, bias) = (cx.param(self.weight), cx.param(self.bias));
        let traced = ops::linear(x.tensor(), weight.tensor(), Some(bias.tensor()))?;
        Ok(cx.record(&[x, &weight, &bias], traced))
    }
}

/// Linear, GELU, linear: parameters `fc1` and `fc2`.
#[derive(Clone, Debug)]
pub struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    /// `width` channels in and out, `hidden` between.
    pub fn new(b: &mut ParamBuilder, width: usize, hidden: usize, weight: Init) -> Self {
        let fc1 = b.within("fc1", |b| Linear::new(b, width, hidden, weight, Init::Zeros));
        let fc2 = b.within("fc2", |b| Linear::new(b, hidden, width, weight, Init::Zeros));
        Self { fc1, fc2 }
    }

    /// `[..., width]` to the same shape.
    ///
    /// # Errors
    /// When the last dimension does not fit.
    pub fn forward(&self, cx: &mut Context, x: &Act) -> Result<Act> {
        let hidden = self.fc1.forward(cx, x)?;
        let active = cx.record(&[&hidden], ops::gelu(hidden.tensor())?);
        self.fc2.forward(cx, &active)
    }
}
