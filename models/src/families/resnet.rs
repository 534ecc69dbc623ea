//! ResNet (He et al., 2016), as torchvision and timm have it: the stride of a bottleneck sits in
//! its 3x3 convolution.
//!
//! | variant | block | depths | parameters (1000 classes) |
//! | --- | --- | --- | --- |
//! | `resnet10` | basic | 1-1-1-1 | 5.4 M |
//! | `resnet18` | basic | 2-2-2-2 | 11.7 M |
//! | `resnet34` | basic | 3-4-6-3 | 21.8 M |
//! | `resnet50` | bottleneck | 3-4-6-3 | 25.6 M |
//! | `resnet101` | bottleneck | 3-4-23-3 | 44.5 M |
//! | `resnet152` | bottleneck | 3-8-36-3 | 60.2 M |
//!
//! Takes images of any size; nothing changes with it. `resnet10` is no published variant, only a
//! smaller sibling for tests and demonstrations.
//!
//! ```
//! use efficienttrain_models::{ModelOptions, create_model};
//!
//! let model = create_model("resnet50", &ModelOptions { num_classes: 10, ..ModelOptions::default() })?;
//! assert!(model.specs().iter().any(|s| s.name == "fc.weight" && s.shape == [10, 2048]));
//! # Ok::<(), efficienttrain_models::Error>(())
//! ```

use super::options::{ModelOptions, check_edges};
use crate::backbone::{Backbone, FeatureInfo, Model, ModelInfo, check_images, last};
use crate::graph::{Context, Variable};
use crate::layers::{
    Activation, BatchNorm, BlockIndex, Conv2d, ConvShape, Linear, Residual, global_avg_pool, max_pool2d,
};
use crate::params::{Init, ParamBuilder};
use crate::resample::Resample;
use crate::{Family, Result};

/// Residual block of a variant, and the number of blocks per stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResNetConfig {
    /// Bottleneck blocks (1x1, 3x3, 1x1, four times as many channels out) instead of basic ones
    /// (3x3, 3x3).
    pub bottleneck: bool,
    /// Blocks in each of the four stages.
    pub depths: [usize; 4],
}

/// A ResNet with a linear head.
#[derive(Clone, Debug)]
pub struct ResNet {
    info: ModelInfo,
    conv1: Conv2d,
    bn1: BatchNorm,
    stages: Vec<Vec<Block>>,
    fc: Linear,
}

impl ResNet {
    /// Makes the structure of a variant.
    pub fn new(name: &str, config: ResNetConfig, options: &ModelOptions) -> Self {
        let mut b = ParamBuilder::default();
        let stem = ConvShape { inputs: options.in_channels, outputs: 64, kernel: 7, stride: 2, padding: 3 };
        let conv1 = b.within("conv1", |b| Conv2d::unbiased(b, stem));
        let bn1 = b.within("bn1", |b| BatchNorm::new(b, 64, Init::Ones));
        let mut stages = Vec::new();
        let (mut inputs, mut index, depth) = (64, 0, config.depths.iter().sum());
        for (stage, &count) in config.depths.iter().enumerate() {
            let mut blocks = Vec::new();
            for i in 0..count {
                let shape = BlockShape {
                    bottleneck: config.bottleneck,
                    inputs,
                    width: 64 << stage,
                    stride: if stage > 0 && i == 0 { 2 } else { 1 },
                };
                b.layer(index + 1);
                let block =
                    |b: &mut ParamBuilder| b.within(i, |b| Block::new(b, shape, BlockIndex { index, depth }));
                blocks.push(b.within(format!("layer{}", stage + 1), block));
                inputs = shape.outputs();
                index += 1;
            }
            stages.push(blocks);
        }
        b.layer(depth + 1);
        let init = Init::fan_in_uniform(inputs);
        let fc = b.within("fc", |b| Linear::new(b, inputs, options.num_classes, init, Some(init)));
        let info = FeatureInfo::stages([8, 4, 2, 1].map(|part| inputs / part));
        let info = options.info(name, Family::ResNet, b, &["fc"], info);
        Self { info, conv1, bn1, stages, fc }
    }
}

impl Model for ResNet {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn resampling(&self, size: [usize; 2]) -> Result<Vec<Resample>> {
        check_edges(self.name(), size)?;
        Ok(Vec::new())
    }
}

impl Backbone for ResNet {
    fn at_size(&self, size: [usize; 2]) -> Result<(Box<dyn Backbone>, Vec<Resample>)> {
        let changes = self.resampling(size)?;
        let info = self.info.at_size(size, &changes);
        Ok((Box::new(Self { info, ..self.clone() }), changes))
    }

    fn feature_maps(&self, cx: &mut Context, images: &Variable) -> Result<Vec<Variable>> {
        check_images(self, images)?;
        let x = self.conv1.forward(cx, images)?;
        let x = self.bn1.forward(cx, &x, None, true)?;
        let mut x = max_pool2d(cx, &x, 3, 2, 1)?;
        let mut maps = Vec::new();
        for blocks in &self.stages {
            for block in blocks {
                x = cx.block(block, &x, Block::forward)?;
            }
            maps.push(x.clone());
        }
        Ok(maps)
    }

    fn features(&self, cx: &mut Context, images: &Variable) -> Result<Variable> {
        let x = last(self.feature_maps(cx, images)?)?;
        global_avg_pool(cx, &x)
    }

    fn head(&self, cx: &mut Context, features: &Variable) -> Result<Variable> {
        self.fc.forward(cx, features)
    }
}

#[derive(Clone, Copy, Debug)]
struct BlockShape {
    bottleneck: bool,
    inputs: usize,
    width: usize,
    stride: usize,
}

impl BlockShape {
    fn outputs(&self) -> usize {
        if self.bottleneck { 4 * self.width } else { self.width }
    }

    /// The convolutions of the branch.
    fn branch(&self) -> Vec<ConvShape> {
        let Self { bottleneck, inputs, width, stride } = *self;
        let conv = |inputs, outputs, kernel, stride| ConvShape {
            inputs,
            outputs,
            kernel,
            stride,
            padding: kernel / 2,
        };
        if bottleneck {
            vec![conv(inputs, width, 1, 1), conv(width, width, 3, stride), conv(width, 4 * width, 1, 1)]
        } else {
            vec![conv(inputs, width, 3, stride), conv(width, width, 3, 1)]
        }
    }
}

/// Convolutions with their norms, and the projection of the skip path where shapes change.
#[derive(Clone, Debug)]
struct Block {
    branch: Vec<(Conv2d, BatchNorm)>,
    downsample: Option<(Conv2d, BatchNorm)>,
    at: BlockIndex,
}

impl Block {
    fn new(b: &mut ParamBuilder, shape: BlockShape, at: BlockIndex) -> Self {
        let plan = shape.branch();
        let mut branch = Vec::new();
        for (i, &conv) in plan.iter().enumerate() {
            let layer = b.within(format!("conv{}", i + 1), |b| Conv2d::unbiased(b, conv));
            // The last norm of a branch starts at zero, so that a block starts as the identity
            // (Goyal et al., 2017).
            let weight = if i + 1 == plan.len() { Init::Zeros } else { Init::Ones };
            let norm = b.within(format!("bn{}", i + 1), |b| BatchNorm::new(b, conv.outputs, weight));
            branch.push((layer, norm));
        }
        let BlockShape { inputs, stride, .. } = shape;
        let outputs = shape.outputs();
        let projection = ConvShape { inputs, outputs, kernel: 1, stride, padding: 0 };
        let downsample = (stride != 1 || inputs != outputs).then(|| {
            b.within("downsample", |b| {
                let conv = b.within(0, |b| Conv2d::unbiased(b, projection));
                (conv, b.within(1, |b| BatchNorm::new(b, outputs, Init::Ones)))
            })
        });
        Self { branch, downsample, at }
    }

    fn forward(&self, cx: &mut Context, x: &Variable) -> Result<Variable> {
        let skip = match &self.downsample {
            Some((conv, norm)) => {
                let projected = conv.forward(cx, x)?;
                norm.forward(cx, &projected, None, false)?
            }
            None => x.clone(),
        };
        let dropped = cx.drop_path_rate(self.at) > 0.0;
        let mut y = x.clone();
        for (i, (conv, norm)) in self.branch.iter().enumerate() {
            let z = conv.forward(cx, &y)?;
            let last = i + 1 == self.branch.len();
            y = if last && dropped {
                let branch = norm.forward(cx, &z, None, false)?;
                let sum = Residual::default().forward(cx, &skip, &branch, self.at, "")?;
                Activation::Relu.forward(cx, &sum)?
            } else {
                // One pass over memory for norm, sum and rectifier.
                norm.forward(cx, &z, last.then_some(&skip), true)?
            };
        }
        Ok(y)
    }
}
