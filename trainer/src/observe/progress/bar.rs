//! A progress bar.

use indicatif::{ProgressBar, ProgressStyle};

use crate::error::Result;
use crate::events::{Event, Observer, StepRecord};
use crate::measure::forecast::clock;
use crate::observe::progress::eprint_line;
use crate::observe::progress::lines::lines;
use crate::observe::progress::time_left::TimeLeft;

/// Progress bar on the terminal, with a line for each stage and evaluation; plain lines if there is
/// no terminal.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    /// Smoothed images per second of wall time.
    rate: Option<f64>,
    left: TimeLeft,
    stages: usize,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// Creates a bar that appears with the first event.
    pub fn new() -> Self {
        Self { bar: ProgressBar::hidden(), rate: None, left: TimeLeft::default(), stages: 0 }
    }

    fn say(&self, line: &str) {
        if self.bar.is_hidden() {
            eprint_line(line);
        } else {
            self.bar.println(line);
        }
    }

    fn step(&mut self, s: &StepRecord) {
        let rate = s.images as f64 / s.seconds.max(1e-9);
        self.rate = Some(self.rate.map_or(rate, |old| 0.95 * old + 0.05 * rate));
        self.bar.set_message(format!(
            "B={} m={:.1} loss {:.3}  {:.0} images/s  left: stage {}/{} {}, run {}",
            s.size,
            s.magnitude,
            s.loss,
            self.rate.unwrap_or(0.0),
            s.stage + 1,
            self.stages,
            clock(self.left.stage().unwrap_or(0.0)),
            clock(self.left.run().unwrap_or(0.0))
        ));
        self.bar.set_position(s.step + 1);
    }
}

impl Observer for Progress {
    fn observe(&mut self, event: &Event) -> Result<()> {
        self.left.take(event);
        match event {
            Event::Start(s) => {
                self.stages = s.plan.stages.len();
                self.bar = ProgressBar::new(s.total_steps());
                let style = ProgressStyle::with_template("{bar:24} {pos}/{len}  {msg}");
                self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            }
            Event::Step(s) => self.step(s),
            Event::End { .. } => self.bar.finish_and_clear(),
            _ => {}
        }
        lines(event).iter().for_each(|line| self.say(line));
        Ok(())
    }
}
