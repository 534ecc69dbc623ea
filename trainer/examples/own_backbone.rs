//! Trains a custom network: `cargo run --release -p efficienttrain --example own_backbone`.
//!
//! A backbone declares its parameters and its forward pass; gradients, optimizer, EMA and changes
//! of size follow from that. Layers are in `efficienttrain_models::layers`.

use efficienttrain::config::{RunOptions, TrainConfig};
use efficienttrain::observe::progress::Progress;
use efficienttrain::{Run, Sources};
use efficienttrain_models::layers::{BatchNorm, Conv2d, ConvShape, Linear, global_avg_pool};
use efficienttrain_models::{
    Backbone, Context, Family, FeatureInfo, Init, Model, ModelInfo, ModelOptions, ParamBuilder, Resample,
    Result, Variable,
};

const WIDTHS: [usize; 4] = [16, 32, 64, 96];

/// Four strided convolutions with batch norm, the mean over all pixels, and a linear head.
#[derive(Clone, Debug)]
struct Plain {
    info: ModelInfo,
    levels: Vec<(Conv2d, BatchNorm)>,
    head: Linear,
}

impl Plain {
    fn new(options: &ModelOptions) -> Self {
        let mut b = ParamBuilder::default();
        let mut inputs = options.in_channels;
        let mut levels = Vec::new();
        for (i, outputs) in WIDTHS.into_iter().enumerate() {
            let shape = ConvShape { inputs, outputs, kernel: 3, stride: 2, padding: 1 };
            // Depth of the layer, for --layer-decay.
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

    /// No parameter has a shape that depends on the size.
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

fn main() -> std::result::Result<(), efficienttrain::Error> {
    let config = TrainConfig {
        // A full name selects stages, optimizer and augmentation.
        recipe: "resnet18-etpp".into(),
        synthetic_images: 1024,
        base_size: 32,
        epochs: 4.0,
        lr: Some(4e-3),
        mixup: Some(0.0),
        cutmix: Some(0.0),
        ..TrainConfig::default()
    };
    let out = std::env::temp_dir().join("efficienttrain-own-backbone");
    let (options, sources) = (RunOptions { out, ..RunOptions::default() }, Sources::open(&config)?);
    let mut run = Run::with_backbone(config, options, sources, |options| Ok(Box::new(Plain::new(options))))?;
    run.train(&mut Progress::new())?;
    println!("top-1 {:.1}%", 100.0 * run.history.last().map_or(0.0, |e| e.top1));
    Ok(())
}
