//! What a curriculum costs beside training: its plan, its steps one after the other, and a search
//! whose trials take no time.

use std::hint::black_box;
use std::ops::ControlFlow;

use criterion::{Criterion, criterion_group, criterion_main};
use efficienttrain_schedule::search::{Evaluator, Report, Search, SearchOptions, Trial};
use efficienttrain_schedule::{Plan, PlanOptions, Recipe};

const IMAGES: u64 = 1_281_167;

struct Instant;

impl Evaluator for Instant {
    fn evaluate(&mut self, trial: &Trial) -> ControlFlow<(), Report> {
        let sizes: u32 = trial.plan.stages().iter().map(|stage| stage.size).sum();
        ControlFlow::Continue(Report::Accuracy(f64::from(sizes % 97) / 97.0))
    }
}

fn planning(c: &mut Criterion) {
    let recipe = Recipe::named("resnet50-etpp").expect("a recipe of the catalog");
    let plan = || Plan::new(&recipe, PlanOptions::new(300.0, IMAGES, 8));
    c.bench_function("plan of 300 epochs", |b| b.iter(plan));
    let whole = plan().expect("a valid plan");
    let steps = whole.total_steps();
    c.bench_function("settings of 1000 steps", |b| {
        b.iter(|| (0..1000).map(|i| whole.at(i * steps / 1000)).for_each(|step| drop(black_box(step))));
    });
    let plain = Recipe::named("resnet50-baseline").expect("a recipe of the catalog");
    c.bench_function("search without training", |b| {
        b.iter(|| Search::new(&plain, SearchOptions::sequential(300.0, IMAGES, 8))?.run(&mut Instant));
    });
}

criterion_group! {
    name = benches;
    config = efficienttrain_bench::criterion();
    targets = planning
}
criterion_main!(benches);
