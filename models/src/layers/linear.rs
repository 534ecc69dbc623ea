//! Linear layer, the two-layer perceptron of transformers, and the classification head.

use super::Activation;
use crate::Result;
use crate::graph::{Context, Op, Variable};
use crate::ops;
use crate::params::{Init, ParamBuilder, ParamId};

/// A linear layer with parameters `weight` (`[outputs, inputs]`) and, if made so, `bias`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: ParamId,
    bias: Option<ParamId>,
    outputs: usize,
}

impl Linear {
    /// A layer whose parameters start as given.
    pub fn new(
        b: &mut ParamBuilder,
        inputs: usize,
        outputs: usize,
        weight: Init,
        bias: Option<Init>,
    ) -> Self {
        let weight = b.parameter("weight", &[outputs, inputs], weight);
        Self { weight, bias: bias.map(|init| b.parameter("bias", &[outputs], init)), outputs }
    }

    /// `[..., inputs]` to `[..., outputs]`.
    ///
    /// # Errors
    /// When the last dimension does not fit.
    pub fn forward(&self, cx: &mut Context, x: &Variable) -> Result<Variable> {
        let x = &cx.to_compute_dtype(x)?;
        let (weight, bias) = (cx.param(self.weight), self.bias.map(|id| cx.param(id)));
        let all: Vec<&Variable> = [x, &weight].into_iter().chain(&bias).collect();
        let mut shape = x.dims().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = self.outputs;
        }
        cx.apply(Op::Linear, &all, &shape, |_| {
            ops::linear(x.tensor(), weight.tensor(), bias.as_ref().map(Variable::tensor))
        })
    }
}

/// Linear, activation, linear.
#[derive(Clone, Debug)]
pub struct Mlp {
    fc1: Linear,
    act: Activation,
    fc2: Linear,
}

impl Mlp {
    /// `width` channels in and out, `hidden` between, GELU, biases: parameters `fc1` and `fc2`.
    pub fn new(b: &mut ParamBuilder, width: usize, hidden: usize, weight: Init) -> Self {
        Self::named(b, ["fc1", "fc2"], width, hidden, weight)
    }

    /// Makes the same with other names for the two layers.
    pub fn named(b: &mut ParamBuilder, names: [&str; 2], width: usize, hidden: usize, weight: Init) -> Self {
        let zeros = Some(Init::Zeros);
        let fc1 = b.within(names[0], |b| Linear::new(b, width, hidden, weight, zeros));
        let fc2 = b.within(names[1], |b| Linear::new(b, hidden, width, weight, zeros));
        Self { fc1, act: Activation::Gelu, fc2 }
    }

    /// StarReLU and no biases: parameters `fc1`, `act` and `fc2` (MetaFormer).
    pub fn star_relu(b: &mut ParamBuilder, width: usize, hidden: usize, weight: Init) -> Self {
        let fc1 = b.within("fc1", |b| Linear::new(b, width, hidden, weight, None));
        let act = b.within("act", Activation::star_relu);
        Self { fc1, act, fc2: b.within("fc2", |b| Linear::new(b, hidden, width, weight, None)) }
    }

    /// `[..., width]` to the same shape.
    ///
    /// # Errors
    /// When the last dimension does not fit.
    pub fn forward(&self, cx: &mut Context, x: &Variable) -> Result<Variable> {
        let hidden = self.fc1.forward(cx, x)?;
        let active = self.act.forward(cx, &hidden)?;
        self.fc2.forward(cx, &active)
    }
}

/// Dropout of single elements in training, scaled so that the mean stays.
///
/// # Errors
/// When `x` is not `f32`, `f64` or `bf16` on the CPU.
pub fn dropout(cx: &mut Context, x: &Variable, rate: f64, name: &str) -> Result<Variable> {
    let n = x.tensor().elem_count();
    match cx.dropout_mask(rate, name, n)? {
        Some(keep) => cx.apply(Op::Dropout, &[x], x.dims(), |_| ops::scale_elements(x.tensor(), &keep)),
        None => Ok(x.clone()),
    }
}
