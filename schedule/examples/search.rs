//! Both searches, with a formula in place of training: `cargo run -p efficienttrain-schedule
//! --example search`
//!
//! A real evaluator loads a state, trains and measures; this one scores the sizes of the stages so
//! far.

use efficienttrain_schedule::Recipe;
use efficienttrain_schedule::search::{Evaluator, Report, Search, SearchOptions, Trial};
use std::error::Error;
use std::ops::ControlFlow;

/// Sizes below these lose accuracy; larger ones cost more without a benefit.
const ENOUGH: [u32; 5] = [96, 128, 160, 192, 224];

struct Formula;

impl Evaluator for Formula {
    fn evaluate(&mut self, trial: &Trial) -> ControlFlow<(), Report> {
        let trained = trial.id.stage.map_or(ENOUGH.len(), |stage| stage + 1);
        // A trial of the greedy search is a run to its end.
        let stages = if trial.fine_tune.is_some() { trained } else { ENOUGH.len() };
        let loss = |(stage, enough): (&efficienttrain_schedule::PlanStage, u32)| {
            let (missing, excess) = (enough.saturating_sub(stage.size), stage.size.saturating_sub(enough));
            // Within a fixed number of passes, a size that is too large only takes longer.
            f64::from(missing) / 1000.0
                + if trial.fine_tune.is_some() { f64::from(excess) / 4000.0 } else { 0.0 }
        };
        let lost: f64 = trial.plan.stages().iter().zip(ENOUGH).take(stages).map(loss).sum();
        let luck = (trial.seed * 7 % 5) as f64 * 1e-4;
        ControlFlow::Continue(Report::Accuracy(0.8 - lost + luck))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let recipe = Recipe::named("resnet50-baseline")?;
    for mut options in
        [SearchOptions::sequential(300.0, 1_281_167, 8), SearchOptions::greedy(300.0, 1_281_167, 8)]
    {
        options.seeds = vec![0, 1];
        if let Some(outcome) = Search::new(&recipe, options)?.run(&mut Formula)? {
            println!("{outcome}\n\n{}\n", outcome.plan()?.summary()?);
        }
    }
    Ok(())
}
