//! Residual connections with stochastic depth, layer scale and residual scaling.

use crate::Result;
use crate::graph::{BlockIndex, Context, Op, Variable};
use crate::ops::{self, Scales};
use crate::params::{Init, ParamBuilder, ParamId};

/// A residual connection and its trained factors, one per channel, if it has any.
#[derive(Clone, Debug, Default)]
pub struct Residual {
    skip: Option<ParamId>,
    branch: Option<ParamId>,
}

impl Residual {
    /// Layer scale: the branch is weighted by the parameter `name`, which starts at `first`.
    pub fn layer_scale(b: &mut ParamBuilder, name: &str, channels: usize, first: f64) -> Self {
        Self { skip: None, branch: Some(b.parameter(name, &[channels], Init::Constant(first))) }
    }

    /// Residual scaling: the skip path is weighted by the parameter `name`, which starts at one.
    pub fn scaled_skip(b: &mut ParamBuilder, name: &str, channels: usize) -> Self {
        Self { skip: Some(b.parameter(name, &[channels], Init::Ones)), branch: None }
    }

    /// `skip * x + scale * branch`, where the branch is dropped for random samples in training
    /// (stochastic depth, Huang et al., 2016; scaled so that its expectation stays). `branch_name`
    /// tells the branches of one block apart.
    ///
    /// # Errors
    /// When the two differ in shape.
    pub fn forward(
        &self,
        cx: &mut Context,
        x: &Variable,
        branch: &Variable,
        at: BlockIndex,
        branch_name: &str,
    ) -> Result<Variable> {
        let x = &cx.to_residual_dtype(x)?;
        let keep = cx.drop_path_mask(at, branch_name, x.dims()[0])?;
        let (skip, scale) = (self.skip.map(|id| cx.param(id)), self.branch.map(|id| cx.param(id)));
        if keep.is_none() && skip.is_none() && scale.is_none() {
            return add(cx, x, branch);
        }
        let inputs: Vec<&Variable> = [x, branch].into_iter().chain(&skip).chain(&scale).collect();
        let op = Op::Residual { skip: skip.is_some(), branch: scale.is_some() };
        let tensor = |act: &Option<Variable>| act.as_ref().map(|a| a.tensor().clone());
        cx.apply(op, &inputs, x.dims(), |_| {
            let scales = Scales { skip: tensor(&skip), branch: tensor(&scale), keep };
            ops::residual(x.tensor(), branch.tensor(), scales)
        })
    }
}

/// The sum of two tensors of one shape.
///
/// # Errors
/// When the two differ in shape.
pub fn add(cx: &mut Context, x: &Variable, y: &Variable) -> Result<Variable> {
    cx.apply(Op::Add, &[x, y], x.dims(), |_| ops::add(x.tensor(), y.tensor()))
}
