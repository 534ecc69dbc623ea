//! Watches a run with a custom observer in addition to the existing ones:
//! `cargo run --release -p efficienttrain --example own_logger`.

use efficienttrain::config::{LogFormat, RunOptions, TrainConfig};
use efficienttrain::events::{Event, Observer};
use efficienttrain::observe::log;
use efficienttrain::{Error, Run, Sources};

/// Prints a summary of each stage.
#[derive(Default)]
struct Stages {
    size: u32,
    images: u64,
    seconds: f64,
    loss: f64,
}

impl Stages {
    fn print(&self) {
        if self.images > 0 {
            let rate = self.images as f64 / self.seconds;
            println!(
                "B={}: {} images, {rate:.0} per second, last loss {:.3}",
                self.size, self.images, self.loss
            );
        }
    }
}

impl Observer for Stages {
    /// Called in the training thread, so a slow observer delays the run. An error ends it.
    fn observe(&mut self, event: &Event) -> Result<(), Error> {
        match event {
            Event::Stage(stage) => {
                self.print();
                *self = Self { size: stage.size, ..Self::default() };
            }
            Event::Step(step) => {
                self.images += step.images;
                self.seconds += step.seconds;
                self.loss = step.loss;
            }
            Event::Eval(eval) => println!("top-1 {:.1}% after {} steps", 100.0 * eval.top1, eval.step),
            Event::End { .. } => self.print(),
            _ => {}
        }
        Ok(())
    }
}

fn main() -> Result<(), Error> {
    let config = TrainConfig {
        synthetic_images: 512,
        model: Some("resnet10".into()),
        base_size: 32,
        epochs: 2.0,
        ..TrainConfig::default()
    };
    let out = std::env::temp_dir().join("efficienttrain-own-logger");
    let options = RunOptions { out, log: vec![LogFormat::Csv], ..RunOptions::default() };
    let mut run = Run::new(config.clone(), options, Sources::open(&config)?)?;
    run.claim()?;
    let mut observers = log::open(run.config(), run.options(), run.step())?;
    observers.push(Box::new(Stages::default()));
    run.train(&mut observers)?;
    Ok(())
}
