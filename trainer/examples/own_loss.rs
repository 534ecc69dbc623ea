//! Trains with a custom loss: `cargo run --release -p efficienttrain --example own_loss`.

use std::sync::Arc;

use candle_core::Tensor;
use efficienttrain::config::{RunOptions, TrainConfig};
use efficienttrain::observe::progress::Progress;
use efficienttrain::training::Loss;
use efficienttrain::{Error, Run, Sources};
use efficienttrain_models::ops::Traced;

/// Mean squared distance of the logits from the targets, the Brier score without a softmax.
#[derive(Debug)]
struct Squared;

impl Loss for Squared {
    /// Returns the loss and its pullback, from the gradient of the loss to that of the logits (and
    /// none of the targets).
    fn loss(&self, logits: &Tensor, targets: &Tensor) -> Result<Traced, Error> {
        let difference = (logits - targets)?;
        let count = difference.elem_count() as f64;
        let value = (difference.sqr()?.sum_all()? / count)?;
        let pullback = move |dy: &Tensor, _: &[bool]| {
            let slope = (&difference * (2.0 / count))?;
            Ok(vec![Some(slope.broadcast_mul(dy)?), None])
        };
        Ok(Traced::new(value, pullback))
    }
}

fn main() -> Result<(), Error> {
    let config = TrainConfig {
        synthetic_images: 1024,
        model: Some("resnet10".into()),
        base_size: 32,
        epochs: 4.0,
        lr: Some(2e-3),
        mixup: Some(0.0),
        cutmix: Some(0.0),
        ..TrainConfig::default()
    };
    let out = std::env::temp_dir().join("efficienttrain-own-loss");
    let (options, sources) = (RunOptions { out, ..RunOptions::default() }, Sources::open(&config)?);
    let mut run = Run::new(config, options, sources)?.with_loss(Arc::new(Squared));
    run.train(&mut Progress::new())?;
    println!("top-1 {:.1}%", 100.0 * run.history.last().map_or(0.0, |e| e.top1));
    Ok(())
}
