//! Convolution layers.

use crate::graph::{Context, Op, Variable};
use crate::ops::{self, Conv2dConfig};
use crate::params::{Init, ParamBuilder, ParamId};
use crate::{Error, Result};

/// Channels and kernel of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Channels of the image.
    pub inputs: usize,
    /// Channels of the result.
    pub outputs: usize,
    /// Edge of the square kernel.
    pub kernel: usize,
    /// Pixels between kernel positions.
    pub stride: usize,
    /// Zero pixels on each side.
    pub padding: usize,
}

impl ConvShape {
    /// Square patches that do not overlap: kernel and stride are the patch's edge.
    pub fn patches(inputs: usize, outputs: usize, patch: usize) -> Self {
        Self { inputs, outputs, kernel: patch, stride: patch, padding: 0 }
    }

    fn weight(&self) -> [usize; 4] {
        [self.outputs, self.inputs, self.kernel, self.kernel]
    }
}

/// A convolution with its parameters `weight` (`[O, C, K, K]`) and, if made so, `bias`.
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: ParamId,
    bias: Option<ParamId>,
    shape: ConvShape,
}

impl Conv2d {
    /// A convolution whose parameters start as given.
    pub fn new(b: &mut ParamBuilder, shape: ConvShape, weight: Init, bias: Option<Init>) -> Self {
        let weight = b.parameter("weight", &shape.weight(), weight);
        Self { weight, bias: bias.map(|init| b.parameter("bias", &[shape.outputs], init)), shape }
    }

    /// A convolution without bias, He-initialized by fan-out: the kind that a batch norm follows.
    pub fn unbiased(b: &mut ParamBuilder, shape: ConvShape) -> Self {
        Self::new(b, shape, Init::kaiming_fan_out(&shape.weight()), None)
    }

    /// A convolution with bias that starts as PyTorch's do.
    pub fn plain(b: &mut ParamBuilder, shape: ConvShape) -> Self {
        let init = Init::fan_in_uniform(shape.inputs * shape.kernel * shape.kernel);
        Self::new(b, shape, init, Some(init))
    }

    /// `[N, H, W, C]` to `[N, HO, WO, O]`.
    ///
    /// # Errors
    /// When the image does not fit.
    pub fn forward(&self, cx: &mut Context, x: &Variable) -> Result<Variable> {
        let x = &cx.to_compute_dtype(x)?;
        let ConvShape { outputs, kernel, stride, padding, .. } = self.shape;
        let &[n, h, w, _] = x.dims() else {
            return Err(Error::shape("conv2d", "an image [N, H, W, C]", x.dims()));
        };
        let places = |size: usize| (size + 2 * padding).checked_sub(kernel).map_or(0, |s| s / stride + 1);
        let (ho, wo) = (places(h), places(w));
        let (weight, bias) = (cx.param(self.weight), self.bias.map(|id| cx.param(id)));
        let all: Vec<&Variable> = [x, &weight].into_iter().chain(&bias).collect();
        cx.apply(Op::Conv2d { stride, padding }, &all, &[n, ho, wo, outputs], |_| {
            let config = Conv2dConfig { stride, padding, ..Conv2dConfig::default() };
            ops::conv2d(x.tensor(), weight.tensor(), bias.as_ref().map(Variable::tensor), config)
        })
    }
}

/// A convolution with a kernel for each channel that keeps the image's size: parameters `weight`
/// (`[C, 1, K, K]`) and, if made so, `bias`.
#[derive(Clone, Debug)]
pub struct DepthwiseConv2d {
    weight: ParamId,
    bias: Option<ParamId>,
    kernel: usize,
}

impl DepthwiseConv2d {
    /// A layer with an odd square kernel. A bias starts like PyTorch's if the weight does, else
    /// at zero.
    pub fn new(b: &mut ParamBuilder, channels: usize, kernel: usize, weight: Init, bias: bool) -> Self {
        let bias_init = if matches!(weight, Init::Uniform { .. }) { weight } else { Init::Zeros };
        Self {
            weight: b.parameter("weight", &[channels, 1, kernel, kernel], weight),
            bias: bias.then(|| b.parameter("bias", &[channels], bias_init)),
            kernel,
        }
    }

    /// `[N, H, W, C]` to the same shape.
    ///
    /// # Errors
    /// When the image does not fit.
    pub fn forward(&self, cx: &mut Context, x: &Variable) -> Result<Variable> {
        self.forward_tiled(cx, x, None)
    }

    /// Does the same as [`Self::forward`] for each tile of the image by itself.
    ///
    /// # Errors
    /// When the tiles do not divide the image.
    pub fn forward_tiled(
        &self,
        cx: &mut Context,
        x: &Variable,
        tile: Option<[usize; 2]>,
    ) -> Result<Variable> {
        let x = &cx.to_compute_dtype(x)?;
        let (weight, bias) = (cx.param(self.weight), self.bias.map(|id| cx.param(id)));
        let all: Vec<&Variable> = [x, &weight].into_iter().chain(&bias).collect();
        cx.apply(Op::DepthwiseConv2d { tile }, &all, x.dims(), |_| {
            let bias = bias.as_ref().map(Variable::tensor);
            ops::depthwise_conv2d(x.tensor(), weight.tensor(), bias, self.kernel / 2, tile)
        })
    }
}
