//! Updates of all weights after a step: the norm of the gradients, the optimizer, and the moving
//! average, over the parameters of ResNet-18 and DeiT-S.
//!
//! The time does not depend on the size of the images, so it counts most where images are small.

use candle_core::{DType, Device, Tensor};
use criterion::{Criterion, criterion_group, criterion_main};
use efficienttrain_models::ops::{self, AdamW, Average, Lamb, NormLimits, Sgd, Stepped};
use efficienttrain_models::{ModelOptions, ParamKind, ParamStore, Result, create_model};

/// Weights, gradients, two moments and the average of a model.
struct State {
    weights: Vec<Tensor>,
    gradients: Vec<Tensor>,
    moments: [Vec<Tensor>; 2],
    average: Vec<Tensor>,
}

impl State {
    fn new(model: &str) -> Result<Self> {
        let model = create_model(model, &ModelOptions::default())?;
        let params = ParamStore::init(model.specs(), 0, DType::F32, &Device::Cpu)?;
        let trained = model.specs().iter().zip(params.iter());
        let weights: Vec<Tensor> = trained
            .filter(|(spec, _)| spec.kind == ParamKind::Parameter)
            .map(|(_, (_, tensor))| tensor.clone())
            .collect();
        let filled = |value: f64| -> Result<Vec<Tensor>> {
            weights.iter().map(|w| Ok(w.zeros_like()?.affine(1.0, value)?)).collect()
        };
        let (gradients, moments) = (filled(1e-4)?, [filled(1e-4)?, filled(1e-6)?]);
        let average = filled(0.0)?;
        Ok(Self { weights, gradients, moments, average })
    }

    fn stepped(&self, averaged: bool) -> Vec<Stepped<'_>> {
        let [first, second] = &self.moments;
        let one = |i: usize| Stepped {
            param: &self.weights[i],
            grad: &self.gradients[i],
            kept: [&first[i], &second[i]],
            lr: 1e-4,
            weight_decay: 0.05,
            average: averaged.then(|| Average { tensor: &self.average[i], decay: 0.9999 }),
        };
        (0..self.weights.len()).map(one).collect()
    }
}

fn updates(c: &mut Criterion, model: &str) -> Result<()> {
    let state = State::new(model)?;
    let (lr, beta1, beta2, eps, weight_decay, step) = (1e-4, 0.9, 0.999, 1e-8, 0.05, 10);
    let adamw = AdamW { lr, beta1, beta2, eps, weight_decay, step };
    let lamb = Lamb { lr, beta1, beta2, eps, weight_decay, step, always_adapt: false, trust_clip: false };
    let sgd = Sgd { lr, momentum: 0.9, nesterov: true, weight_decay, step };
    let (tensors, averaged) = (state.stepped(false), state.stepped(true));
    let gradients: Vec<&Tensor> = state.gradients.iter().collect();
    let pairs: Vec<_> = state.average.iter().zip(&state.weights).collect();
    let limits = NormLimits { clip: Some(5.0), optimizer: None };
    let clip = ops::clip_factor(&gradients, None, 1.0, limits)?;
    let mut group = c.benchmark_group(format!("update of {model}"));
    group.bench_function("norm", |b| b.iter(|| ops::clip_factor(&gradients, None, 1.0, limits)));
    group.bench_function("adamw", |b| b.iter(|| ops::adamw_all(&tensors, &adamw, Some(&clip))));
    group.bench_function("lamb", |b| b.iter(|| ops::lamb_all(&tensors, &lamb, Some(&clip))));
    group.bench_function("sgd", |b| b.iter(|| ops::sgd_all(&tensors, &sgd, Some(&clip))));
    group.bench_function("adamw with average", |b| {
        b.iter(|| ops::adamw_all(&averaged, &adamw, Some(&clip)));
    });
    group.bench_function("average", |b| b.iter(|| ops::blend_all(&pairs, 0.9999, None)));
    group.finish();
    Ok(())
}

fn optimizers(c: &mut Criterion) {
    for model in ["resnet18", "deit_small"] {
        updates(c, model).expect("a model of the registry");
    }
}

criterion_group! {
    name = benches;
    config = efficienttrain_bench::criterion();
    targets = optimizers
}
criterion_main!(benches);
