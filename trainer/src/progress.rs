//! What a person sees while a run goes on.

use indicatif::{ProgressBar, ProgressStyle};

use crate::error::Result;
use crate::event::{Event, Observer, StepRecord};
use crate::forecast::clock;

/// A progress bar on the terminal, with a line for each stage and evaluation; plain lines where there is no terminal.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    /// Smoothed images a second, by wall time.
    rate: Option<f64>,
    /// Smoothed seconds for the whole compute of the run, at the pace of late.
    pace: Option<f64>,
    compute: f64,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// A bar that appears with the first event.
    pub fn new() -> Self {
        Self { bar: ProgressBar::hidden(), rate: None, pace: None, compute: 0.0 }
    }

    fn say(&self, line: &str) {
        if self.bar.is_hidden() {
            eprintln!("{line}");
        } else {
            self.bar.println(line);
        }
    }

    fn step(&mut self, s: &StepRecord) {
        let smooth = |old: Option<f64>, new: f64| Some(old.map_or(new, |old| 0.95 * old + 0.05 * new));
        self.rate = smooth(self.rate, s.images as f64 / s.seconds.max(1e-9));
        if s.compute > self.compute {
            self.pace = smooth(self.pace, s.seconds / (s.compute - self.compute));
        }
        self.compute = s.compute;
        let left = self.pace.map_or(0.0, |pace| pace * (1.0 - s.compute));
        self.bar.set_message(format!(
            "B={} m={:.1} loss {:.3}  {:.0} images/s  {} left",
            s.size,
            s.magnitude,
            s.loss,
            self.rate.unwrap_or(0.0),
            clock(left)
        ));
        self.bar.set_position(s.step + 1);
    }
}

impl Observer for Progress {
    fn observe(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Start(s) => {
                self.bar = ProgressBar::new(s.plan.total_steps);
                let style = ProgressStyle::with_template("{bar:24} {pos}/{len}  {msg}");
                self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                self.say(&format!(
                    "{} ({:.1} M parameters), recipe {}: {} steps, {:.2} equivalent epochs over {} images in {} classes",
                    s.model,
                    s.parameters as f64 / 1e6,
                    s.recipe,
                    s.plan.total_steps,
                    s.plan.equivalent_epochs,
                    s.train_images,
                    s.classes
                ));
                if s.first_step > 0 {
                    self.say(&format!("resuming at step {}", s.first_step));
                }
                if s.refill_images > 0 {
                    self.say(&format!("filling the replay buffer again with {} images", s.refill_images));
                }
                if let Some(share) = s.plan.decoded_share {
                    let share = 100.0 * share;
                    self.say(&format!(
                        "replay buffer: {share:.1}% of the images trained on are decoded anew"
                    ));
                }
            }
            Event::Stage(s) => {
                let (number, m) = (s.stage + 1, s.magnitude);
                self.say(&format!("stage {number}/{}: B={} m={m:.1}, {} steps", s.stages, s.size, s.steps));
            }
            Event::Step(s) => self.step(s),
            Event::Eval(e) => {
                let ema = e.ema_top1.map_or(String::new(), |t| format!("  EMA {:.2}%", 100.0 * t));
                self.say(&format!(
                    "epoch {:6.2}  compute {:6.2}  {:>8}  top-1 {:6.2}%  top-5 {:6.2}%  loss {:.4}{ema}",
                    e.epoch,
                    e.equivalent_epochs,
                    clock(e.seconds),
                    100.0 * e.top1,
                    100.0 * e.top5,
                    e.loss
                ));
            }
            Event::BadImage(b) => self.say(&format!("warning: skipped {}", b.reason)),
            Event::BadNumbers(b) => self.say(&format!(
                "warning: step {}: loss {}, gradient norm {}; {}; the batch is in {}",
                b.step,
                b.loss,
                b.grad_norm,
                b.action,
                b.kept.display()
            )),
            Event::Checkpoint { .. } => {}
            Event::CheckpointFailed { step, reason } => {
                self.say(&format!("warning: no checkpoint of step {step}: {reason}; the one before stays"));
            }
            Event::End { step, finished, seconds } => {
                self.bar.finish_and_clear();
                let how = if *finished { "done" } else { "stopped as asked" };
                self.say(&format!("{how}: {step} steps in {}", clock(*seconds)));
            }
        }
        Ok(())
    }
}
