//! Batch norms with frozen running statistics: training normalizes by them, and so do the
//! gradients.

use std::sync::Arc;

use crate::common::gradients::{dot, filled};
use crate::common::numbers;
use candle_core::{DType, Device, Tensor};
use efficienttrain_models::{
    Backbone, Context, Gradients, Mode, ModelOptions, ParamStore, Variable, create_model,
};

const TRAIN: Mode = Mode::Train { seed: 3, drop_path: 0.0 };

/// A small network in double precision whose running statistics are those of no batch.
fn network() -> (Box<dyn Backbone>, ParamStore) {
    let model = create_model(
        "resnet10",
        &ModelOptions { num_classes: 3, input_size: [32; 2], ..ModelOptions::default() },
    )
    .unwrap();
    let mut params = ParamStore::init(model.specs(), 1, DType::F64, &Device::Cpu).unwrap();
    for (spec, id) in model.specs().iter().zip(params.ids()) {
        let noise = filled(&spec.name, &spec.shape);
        let spread = |scale: f64, shift: f64| noise.affine(scale, shift).unwrap();
        match spec.name.rsplit_once('.').map(|(layer, part)| (layer.contains("bn"), part)) {
            Some((_, "running_mean")) => params.set(id, spread(0.3, 0.1)),
            Some((_, "running_var")) => params.set(id, spread(0.4, 0.7)),
            // The last norm of a block starts at 0, behind which nothing has a gradient.
            Some((true, "weight")) => params.set(id, spread(0.2, 1.0)),
            _ => {}
        }
    }
    (model, params)
}

fn images() -> Variable {
    Variable::constant(filled("pictures", &[2, 32, 32, 3]))
}

/// Which parameters and buffers have such names.
fn frozen(model: &dyn Backbone, matches: impl Fn(&str) -> bool) -> Arc<[bool]> {
    model.specs().iter().map(|spec| matches(&spec.name)).collect()
}

fn logits(model: &dyn Backbone, cx: &mut Context) -> Vec<f64> {
    numbers(model.forward(cx, &images()).unwrap().tensor())
}

fn is_running(name: &str) -> bool {
    name.contains("running") || name.ends_with("num_batches_tracked")
}

#[test]
fn training_with_frozen_statistics_is_evaluation() {
    let (model, params) = network();
    let evaluated = logits(&*model, &mut Context::new(&params, Mode::Eval));
    let before: Vec<Vec<f64>> = params.iter().map(|(_, t)| numbers(t)).collect();
    for checkpoint in [false, true] {
        let mut cx = Context::new(&params, TRAIN)
            .with_frozen(frozen(&*model, is_running))
            .with_checkpointing(checkpoint);
        assert_eq!(logits(&*model, &mut cx), evaluated);
    }
    let after: Vec<Vec<f64>> = params.iter().map(|(_, t)| numbers(t)).collect();
    assert_eq!(before, after, "frozen statistics moved");
}

/// Against central differences of the network in evaluation.
#[test]
fn gradients_through_frozen_statistics_are_those_of_the_evaluated_network() {
    let (model, params) = network();
    let cotangent = filled("cotangent", &[2, 3]);
    let value = || {
        let mut cx = Context::new(&params, Mode::Eval);
        dot(model.forward(&mut cx, &images()).unwrap().tensor(), &cotangent)
    };
    let gradients = |checkpoint| {
        let mut cx = Context::new(&params, TRAIN)
            .with_frozen(frozen(&*model, is_running))
            .with_checkpointing(checkpoint);
        let output = model.forward(&mut cx, &images()).unwrap();
        let mut gradients = Gradients::new(params.len());
        cx.backward(&output, cotangent.clone(), &mut gradients).unwrap();
        gradients
    };
    let (mut plain, mut checkpointed) = (gradients(false), gradients(true));
    const STEP: f64 = 1e-6;
    for name in ["conv1.weight", "bn1.weight", "bn1.bias", "layer2.0.conv1.weight", "layer4.0.bn2.weight"] {
        let id = params.ids().find(|id| model.specs()[id.index()].name == name).unwrap();
        let gradient = numbers(&plain.take(id).unwrap());
        assert_eq!(gradient, numbers(&checkpointed.take(id).unwrap()), "{name}: checkpointing changes it");
        let tensor = params.get(id);
        let first = numbers(tensor);
        for at in (0..first.len()).step_by((first.len() / 5).max(1)) {
            let moved = |by: f64| {
                let mut values = first.clone();
                values[at] += by;
                let values = Tensor::from_vec(values, tensor.dims(), &Device::Cpu).unwrap();
                tensor.slice_set(&values, 0, 0).unwrap();
                value()
            };
            let slope = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            moved(0.0);
            let off = (slope - gradient[at]).abs();
            assert!(off < 1e-5 * (1.0 + slope.abs()), "{name}[{at}]: {} by hand, {slope}", gradient[at]);
        }
    }
}

/// Either of mean and variance stands for both; weights alone, or another layer's statistics, do
/// not.
#[test]
fn statistics_go_on_where_only_weights_are_frozen() {
    let (model, params) = network();
    let mean = || numbers(params.by_name("bn1.running_mean").unwrap());
    for (matches, holds) in [
        ((|name| name == "bn1.weight" || name == "bn1.bias") as fn(&str) -> bool, false),
        (|name| name.starts_with("layer1."), false),
        (|name| name == "bn1.running_mean", true),
        (|name| name == "bn1.running_var", true),
        (|name| name.starts_with("bn1."), true),
    ] {
        let before = mean();
        let mut cx = Context::new(&params, TRAIN).with_frozen(frozen(&*model, matches));
        model.forward(&mut cx, &images()).unwrap();
        assert_eq!(mean() == before, holds);
    }
}
