//! ResNet (He et al., 2016), as torchvision and timm have it: the stride of a bottleneck sits in its 3x3 convolution.
//!
//! | variant | block | depths | parameters (1000 classes) |
//! | --- | --- | --- | --- |
//! | `resnet10` | basic | 1-1-1-1 | 5.4 M |
//! | `resnet18` | basic | 2-2-2-2 | 11.7 M |
//! | `resnet34` | basic | 3-4-6-3 | 21.8 M |
//! | `resnet50` | bottleneck | 3-4-6-3 | 25.6 M |
//! | `resnet101` | bottleneck | 3-4-23-3 | 44.5 M |
//!
//! Takes pictures of any size; nothing changes with it. `resnet10` is no published variant, only a smaller sibling for
//! tests and demonstrations.

use crate::backbone::{Backbone, Blueprint, check_pictures};
use crate::graph::{Act, Context};
use crate::layers::{BatchNorm, Conv2d, Linear};
use crate::ops;
use crate::params::{Init, ParamBuilder};
use crate::registry::Options;
use crate::resample::Resample;
use crate::{Family, Result};

/// Which residual block a variant is made of, and how many in each stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResNetConfig {
    /// Bottleneck blocks (1x1, 3x3, 1x1, four times as many channels out) instead of basic ones (3x3, 3x3).
    pub bottleneck: bool,
    /// Blocks in each of the four stages.
    pub depths: [usize; 4],
}

/// A ResNet with a linear head.
#[derive(Debug)]
pub struct ResNet {
    blueprint: Blueprint,
    conv1: Conv2d,
    bn1: BatchNorm,
    blocks: Vec<Block>,
    fc: Linear,
}

impl ResNet {
    /// Makes the structure of a variant.
    pub fn new(name: &str, config: ResNetConfig, options: &Options) -> Self {
        let mut b = ParamBuilder::default();
        let conv1 = b.within("conv1", |b| Conv2d::unbiased(b, 3, 64, 7, 2, 3));
        let bn1 = b.within("bn1", |b| BatchNorm::new(b, 64, Init::Ones));
        let mut blocks = Vec::new();
        let mut inputs = 64;
        for (stage, &depth) in config.depths.iter().enumerate() {
            b.within(format!("layer{}", stage + 1), |b| {
                for i in 0..depth {
                    let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                    let block =
                        b.within(i, |b| Block::new(b, config.bottleneck, inputs, 64 << stage, stride));
                    inputs = block.outputs;
                    blocks.push(block);
                }
            });
        }
        let init = Init::fan_in_uniform(inputs);
        let fc = b.within("fc", |b| Linear::new(b, inputs, options.num_classes, init, init));
        Self { blueprint: options.blueprint(name, Family::ResNet, b, "fc"), conv1, bn1, blocks, fc }
    }
}

impl Backbone for ResNet {
    fn blueprint(&self) -> &Blueprint {
        &self.blueprint
    }

    fn set_input_size(&mut self, size: [usize; 2]) -> Result<Vec<Resample>> {
        crate::registry::check_nonzero(self.name(), size)?;
        self.blueprint.input_size = size;
        Ok(Vec::new())
    }

    fn features(&self, cx: &mut Context, pictures: &Act) -> Result<Act> {
        check_pictures(self, pictures)?;
        let x = self.conv1.forward(cx, pictures)?;
        let x = self.bn1.forward(cx, &x, None, true)?;
        let mut x = cx.record(&[&x], ops::max_pool2d(x.tensor(), 3, 2, 1)?);
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(cx, &x, i, self.blocks.len())?;
        }
        Ok(cx.record(&[&x], ops::global_avg_pool(x.tensor())?))
    }

    fn head(&self, cx: &mut Context, features: &Act) -> Result<Act> {
        self.fc.forward(cx, features)
    }
}

/// Convolutions with their norms, and the projection of the skip path where shapes change.
#[derive(Debug)]
struct Block {
    branch: Vec<(Conv2d, BatchNorm)>,
    downsample: Option<(Conv2d, BatchNorm)>,
    outputs: usize,
}

impl Block {
    fn new(b: &mut ParamBuilder, bottleneck: bool, inputs: usize, width: usize, stride: usize) -> Self {
        let outputs = if bottleneck { 4 * width } else { width };
        // (inputs, outputs, kernel, stride) of each convolution of the branch
        let plan: &[(usize, usize, usize, usize)] = if bottleneck {
            &[(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)]
        } else {
            &[(inputs, width, 3, stride), (width, width, 3, 1)]
        };
        let mut branch = Vec::new();
        for (i, &(inputs, outputs, kernel, stride)) in plan.iter().enumerate() {
            let last = i + 1 == plan.len();
            let conv = b.within(format!("conv{}", i + 1), |b| {
                Conv2d::unbiased(b, inputs, outputs, kernel, stride, kernel / 2)
            });
            // The last norm of a branch starts at zero, so that a block starts as the identity (Goyal et al., 2017).
            let weight = if last { Init::Zeros } else { Init::Ones };
            branch.push((conv, b.within(format!("bn{}", i + 1), |b| BatchNorm::new(b, outputs, weight))));
        }
        let downsample = (stride != 1 || inputs != outputs).then(|| {
            b.within("downsample", |b| {
                let conv = b.within(0, |b| Conv2d::unbiased(b, inputs, outputs, 1, stride, 0));
                (conv, b.within(1, |b| BatchNorm::new(b, outputs, Init::Ones)))
            })
        });
        Self { branch, downsample, outputs }
    }

    fn forward(&self, cx: &mut Context, x: &Act, index: usize, depth: usize) -> Result<Act> {
        let skip = match &self.downsample {
            Some((conv, norm)) => {
                let projected = conv.forward(cx, x)?;
                norm.forward(cx, &projected, None, false)?
            }
            None => x.clone(),
        };
        let mut y = x.clone();
        for (i, (conv, norm)) in self.branch.iter().enumerate() {
            let z = conv.forward(cx, &y)?;
            let last = i + 1 == self.branch.len();
            y = match cx.keep_samples((index, depth), "", x.dims()[0]) {
                Some(keep) if last => {
                    let branch = norm.forward(cx, &z, None, false)?;
                    let sum = ops::add_scaled_rows(skip.tensor(), branch.tensor(), keep)?;
                    let sum = cx.record(&[&skip, &branch], sum);
                    cx.record(&[&sum], ops::relu(sum.tensor())?)
                }
                _ => norm.forward(cx, &z, last.then_some(&skip), true)?,
            };
        }
        Ok(y)
    }
}
