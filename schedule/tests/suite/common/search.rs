//! A training that is pure arithmetic: a state is the list of the steps trained, an accuracy a
//! function of it.
#![allow(dead_code)]

use efficienttrain_schedule::search::{Evaluator, Report, SavedState, Search, SearchOptions, Trial};
use efficienttrain_schedule::{BatchRule, Recipe, StepSettings};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Training of one trial: the settings of every step since the start of the run, and its seed.
pub(crate) struct Trained {
    pub(crate) steps: Vec<StepSettings>,
    pub(crate) seed: u64,
    pub(crate) trial: Trial,
}

impl Trained {
    /// Size of each stage so far.
    pub(crate) fn sizes(&self) -> Vec<u32> {
        let mut sizes = Vec::new();
        for step in &self.steps {
            if step.stage == sizes.len() {
                sizes.push(step.size);
            }
        }
        sizes
    }
}

/// Keeps states like an evaluator with files, and checks the trials.
pub(crate) struct Synthetic<F> {
    pub(crate) accuracy: F,
    pub(crate) states: BTreeMap<SavedState, Vec<StepSettings>>,
    pub(crate) evaluated: usize,
    /// Stop before the trial of this number.
    pub(crate) stop_before: Option<usize>,
    /// Delete states that the search no longer needs.
    pub(crate) tidy: bool,
}

impl<F: FnMut(&Trained) -> Report> Synthetic<F> {
    pub(crate) fn new(accuracy: F) -> Self {
        Self { accuracy, states: BTreeMap::new(), evaluated: 0, stop_before: None, tidy: true }
    }
}

impl<F: FnMut(&Trained) -> Report> Evaluator for Synthetic<F> {
    fn evaluate(&mut self, trial: &Trial) -> ControlFlow<(), Report> {
        if self.stop_before == Some(self.evaluated) {
            return ControlFlow::Break(());
        }
        self.evaluated += 1;
        let mut steps = match &trial.start {
            None => Vec::new(),
            Some(state) => self.states.get(state).unwrap_or_else(|| panic!("{state:?} was not kept")).clone(),
        };
        assert_eq!(steps.len() as u64, trial.steps.start, "{} starts elsewhere", trial.id);
        assert_eq!(trial.start.map_or(0, |s| s.step), trial.steps.start);
        let mut kept = Vec::new();
        for step in trial.steps.clone() {
            steps.push(trial.plan.at(step).unwrap());
            if trial.keep.contains(&(step + 1)) {
                kept.push((SavedState { trial: trial.id, step: step + 1 }, steps.clone()));
            }
        }
        let report = (self.accuracy)(&Trained { steps, seed: trial.seed, trial: trial.clone() });
        if let Report::Accuracy(_) = report {
            self.states.extend(kept);
        }
        ControlFlow::Continue(report)
    }

    fn reported(&mut self, search: &Search) -> ControlFlow<()> {
        // A failed search has no needed states; the next call reports the failure.
        if let (true, Ok(needed)) = (self.tidy, search.needed_states()) {
            self.states.retain(|state, _| needed.contains(state));
        }
        ControlFlow::Continue(())
    }
}

/// A small run: 640 images, 32 per step.
pub(crate) fn small(mut options: SearchOptions) -> SearchOptions {
    options.plan.train_images = 640;
    options.plan = options.plan.with_batch(BatchRule::Fixed { per_device: 32, accumulation: 1 });
    options
}

/// Two thirds of 30 epochs over 640 images.
pub(crate) fn sequential() -> SearchOptions {
    small(SearchOptions::sequential(30.0, 640, 1))
}

/// 30 passes over 640 images.
pub(crate) fn greedy() -> SearchOptions {
    small(SearchOptions::greedy(30.0, 640, 1))
}

pub(crate) fn recipe() -> Recipe {
    Recipe::named("resnet18-etpp").unwrap()
}

/// Distance of each stage so far from the best sizes; 0.1 points per pixel.
pub(crate) fn distance(sizes: &[u32], best: &[u32]) -> f64 {
    sizes.iter().zip(best).map(|(&size, &best)| f64::from(size.abs_diff(best)) / 1000.0).sum()
}

/// Noise in -1..1 that depends on what was trained and with which seed, and on nothing else.
pub(crate) fn noise(trained: &Trained) -> f64 {
    let mut x = trained.seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for size in trained.sizes() {
        x = (x ^ u64::from(size)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x ^= x >> 31;
    }
    (x >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}
