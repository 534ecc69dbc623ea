//! Each optimizer decreases the loss of a repeated batch.

use efficienttrain::data::Batch;
use efficienttrain::data::BatchImages;
use efficienttrain::training::TrainState;
use efficienttrain_models::ModelOptions;
use efficienttrain_schedule::{BatchRule, OptimizerKind, Plan, PlanOptions, Recipe};

const IMAGES: usize = 8;
const SIZE: usize = 32;

/// Random noise with one class per image.
fn batch() -> Batch {
    let values = IMAGES * SIZE * SIZE * 3;
    let pixels = (0..values).map(|i| ((i * i % 9973) as f32 / 9973.0 - 0.5) * 3.0).collect();
    let targets = (0..IMAGES * IMAGES).map(|i| f32::from(u8::from(i / IMAGES == i % IMAGES))).collect();
    Batch {
        images: BatchImages::Normalized(pixels),
        targets,
        labels: (0..IMAGES as u32).collect(),
        label_sets: Vec::new(),
        samples: Vec::new(),
        size: SIZE,
        channels: 3,
        bad: Vec::new(),
    }
}

fn losses(kind: OptimizerKind, lr: f64, weight_decay: f64) -> Vec<f64> {
    let mut recipe = Recipe::named("resnet18-baseline").unwrap();
    recipe.model = "resnet10".into();
    recipe.optimizer.kind = kind;
    recipe.ema_decay = None;
    let rule = BatchRule::Fixed { per_device: IMAGES as u32, accumulation: 1 };
    let plan = Plan::new(&recipe, PlanOptions::new(25.0, IMAGES as u64, 1).with_batch(rule)).unwrap();
    let options = ModelOptions { num_classes: IMAGES, input_size: [SIZE; 2], ..ModelOptions::default() };
    let mut state = TrainState::new(&options, &recipe, 3).unwrap();
    let batch = batch();
    (0..25)
        .map(|step| {
            let mut settings = plan.at(step).unwrap();
            (settings.lr, settings.weight_decay) = (lr, weight_decay);
            let mut step = state.begin_step().unwrap();
            step.accumulate(&batch, 1.0, 0.0, 0).unwrap();
            step.update(&settings, None).unwrap().loss
        })
        .collect()
}

#[test]
fn each_brings_the_loss_down() {
    let cases = [
        (OptimizerKind::AdamW, 2e-3, 0.05),
        (OptimizerKind::Lamb, 2e-2, 0.02),
        (OptimizerKind::Sgd, 0.05, 1e-4),
    ];
    let mut ends = Vec::new();
    for (kind, lr, weight_decay) in cases {
        let losses = losses(kind, lr, weight_decay);
        let (first, last) = (losses[0], losses[losses.len() - 1]);
        // With eight classes, guessing costs ln 8 = 2.08.
        assert!(first > 1.5 && last < 0.3 * first, "{kind:?}: {losses:?}");
        ends.push(last.to_bits());
    }
    ends.dedup();
    assert_eq!(ends.len(), 3, "two of them do the same");
}
