//! Activations in `bf16`: the same training as in single precision, up to rounding.

use crate::common::{floats, golden_weights, json, model_input, numbers};
use candle_core::{DType, Device, Tensor};
use efficienttrain_models::{
    Backbone, Context, Gradients, Mode, ModelOptions, ParamStore, Variable, create_model, ops,
};

/// One of each family.
const MODELS: [&str; 7] =
    ["resnet10", "deit_tiny", "swin_tiny", "convnext_tiny", "caformer_s18", "cswin_tiny", "pvt_tiny"];

/// One training pass: its loss and all gradients.
struct Pass {
    loss: f64,
    gradients: Gradients,
}

fn pass(
    model: &dyn Backbone,
    params: &ParamStore,
    x: &Tensor,
    targets: &Tensor,
    checkpoint: bool,
    dtype: DType,
) -> Pass {
    let mode = Mode::Train { seed: 3, drop_path: 0.1 };
    let mut cx = Context::new(params, mode).with_compute_type(dtype).with_checkpointing(checkpoint);
    let x = Variable::constant(x.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap());
    let logits = model.forward(&mut cx, &x).unwrap();
    assert_eq!(logits.tensor().dtype(), dtype);
    let loss = cx.record(&[&logits], ops::soft_cross_entropy(logits.tensor(), targets).unwrap());
    assert_eq!(loss.tensor().dtype(), DType::F32);
    let mut gradients = Gradients::new(params.len());
    let value = numbers(loss.tensor())[0];
    cx.backward(&loss, Tensor::new(1f32, &Device::Cpu).unwrap(), &mut gradients).unwrap();
    Pass { loss: value, gradients }
}

fn all(gradients: &Gradients) -> Vec<f64> {
    gradients.iter().flat_map(|(_, g)| numbers(g)).collect()
}

#[test]
fn gradients_point_the_way_of_single_precision() {
    for name in MODELS {
        let options = ModelOptions { num_classes: 10, input_size: [64; 2], ..ModelOptions::default() };
        let model = create_model(name, &options).unwrap();
        let x = model_input(5, 6, 64, 64);
        let targets = Tensor::eye(10, DType::F32, &Device::Cpu).unwrap().narrow(0, 0, 6).unwrap();
        let params = || ParamStore::init(model.specs(), 1, DType::F32, &Device::Cpu).unwrap();
        let single = pass(&*model, &params(), &x, &targets, false, DType::F32);
        let half = pass(&*model, &params(), &x, &targets, false, DType::BF16);
        half.gradients.check_complete(name, model.specs()).unwrap();
        assert!(half.gradients.iter().all(|(_, g)| g.dtype() == DType::F32), "{name}");
        assert!(
            (half.loss - single.loss).abs() < 0.01 * single.loss,
            "{name}: {} {}",
            half.loss,
            single.loss
        );
        let (g, h) = (all(&single.gradients), all(&half.gradients));
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let cosine = product(&g, &h) / (product(&g, &g) * product(&h, &h)).sqrt();
        // Eight binary places; batch statistics of a few small maps amplify what they round off.
        assert!(cosine > 0.98, "{name}: the cosine of the two gradients is {cosine}");
        let again = pass(&*model, &params(), &x, &targets, true, DType::BF16);
        assert!(all(&again.gradients) == h, "{name}: checkpointed blocks give other gradients");
    }
}

/// The reference's training in double precision, four AdamW steps on one batch at a high rate.
#[test]
fn four_adamw_steps_stay_near_the_reference() {
    for case in json("train_steps.json").as_array().unwrap() {
        let size = case["size"].as_u64().unwrap() as usize;
        let options = ModelOptions { num_classes: 1000, input_size: [size; 2], ..ModelOptions::default() };
        let model = create_model(case["model"].as_str().unwrap(), &options).unwrap();
        let params = golden_weights(model.name(), model.specs(), DType::F32);
        let x = model_input(case["input_seed"].as_u64().unwrap(), 2, size, size);
        let (lam, smoothing) = (0.7, 0.1);
        let labels: Vec<usize> = floats(&case["labels"]).into_iter().map(|l| l as usize).collect();
        let mut targets = vec![smoothing / 1000.0; 2000];
        for i in 0..2 {
            targets[i * 1000 + labels[i]] += lam * (1.0 - smoothing);
            targets[i * 1000 + labels[1 - i]] += (1.0 - lam) * (1.0 - smoothing);
        }
        let targets = Tensor::from_vec(targets, (2, 1000), &Device::Cpu).unwrap();
        let moments = || ParamStore::zeros(model.specs(), DType::F32, &Device::Cpu).unwrap();
        let (mean, square) = (moments(), moments());
        for (step, want) in floats(&case["loss_f64"]).into_iter().enumerate() {
            let mode = Mode::Train { seed: 0, drop_path: 0.0 };
            let mut cx = Context::new(&params, mode).with_compute_type(DType::BF16);
            let images = Variable::constant(x.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap());
            let logits = model.forward(&mut cx, &images).unwrap();
            let loss = cx.record(&[&logits], ops::soft_cross_entropy(logits.tensor(), &targets).unwrap());
            let got = numbers(loss.tensor())[0];
            println!("{} step {step}: {got}, in double precision {want}", model.name());
            assert!((got - want).abs() < 0.05 * want, "{} before step {step}: {got}, {want}", model.name());
            let mut gradients = Gradients::new(params.len());
            cx.backward(&loss, Tensor::new(1f32, &Device::Cpu).unwrap(), &mut gradients).unwrap();
            for (id, gradient) in gradients.iter() {
                let decay = model.specs()[id.index()].decay;
                let (lr, weight_decay) = (1e-4, if decay { 0.05 } else { 0.0 });
                let rule = ops::AdamW {
                    lr,
                    beta1: 0.9,
                    beta2: 0.999,
                    eps: 1e-8,
                    weight_decay,
                    step: step as u64 + 1,
                };
                ops::adamw_step(params.get(id), gradient, mean.get(id), square.get(id), &rule).unwrap();
            }
        }
    }
}
