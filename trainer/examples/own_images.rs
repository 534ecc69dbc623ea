//! Trains on images that the program generates:
//! `cargo run --release -p efficienttrain --example own_images`.

use std::sync::Arc;

use efficienttrain::config::{RunOptions, TrainConfig};
use efficienttrain::data::Source;
use efficienttrain::observe::progress::Progress;
use efficienttrain::{DataError, Run, Sources};
use image::{Rgb, RgbImage};

/// Warm and cold color gradients.
struct Gradients {
    classes: Vec<String>,
    images: usize,
}

impl Source for Gradients {
    fn len(&self) -> usize {
        self.images
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        (index % 2) as u32
    }

    fn name(&self, index: usize) -> String {
        format!("gradient {index}")
    }

    fn load(&self, index: usize) -> Result<RgbImage, DataError> {
        let (warm, shade) = (self.label(index) == 0, (index * 37 % 90) as u8);
        Ok(RgbImage::from_fn(48, 48, |x, y| {
            let (high, low) = (150 + (2 * x) as u8, shade + y as u8);
            if warm { Rgb([high, low, 30]) } else { Rgb([30, low, high]) }
        }))
    }
}

fn main() -> Result<(), efficienttrain::Error> {
    let source = |images| Arc::new(Gradients { classes: vec!["warm".into(), "cold".into()], images });
    let sources = Sources { train: source(512), val: source(100) };
    let config = TrainConfig {
        model: Some("resnet10".into()),
        base_size: 32,
        epochs: 2.0,
        batch: 32.into(),
        ..TrainConfig::default()
    };
    let out = std::env::temp_dir().join("efficienttrain-own-images");
    let mut run = Run::new(config, RunOptions { out, ..RunOptions::default() }, sources)?;
    run.train(&mut Progress::new())?;
    println!("top-1 {:.1}%", 100.0 * run.history.last().map_or(0.0, |e| e.top1));
    Ok(())
}
