//! Convolution layer.

use crate::Result;
use crate::graph::{Act, Context};
use crate::ops::{Conv2dConfig, conv2d};
use crate::params::{Init, ParamBuilder, ParamId};

/// A convolution with its parameters `weight` (`[O, C, K, K]`) and, if made so, `bias`.
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: ParamId,
    bias: Option<ParamId>,
    config: Conv2dConfig,
}

impl Conv2d {
    /// A convolution without bias, He-initialised by fan-out: the kind that a batch norm follows.
    pub fn unbiased(
        b: &mut ParamBuilder,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Self {
        let shape = [outputs, inputs, kernel, kernel];
        let weight = b.parameter("weight", &shape, Init::kaiming_fan_out(&shape));
        Self { weight, bias: None, config: Conv2dConfig { stride, padding } }
    }

    /// The projection of square patches to tokens: kernel and stride are the patch's edge.
    pub fn patches(b: &mut ParamBuilder, inputs: usize, outputs: usize, patch: usize) -> Self {
        let init = Init::fan_in_uniform(inputs * patch * patch);
        let weight = b.parameter("weight", &[outputs, inputs, patch, patch], init);
        let bias = Some(b.parameter("bias", &[outputs], init));
        Self { weight, bias, config: Conv2dConfig { stride: patch, padding: 0 } }
    }

    /// `[N, H, W, C]` to `[N, HO, WO, O]`.
    ///
    /// # Errors
    /// When the picture does not fit.
    pub fn forward(&self, cx: &mut Context, x: &Act) -> Result<Act> {
        let weight = cx.param(self.weight);
        let bias = self.bias.map(|id| cx.param(id));
        let traced = conv2d(x.tensor(), weight.tensor(), bias.as_ref().map(Act::tensor), self.config)?;
        let inputs: Vec<&Act> = [x, &weight].into_iter().chain(&bias).collect();
        Ok(cx.record(&inputs, traced))
    }
}
