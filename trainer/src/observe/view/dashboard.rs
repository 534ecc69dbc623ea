//! State of the view, collected from the events of a run.

use std::collections::VecDeque;

use crate::events::{Event, Start, StepRecord};
use crate::observe::progress::lines::lines;
use crate::observe::progress::time_left::TimeLeft;

/// Largest number of points of a curve; above, neighbors are merged.
const POINTS: usize = 512;
/// Number of messages to keep.
const MESSAGES: usize = 50;

/// State of the view of a run.
#[derive(Clone, Debug, Default)]
pub struct Dashboard {
    pub(crate) start: Option<Start>,
    pub(crate) last: Option<StepRecord>,
    pub(crate) left: TimeLeft,
    pub(crate) loss: Trace,
    /// Accuracy of the weights and of their average by the figure of the run, in percent, over percent of the compute.
    pub(crate) accuracy: Vec<(f64, f64)>,
    pub(crate) ema: Vec<(f64, f64)>,
    pub(crate) messages: VecDeque<String>,
    /// Smoothed images per second, fraction of the time spent waiting for images, and fraction of
    /// the loader's time spent on them.
    pub(crate) rate: f64,
    pub(crate) waiting: f64,
    pub(crate) load: f64,
}

impl Dashboard {
    /// Takes an event of the run.
    pub fn take(&mut self, event: &Event) {
        self.left.take(event);
        match event {
            Event::Start(start) => self.start = Some(start.clone()),
            Event::Step(step) => self.step(*step),
            Event::Eval(e) => {
                let whole = self.start.as_ref().map_or(0.0, |s| s.plan.equivalent_epochs);
                let at = 100.0 * e.equivalent_epochs / whole.max(f64::MIN_POSITIVE);
                self.accuracy.push((at, 100.0 * e.accuracy()));
                self.ema.extend(e.ema_accuracy().map(|accuracy| (at, 100.0 * accuracy)));
            }
            _ => {}
        }
        self.messages.extend(lines(event));
        self.messages.drain(..self.messages.len().saturating_sub(MESSAGES));
    }

    /// Returns the best accuracy so far, of weights or average, in percent.
    pub fn best(&self) -> Option<f64> {
        self.accuracy.iter().chain(&self.ema).map(|point| point.1).reduce(f64::max)
    }

    fn step(&mut self, s: StepRecord) {
        let seconds = s.seconds.max(1e-9);
        let newest = if self.last.is_none() { 1.0 } else { 0.05 };
        for (smooth, now) in [
            (&mut self.rate, s.images as f64 / seconds),
            (&mut self.waiting, s.data_seconds / seconds),
            (&mut self.load, s.loader_load),
        ] {
            *smooth += newest * (now - *smooth);
        }
        self.loss.push(100.0 * s.compute, s.loss);
        self.last = Some(s);
    }
}

/// Curve with a limited number of points, each the mean of the same number of values.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    pub(crate) points: Vec<(f64, f64)>,
    /// Values per point.
    each: usize,
    /// Sum and number of the values of the next point.
    sum: (f64, usize),
}

impl Default for Trace {
    fn default() -> Self {
        Self { points: Vec::new(), each: 1, sum: (0.0, 0) }
    }
}

impl Trace {
    fn push(&mut self, x: f64, y: f64) {
        self.sum = (self.sum.0 + y, self.sum.1 + 1);
        if self.sum.1 < self.each {
            return;
        }
        self.points.push((x, self.sum.0 / self.each as f64));
        self.sum = (0.0, 0);
        if self.points.len() == POINTS {
            let pair = |pair: &[(f64, f64)]| (pair[1].0, f64::midpoint(pair[0].1, pair[1].1));
            self.points = self.points.chunks_exact(2).map(pair).collect();
            self.each *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_is_put_together_without_loss() {
        let mut trace = Trace::default();
        for i in 0..10_000 {
            trace.push(f64::from(i), f64::from(i % 100));
        }
        assert!(trace.points.len() < POINTS && trace.points.len() >= POINTS / 4);
        assert!(trace.points.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let mean = trace.points.iter().map(|p| p.1).sum::<f64>() / trace.points.len() as f64;
        assert!((mean - 49.5).abs() < 1.0, "{mean}");
    }
}
