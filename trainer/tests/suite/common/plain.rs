//! A network of a few hundred parameters, so that its checkpoints are small.

use efficienttrain_models::layers::{BatchNorm, Conv2d, ConvShape, Linear, global_avg_pool};
use efficienttrain_models::{
    Backbone, Context, Family, FeatureInfo, Init, Model, ModelInfo, ModelOptions, ParamBuilder, Resample,
    Result, Variable,
};

const WIDTHS: [usize; 2] = [4, 8];

/// Two strided convolutions with batch norm, the mean over all pixels, and a linear head.
#[derive(Clone, Debug)]
pub(crate) struct Plain {
    info: ModelInfo,
    levels: Vec<(Conv2d, BatchNorm)>,
    head: Linear,
}

impl Plain {
    pub(crate) fn new(options: &ModelOptions) -> Self {
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
        let info = ModelInfo {
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
        Self { info, levels, head }
    }
}

impl Model for Plain {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn resampling(&self, _: [usize; 2]) -> Result<Vec<Resample>> {
        Ok(Vec::new())
    }
}

impl Backbone for Plain {
    fn at_size(&self, size: [usize; 2]) -> Result<(Box<dyn Backbone>, Vec<Resample>)> {
        let info = self.info.at_size(size, &[]);
        Ok((Box::new(Self { info, ..self.clone() }), Vec::new()))
    }

    fn feature_maps(&self, cx: &mut Context, images: &Variable) -> Result<Vec<Variable>> {
        let mut maps: Vec<Variable> = Vec::new();
        for (conv, norm) in &self.levels {
            let map = conv.forward(cx, maps.last().unwrap_or(images))?;
            maps.push(norm.forward(cx, &map, None, true)?);
        }
        Ok(maps)
    }

    fn features(&self, cx: &mut Context, images: &Variable) -> Result<Variable> {
        let maps = self.feature_maps(cx, images)?;
        global_avg_pool(cx, maps.last().unwrap_or(images))
    }

    fn head(&self, cx: &mut Context, features: &Variable) -> Result<Variable> {
        self.head.forward(cx, features)
    }
}
