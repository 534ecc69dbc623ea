//! Parts of training against the reference: resampled embeddings, stochastic depth, AdamW,
//! clipping, averages, losses.

use crate::common::{
    assert_close, floats, fnv1a64, hash_uniform, json, max_difference, numbers, tensors, weight_fill,
};
use candle_core::{DType, Device, Tensor};
use efficienttrain_models::{
    Gradients, ModelOptions, ParamStore, Resample, create_model, drop_path_rates, ops,
};
use serde_json::Value;

#[test]
fn position_embeddings_and_moments_are_resampled_as_the_reference_does() {
    let golden = tensors("interp.safetensors");
    for case in json("interp.json").as_array().unwrap() {
        let swin = case["kind"] == "swin";
        let name = if swin { "swin_tiny" } else { "deit_tiny" };
        let size = |key: &str| [case[key].as_u64().unwrap() as usize; 2];
        let input_size = size("old_size");
        let model = create_model(name, &ModelOptions { input_size, ..ModelOptions::default() }).unwrap();
        let (_, changes) = model.at_size(size("new_size")).unwrap();
        let change = changes.first().cloned().unwrap_or_else(|| {
            assert_eq!(case["old_size"], case["new_size"]);
            let id = model.param_groups()[0].params[0];
            Resample { id, prefix: 1, from: size("old_grid"), to: size("new_grid") }
        });
        let grid = |part: &str| size(&format!("{part}_{}", if swin { "table" } else { "grid" }));
        assert_eq!((change.from, change.to), (grid("old"), grid("new")));
        let prefix = format!("{}/", case["key"].as_str().unwrap());
        let mut seen = 0;
        for (key, input) in golden.iter().filter(|(k, _)| k.starts_with(&prefix) && k.ends_with("/input")) {
            let want = numbers(&golden[&key.replace("/input", "/output")]);
            let off = max_difference(&numbers(&change.apply(input).unwrap()), &want);
            assert!(off < 3e-6, "{key}: off by {off}");
            seen += 1;
        }
        assert_eq!(seen, if swin { 6 } else { 4 }, "{prefix}: weights and two moments, average or two heads");
    }
}

#[test]
fn relative_positions_are_indexed_as_the_reference_does() {
    let golden = tensors("swin_tables.safetensors");
    for size in [96, 160] {
        let want = numbers(&golden[&format!("{size}/relative_position_index")]);
        let got = ops::relative_position_index([size / 32; 2]);
        assert_eq!(got.into_iter().map(|i| i as f64).collect::<Vec<_>>(), want, "{size}");
    }
}

#[test]
fn stochastic_depth_of_every_block_is_the_reference_s() {
    let cases = json("drop_path.json");
    assert!(!cases.as_array().unwrap().is_empty());
    for case in cases.as_array().unwrap() {
        let depth = case["depth"].as_u64().unwrap() as usize;
        let got = drop_path_rates(case["rate"].as_f64().unwrap(), depth);
        let want: Vec<f32> = floats(&case["per_block"]).into_iter().map(|r| r as f32).collect();
        // NaN is off by more than anything.
        let larger = |most: f32, off: f32| if off.is_nan() { f32::INFINITY } else { most.max(off) };
        let off = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, larger);
        assert!(got.len() == want.len() && off <= 3e-8, "{}: {got:?} against {want:?}", case["model"]);
    }
}

/// Gradient of step `t`, single precision as in the reference.
fn gradient(name: &str, shape: &[usize], scale: f64, t: u64, dtype: DType) -> Tensor {
    let seed = fnv1a64(name) ^ (4100 + t);
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count as u64).map(|i| (scale * hash_uniform(seed, i)) as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn parameters(golden: &Value) -> Vec<(String, Vec<usize>, bool)> {
    let param = |p: &Value| {
        let shape = floats(&p["shape"]).into_iter().map(|d| d as usize).collect();
        (p["name"].as_str().unwrap().to_string(), shape, p["weight_decay_applied"].as_bool().unwrap())
    };
    golden["params"].as_array().unwrap().iter().map(param).collect()
}

/// The factor that clipping to `limit` multiplies gradients with, as the trainer does.
fn clip_factor(gradients: &[Tensor], limit: Option<f64>) -> f64 {
    let square: f64 = gradients.iter().map(|g| ops::squared_norm(g).unwrap()).sum();
    limit.map_or(1.0, |limit| (limit / (square.sqrt() + 1e-6)).min(1.0))
}

/// One parameter with what its optimizer keeps.
struct State {
    value: Tensor,
    first: Tensor,
    second: Tensor,
}

/// One step of the case's optimizer on one parameter.
fn optimize(case: &Value, t: u64, decay: bool, grad: &Tensor, state: &State) {
    let number = |key: &str| case[key].as_f64().unwrap();
    let per_step = |list: &str, one: &str| case[list].get(t as usize).unwrap_or(&case[one]).as_f64().unwrap();
    let lr = per_step("lr_per_step", "lr");
    let weight_decay = if decay { per_step("weight_decay_per_step", "weight_decay") } else { 0.0 };
    let betas = || (case["betas"][0].as_f64().unwrap(), case["betas"][1].as_f64().unwrap());
    let is = |key: &str| case[key].as_bool().unwrap_or(false);
    let State { value, first, second } = state;
    match case["opt"].as_str().unwrap() {
        "adamw" => {
            let (beta1, beta2) = betas();
            let step = ops::AdamW { lr, beta1, beta2, eps: number("eps"), weight_decay, step: t + 1 };
            ops::adamw_step(value, grad, first, second, &step).unwrap();
        }
        "lamb" => {
            let ((beta1, beta2), step) = (betas(), t + 1);
            let (always_adapt, trust_clip) = (is("always_adapt"), is("trust_clip"));
            let eps = number("eps");
            let step = ops::Lamb { lr, beta1, beta2, eps, weight_decay, step, always_adapt, trust_clip };
            ops::lamb_step(value, grad, first, second, &step).unwrap();
        }
        "sgd" => {
            let (momentum, nesterov) = (number("momentum"), is("nesterov"));
            let step = ops::Sgd { lr, momentum, nesterov, weight_decay, step: t + 1 };
            ops::sgd_step(value, grad, first, &step).unwrap();
        }
        other => panic!("no such optimizer here: {other}"),
    }
}

/// Operation of the case on all gradients together before the step.
fn scale_all(case: &Value, grads: &[Tensor]) {
    let square: f64 = grads.iter().map(|g| ops::squared_norm(g).unwrap()).sum();
    let factor = match case["opt"].as_str() {
        // LAMB in timm: never longer than 1.
        Some("lamb") => 1.0 / square.sqrt().max(1.0),
        _ => clip_factor(grads, case["clip_grad"].as_f64()),
    };
    grads.iter().for_each(|grad| ops::scale_by(grad, factor).unwrap());
}

#[test]
fn optimizers_follow_the_reference_for_five_steps() {
    let (golden, values) = (json("optim.json"), tensors("optim.safetensors"));
    let mut seen = std::collections::BTreeSet::new();
    for case in golden["cases"].as_array().unwrap() {
        seen.insert(case["opt"].as_str().unwrap());
        for (dtype, kind, tolerance) in [(DType::F32, "f32", 3e-6), (DType::F64, "f64", 1e-8)] {
            let key = format!("{}/{kind}", case["key"].as_str().unwrap());
            let params = parameters(&golden);
            let zeros = |shape: &[usize]| Tensor::zeros(shape, dtype, &Device::Cpu).unwrap();
            let state = |(name, shape, _): &(String, Vec<usize>, bool)| State {
                value: values[&format!("init/{name}")].to_dtype(dtype).unwrap().copy().unwrap(),
                first: zeros(shape),
                second: zeros(shape),
            };
            let states: Vec<State> = params.iter().map(state).collect();
            for t in 0..5u64 {
                let scale = case["grad_scale"].as_f64().unwrap();
                let grads: Vec<Tensor> =
                    params.iter().map(|(n, s, _)| gradient(n, s, scale, t, dtype)).collect();
                scale_all(case, &grads);
                for (((name, _, decay), grad), state) in params.iter().zip(&grads).zip(&states) {
                    optimize(case, t, *decay, grad, state);
                    let want = numbers(&values[&format!("{key}/step{}/{name}", t + 1)]);
                    let off = max_difference(&numbers(&state.value), &want);
                    assert!(off < tolerance, "{key}: {name} after step {}: off by {off}", t + 1);
                }
            }
            let mut moments = 0;
            for ((name, ..), state) in params.iter().zip(&states) {
                let kept = [
                    ("exp_avg", &state.first),
                    ("exp_avg_sq", &state.second),
                    ("momentum_buffer", &state.first),
                ];
                for (moment, got) in kept {
                    let Some(want) = values.get(&format!("{key}/state/{name}/{moment}")) else { continue };
                    assert!(
                        max_difference(&numbers(got), &numbers(want)) < tolerance,
                        "{key}: {moment} of {name}"
                    );
                    moments += 1;
                }
            }
            assert!(moments >= 5, "{key}: the state was not compared");
        }
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["adamw", "lamb", "sgd"]);
}

#[test]
fn a_first_step_of_gradient_descent_does_not_read_the_buffer() {
    let tensor = |v: f64| Tensor::new(&[v], &Device::Cpu).unwrap();
    let (param, buffer) = (tensor(1.0), tensor(f64::NAN));
    let sgd = ops::Sgd { lr: 0.1, momentum: 0.9, nesterov: false, weight_decay: 0.0, step: 1 };
    ops::sgd_step(&param, &tensor(2.0), &buffer, &sgd).unwrap();
    assert_eq!((numbers(&param), numbers(&buffer)), (vec![0.8], vec![2.0]));
}

#[test]
fn clipping_by_the_norm_of_all_gradients_is_the_reference_s() {
    let (golden, values) = (json("optim.json"), tensors("optim.safetensors"));
    for case in golden["clip_grad_norm"].as_array().unwrap() {
        let t = case["grad_step_index"].as_u64().unwrap();
        let scale = case["grad_scale"].as_f64().unwrap();
        let params = parameters(&golden);
        let grads: Vec<Tensor> =
            params.iter().map(|(n, s, _)| gradient(n, s, scale, t, DType::F32)).collect();
        let square: f64 = grads.iter().map(|g| ops::squared_norm(g).unwrap()).sum();
        assert_close("norm", square.sqrt(), case["total_norm"].as_f64().unwrap(), 1e-6, 0.0);
        let factor = clip_factor(&grads, case["max_norm"].as_f64());
        for ((name, ..), grad) in params.iter().zip(&grads) {
            ops::scale_by(grad, factor).unwrap();
            let want = numbers(&values[&format!("{}/{name}", case["key"].as_str().unwrap())]);
            assert!(max_difference(&numbers(grad), &want) < 3e-6, "{name}");
        }
    }
}

#[test]
fn moving_averages_are_the_reference_s() {
    let (golden, values) = (json("optim.json"), tensors("optim.safetensors"));
    for case in golden["ema"].as_array().unwrap() {
        let key = case["key"].as_str().unwrap();
        let names = ["bn.bias", "bn.running_mean", "bn.running_var", "bn.weight", "fc.bias", "fc.weight"];
        for name in names {
            let shape = values[&format!("{key}/step1/{name}")].dims().to_vec();
            let fill = |salt: u64| {
                Tensor::from_vec(weight_fill(name, &shape, salt), shape.as_slice(), &Device::Cpu).unwrap()
            };
            let average = fill(case["init_salt"].as_u64().unwrap());
            for (t, salt) in floats(&case["step_salts"]).into_iter().enumerate() {
                ops::blend(&average, &fill(salt as u64), case["decay"].as_f64().unwrap()).unwrap();
                let want = numbers(&values[&format!("{key}/step{}/{name}", t + 1)]);
                let off = max_difference(&numbers(&average), &want);
                assert!(off < 3e-6, "{key}: {name} at step {}: off by {off}", t + 1);
            }
        }
    }
}

#[test]
fn losses_and_their_gradients_are_the_reference_s() {
    let (golden, values) = (json("optim.json"), tensors("optim.safetensors"));
    let logits = values["loss/logits"].to_dtype(DType::F64).unwrap();
    let labels = numbers(&values["loss/labels"]);
    let (n, classes) = logits.dims2().unwrap();
    let smoothed = |s: f64| {
        let mut t = vec![s / classes as f64; n * classes];
        labels.iter().enumerate().for_each(|(i, &l)| t[i * classes + l as usize] += 1.0 - s);
        Tensor::from_vec(t, (n, classes), &Device::Cpu).unwrap()
    };
    let soft = values["loss/soft_targets"].to_dtype(DType::F64).unwrap();
    for (key, targets) in [("ce", smoothed(0.0)), ("label_smoothing_0.1", smoothed(0.1)), ("soft_ce", soft)] {
        let traced = ops::soft_cross_entropy(&logits, &targets).unwrap();
        assert_close(key, numbers(&traced.value)[0], golden["losses_f64"][key].as_f64().unwrap(), 1e-8, 0.0);
        let one = Tensor::new(1f64, &Device::Cpu).unwrap();
        let grad = (traced.pullback)(&one, &[true, false]).unwrap().swap_remove(0).unwrap();
        let off = max_difference(&numbers(&grad), &numbers(&values[&format!("loss/grad_{key}")]));
        assert!(off < 1e-8, "gradient of {key}: off by {off}");
    }
}

#[test]
fn a_missing_gradient_is_named() {
    let model = create_model(
        "resnet10",
        &ModelOptions { num_classes: 3, input_size: [32, 32], ..ModelOptions::default() },
    )
    .unwrap();
    let params = ParamStore::init(model.specs(), 0, DType::F32, &Device::Cpu).unwrap();
    let none = Gradients::new(params.len());
    let message = none.check_complete("resnet10", model.specs()).unwrap_err().to_string();
    assert!(message.contains("layer4.0.conv2.weight") && !message.contains("running_mean"), "{message}");
}
