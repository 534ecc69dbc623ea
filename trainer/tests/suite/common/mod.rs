//! Small data sets and configurations.

pub(crate) mod command;
pub(crate) mod content;
#[cfg(feature = "mlflow")]
pub(crate) mod http;
pub(crate) mod plain;
pub(crate) mod shards;

use std::path::{Path, PathBuf};

use efficienttrain::config::Interval;
use efficienttrain::config::{RunOptions, TrainConfig};
use efficienttrain::data::TrainPipeline;
use efficienttrain::{Run, Sources};
use efficienttrain_schedule::Recipe;
use image::{Rgb, RgbImage};

/// Configuration of a run of a few dozen steps on the built-in set.
pub(crate) fn config(model: &str) -> TrainConfig {
    TrainConfig {
        synthetic_images: 100,
        model: Some(model.into()),
        epochs: 1.5,
        base_size: 32,
        batch: 8.into(),
        lr: Some(1e-3),
        drop_path: Some(0.1),
        ema_decay: Some(0.9),
        clip_grad: Some(1.0),
        min_crop_area: 0.2,
        seed: 7,
        ..TrainConfig::default()
    }
}

/// Transforms of a small stage of a recipe.
pub(crate) fn pipeline() -> TrainPipeline {
    let config = TrainConfig { seed: 5, base_size: 48, min_crop_area: 0.2, ..TrainConfig::default() };
    TrainPipeline::new(&config, &Recipe::named("resnet18-etpp").unwrap())
}

pub(crate) fn options(out: &Path, workers: usize) -> RunOptions {
    RunOptions {
        out: out.into(),
        workers: Some(workers),
        eval_every: Interval::Percent(50.0),
        checkpoint_every: Interval::Percent(100.0),
        max_bad_images: 10,
        ..RunOptions::default()
    }
}

pub(crate) fn run(config: &TrainConfig, options: RunOptions) -> Run {
    let sources = Sources::open(config).unwrap();
    Run::new(config.clone(), options, sources).unwrap()
}

/// Returns all values of a run's weights and average as bits.
pub(crate) fn bits(run: &Run) -> Vec<(String, Vec<u32>)> {
    let ema = run.state.ema.iter().flat_map(|ema| ema.iter());
    run.state
        .params
        .iter()
        .chain(ema)
        .map(|(name, t)| {
            let values = t.to_dtype(candle_core::DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>();
            (name.to_string(), values.unwrap().into_iter().map(f32::to_bits).collect())
        })
        .collect()
}

/// Writes folders `train` and `val` with `classes` classes of `images` images each.
pub(crate) fn image_folder(dir: &Path, classes: usize, images: usize) -> PathBuf {
    for split in ["train", "val"] {
        for class in 0..classes {
            let folder = dir.join(split).join(format!("class{class}"));
            std::fs::create_dir_all(&folder).unwrap();
            for i in 0..images {
                let level = (class * 80) as u8;
                let image =
                    RgbImage::from_fn(40, 36, |x, y| Rgb([level, (x * 5) as u8, (y * 5 + i as u32) as u8]));
                image.save(folder.join(format!("{i:03}.jpg"))).unwrap();
            }
        }
    }
    dir.into()
}

/// Messages as rendered by the command line.
pub(crate) trait Rendered: std::fmt::Display {
    fn rendered(&self) -> String {
        efficienttrain::config::with_flags(&self.to_string())
    }
}

impl<T: std::fmt::Display> Rendered for T {}
