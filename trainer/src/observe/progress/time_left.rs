//! Estimates the remaining time of a stage and a run from the time taken so far.

use crate::events::{Event, Start, StepRecord};

/// Estimates the time left.
///
/// The remaining steps of a stage are expected to take as long as its recent steps, and later
/// stages to take their share of the compute at the recent pace. Time between steps (evaluations,
/// checkpoints) is spread over the compute.
#[derive(Clone, Debug, Default)]
pub struct TimeLeft {
    /// Steps and compute done at the end of each stage.
    ends: Vec<(u64, f64)>,
    stage: usize,
    /// Smoothed duration of a step of this stage, in seconds.
    step_seconds: Option<f64>,
    /// Smoothed time for the compute of the whole run, steps only, in seconds.
    pace: Option<f64>,
    /// Wall time and compute at the first observed step.
    first: Option<(f64, f64)>,
    /// Total duration of all steps since, in seconds.
    in_steps: f64,
    elapsed: f64,
    done: u64,
    compute: f64,
}

/// Weight of the newest step.
const NEWEST: f64 = 0.05;

impl TimeLeft {
    /// Takes an event of the run.
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::Start(start) => *self = Self::of(start),
            Event::Step(step) => self.step(step),
            Event::Eval(eval) => self.elapsed = eval.seconds,
            _ => {}
        }
    }

    fn of(start: &Start) -> Self {
        let mut compute = 0.0;
        let mut ends = Vec::new();
        for (stage, steps) in start.plan.stages.iter().zip(start.stage_steps()) {
            compute += stage.share;
            ends.push((steps.end, compute));
        }
        Self { ends, ..Self::default() }
    }

    fn step(&mut self, s: &StepRecord) {
        if s.stage != self.stage {
            (self.stage, self.step_seconds) = (s.stage, None);
        }
        smooth(&mut self.step_seconds, s.seconds);
        if self.first.is_none() {
            self.first = Some((s.elapsed, s.compute));
        } else {
            self.in_steps += s.seconds;
            if s.compute > self.compute {
                smooth(&mut self.pace, s.seconds / (s.compute - self.compute));
            }
        }
        (self.done, self.compute, self.elapsed) = (s.step + 1, s.compute, s.elapsed);
    }

    /// Returns the remaining time of the current stage, in seconds; none before its first step.
    pub fn stage(&self) -> Option<f64> {
        let (steps, compute) = *self.ends.get(self.stage)?;
        let left = steps.saturating_sub(self.done) as f64 * self.step_seconds?;
        Some(left + self.between() * (compute - self.compute).max(0.0))
    }

    /// Returns the remaining time of the run, in seconds; none before its second step.
    pub fn run(&self) -> Option<f64> {
        let (_, compute) = *self.ends.get(self.stage)?;
        Some(self.stage()? + (self.pace? + self.between()) * (1.0 - compute).max(0.0))
    }

    /// Returns the time between steps for the compute of the whole run, in seconds.
    fn between(&self) -> f64 {
        let Some((elapsed, compute)) = self.first else { return 0.0 };
        let between = self.elapsed - elapsed - self.in_steps;
        if self.compute > compute { (between / (self.compute - compute)).max(0.0) } else { 0.0 }
    }
}

fn smooth(old: &mut Option<f64>, new: f64) {
    *old = Some(old.map_or(new, |old| (1.0 - NEWEST) * old + NEWEST * new));
}

#[cfg(test)]
mod tests {
    use efficienttrain_schedule::{Plan, PlanOptions, Recipe};

    use super::*;
    use crate::data::source::notes::SplitNotes;
    use crate::events::history::EvalRecord;

    /// A run whose step durations are proportional to their compute, with an evaluation after each
    /// tenth of it.
    struct SimulatedRun {
        plan: Plan,
        left: TimeLeft,
        elapsed: f64,
    }

    const RUN: f64 = 3000.0;
    const EVALUATION: f64 = 20.0;

    impl SimulatedRun {
        fn new() -> Self {
            let plan =
                Plan::new(&Recipe::named("resnet50-etpp").unwrap(), PlanOptions::new(5.0, 1_000_000, 1))
                    .unwrap();
            let start = Start {
                model: String::new(),
                recipe: String::new(),
                parameters: 0,
                frozen: 0,
                init: None,
                train_images: 1_000_000,
                val_images: 0,
                classes: 0,
                multi_label: false,
                train_notes: SplitNotes::default(),
                val_notes: SplitNotes::default(),
                first_step: 0,
                plan_offset: 0,
                notes: Vec::new(),
                warnings: Vec::new(),
                refill_images: 0,
                plan: plan.summary().unwrap(),
            };
            let mut left = TimeLeft::default();
            left.take(&Event::Start(start));
            Self { plan, left, elapsed: 0.0 }
        }

        fn compute(&self, step: u64) -> f64 {
            if step == self.plan.total_steps() { 1.0 } else { self.plan.at(step).unwrap().compute_fraction }
        }

        fn step(&mut self, step: u64) {
            let (before, compute) = (self.compute(step), self.compute(step + 1));
            let seconds = RUN * (compute - before);
            self.elapsed += seconds;
            let stage = self.plan.at(step).unwrap().stage;
            self.left.take(&Event::Step(StepRecord {
                step,
                stage,
                size: 1,
                magnitude: 0.0,
                lr: 0.0,
                loss: 0.0,
                grad_norm: 0.0,
                images: 1,
                fresh_images: 1,
                seconds,
                data_seconds: 0.0,
                loader_load: 0.0,
                epoch: 0.0,
                compute,
                elapsed: self.elapsed,
            }));
            if (10.0 * compute).floor() > (10.0 * before).floor() {
                self.elapsed += EVALUATION;
                self.left.take(&Event::Eval(EvalRecord { seconds: self.elapsed, ..no_eval() }));
            }
        }
    }

    fn no_eval() -> EvalRecord {
        EvalRecord {
            step: 0,
            epoch: 0.0,
            equivalent_epochs: 0.0,
            seconds: 0.0,
            top1: 0.0,
            top5: 0.0,
            loss: 0.0,
            ema_top1: None,
            multi_label: None,
        }
    }

    #[test]
    fn a_steady_run_is_foreseen() {
        let mut run = SimulatedRun::new();
        let total = run.plan.total_steps();
        let whole = RUN + 10.0 * EVALUATION;
        assert_eq!(run.left.run(), None);
        for step in 0..total {
            run.step(step);
            let compute = run.compute(step + 1);
            if compute > 0.3 {
                let (expected, got) = (whole - run.elapsed, run.left.run().unwrap());
                // With n = floor(10 c) evaluations at compute c, (1 - c) n / c are expected and 10
                // - n remain: they differ by at most 1 / c.
                let apart = EVALUATION / compute + 1.0;
                assert!((got - expected).abs() < apart, "at {compute:.3}: {got} for {expected}");
            }
        }
        assert!(run.left.run().unwrap() < 1.0 && run.left.stage().unwrap() < 1.0);
    }

    #[test]
    fn the_stage_ends_before_the_run() {
        let mut run = SimulatedRun::new();
        let stage = run.plan.stages()[0].steps;
        for step in 0..stage - 1 {
            run.step(step);
        }
        assert!(run.left.stage().unwrap() < 0.02 * run.left.run().unwrap());
        run.step(stage - 1);
        assert!(run.left.stage().unwrap() < 1e-6);
        run.step(stage);
        assert!(run.left.stage().unwrap() > 100.0);
    }
}
