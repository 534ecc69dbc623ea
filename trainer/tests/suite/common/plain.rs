//! A network of a few hundred parameters, so that its checkpoints are small.

use efficienttrain_models::layers::{BatchNorm, Conv2d, ConvShape, Linear, global_avg_pool};
use efficienttrain_models::{
    Act, Backbone, Blueprint, Context, Family, FeatureInfo, Init, Options, ParamBuilder, Resample, Result,
};

const WIDTHS: [usize; 2] = [4, 8];

/// Two strided convolutions with batch norm, the mean over all pixels, and a linear head.
#[derive(Debug)]
pub(crate) struct Plain {
    blueprint: Blueprint,
    levels: Vec<(Conv2d, BatchNorm)>,
    head: Linear,
}

impl Plain {
    pub(crate) fn new(options: &Options) -> Self {
        let mut b = ParamBuilder::default();
        let mut inputs = options.in_channels;
        let mut levels = Vec::new();
        for (i, outputs) in WIDTHS.into_iter().enumerate() {
            let shape = ConvShape { inputs, outputs, kernel: 3, stride: 2, padding: 1 };
            b.layer(i);
            let conv = b.within(format!("conv{i}"), |b| Conv2d::unbiased(b, shape));
            let norm = b.within(format!("norm{i}"), |b| BatchNorm::new(b, outputs, Init::Ones));
            levels.push((conv, norm));
            inputs = outputs;
        }
        b.layer(WIDTHS.len());
        let init = Init::fan_in_uniform(inputs);
        let head = b.within("head", |b| Linear::new(b, inputs, options.num_classes, init, Some(init)));
        let level = |(i, channels)| FeatureInfo { channels, stride: 2usize << i };
        let blueprint = Blueprint {
            name: "plain".into(),
            family: Family::ResNet,
            specs: b.finish(),
            input_size: options.input_size,
            num_classes: options.num_classes,
            in_channels: options.in_channels,
            drop_rate: 0.0,
            classifiers: &["head"],
            feature_info: WIDTHS.into_iter().enumerate().map(level).collect(),
            layers: WIDTHS.len() + 1,
        };
        Self { blueprint, levels, head }
    }
}

impl Backbone for Plain {
    fn blueprint(&self) -> &Blueprint {
        &self.blueprint
    }

    fn set_input_size(&mut self, size: [usize; 2]) -> Result<Vec<Resample>> {
        self.blueprint.input_size = size;
        Ok(Vec::new())
    }

    fn pyramid(&self, cx: &mut Context, images: &Act) -> Result<Vec<Act>> {
        let mut maps: Vec<Act> = Vec::new();
        for (conv, norm) in &self.levels {
            let map = conv.forward(cx, maps.last().unwrap_or(images))?;
            maps.push(norm.forward(cx, &map, None, true)?);
        }
        Ok(maps)
    }

    fn features(&self, cx: &mut Context, images: &Act) -> Result<Act> {
        let maps = self.pyramid(cx, images)?;
        global_avg_pool(cx, maps.last().unwrap_or(images))
    }

    fn head(&self, cx: &mut Context, features: &Act) -> Result<Act> {
        self.head.forward(cx, features)
    }
}
