//! Whole models against the reference: names, logits, losses, gradients, running statistics,
//! training steps.

mod common;

use candle_core::{DType, Device, Tensor};
use common::{
    assert_close, devices, floats, golden_weights, json, max_difference, model_input, numbers, tensors,
};
use efficienttrain_models::{
    Backbone, Context, Gradients, Mode, ModelOptions, ParamKind, ParamStore, Variable, cost, create_model,
    ops, predict,
};
use serde_json::Value;

const TRAIN: Mode = Mode::Train { seed: 0, drop_path: 0.0 };

fn model(case: &Value) -> Box<dyn Backbone> {
    let size = case["size"].as_u64().unwrap() as usize;
    create_model(
        case["model"].as_str().unwrap(),
        &ModelOptions { num_classes: 1000, input_size: [size; 2], ..ModelOptions::default() },
    )
    .unwrap()
}

fn images(case: &Value, dtype: DType) -> Tensor {
    let size = case["size"].as_u64().unwrap() as usize;
    model_input(case["input_seed"].as_u64().unwrap(), 2, size, size).to_dtype(dtype).unwrap()
}

/// Targets `[2, 1000]`: labels mixed with the other sample's by `lam`, smoothed.
fn targets(case: &Value, lam: f64, smoothing: f64) -> Tensor {
    let labels: Vec<usize> = floats(&case["labels"]).into_iter().map(|l| l as usize).collect();
    let mut t = vec![smoothing / 1000.0; 2000];
    for i in 0..2 {
        t[i * 1000 + labels[i]] += lam * (1.0 - smoothing);
        t[i * 1000 + labels[1 - i]] += (1.0 - lam) * (1.0 - smoothing);
    }
    Tensor::from_vec(t, (2, 1000), &Device::Cpu).unwrap()
}

/// Loss of a forward pass in training.
fn loss_of(model: &dyn Backbone, cx: &mut Context, x: &Tensor, targets: &Tensor) -> Variable {
    let device = x.device();
    let x = x.to_device(&Device::Cpu).unwrap().permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
    let logits = model.forward(cx, &Variable::constant(x.to_device(device).unwrap())).unwrap();
    let targets = targets.to_dtype(x.dtype()).unwrap().to_device(device).unwrap();
    cx.record(&[&logits], ops::soft_cross_entropy(logits.tensor(), &targets).unwrap())
}

/// Loss of a training pass, and the gradients of all parameters.
fn train_pass(model: &dyn Backbone, params: &ParamStore, x: &Tensor, targets: &Tensor) -> (f64, Gradients) {
    let mut cx = Context::new(params, TRAIN);
    let loss = loss_of(model, &mut cx, x, targets);
    let mut gradients = Gradients::new(params.len());
    let seed = Tensor::ones((), x.dtype(), &Device::Cpu).unwrap().to_device(x.device()).unwrap();
    let value = numbers(loss.tensor())[0];
    cx.backward(&loss, seed, &mut gradients).unwrap();
    (value, gradients)
}

#[test]
fn names_shapes_order_and_decay_are_the_reference_s() {
    for file in [
        "resnet50",
        "deit_tiny_patch16_224",
        "deit_small_patch16_224",
        "swin_tiny",
        "swin_small",
        "convnext_tiny",
        "convnext_small",
        "caformer_s18",
        "caformer_s36",
        "CSWin_64_12211_tiny_224",
        "CSWin_64_24322_small_224",
    ] {
        let golden = json(&format!("params_{file}.json"));
        let model = create_model(file, &ModelOptions::default()).unwrap();
        let params: Vec<_> = model.specs().iter().filter(|s| s.kind == ParamKind::Parameter).collect();
        let expected = golden["params"].as_array().unwrap();
        assert_eq!(params.len(), expected.len(), "{file}");
        for (spec, want) in params.iter().zip(expected) {
            assert_eq!(spec.name, want[0].as_str().unwrap());
            assert_eq!(
                spec.shape,
                floats(&want[1]).iter().map(|&d| d as usize).collect::<Vec<_>>(),
                "{}",
                spec.name
            );
            assert_eq!(spec.decay, want[2].as_bool().unwrap(), "decay of {}", spec.name);
            if let Some(layer) = want.get(3) {
                assert_eq!(spec.layer as u64, layer.as_u64().unwrap(), "layer of {}", spec.name);
            }
        }
        let count: usize = params.iter().map(|s| s.shape.iter().product::<usize>()).sum();
        assert_eq!(count as u64, golden["num_params"].as_u64().unwrap());
        check_layer_decay(&*model, &golden);
        let buffers: Vec<_> = model.specs().iter().filter(|s| s.kind != ParamKind::Parameter).collect();
        // Swin's indices and masks follow from shapes: computed, not stored.
        let computed = |b: &&Value| {
            let name = b[0].as_str().unwrap();
            name.ends_with("relative_position_index") || name.ends_with("attn_mask")
        };
        let expected: Vec<_> =
            golden["buffers"].as_array().unwrap().iter().filter(|b| !computed(b)).collect();
        assert_eq!(buffers.len(), expected.len());
        assert!(buffers.iter().zip(expected).all(|(s, want)| s.name == want[0].as_str().unwrap()));
        for (size, shapes) in golden["shapes_at_other_sizes"].as_object().into_iter().flatten() {
            let (model, _) = model.at_size([size.parse().unwrap(); 2]).unwrap();
            for (name, shape) in shapes.as_object().unwrap() {
                let spec = model.specs().iter().find(|s| s.name == *name).unwrap();
                assert_eq!(spec.shape, floats(shape).iter().map(|&d| d as usize).collect::<Vec<_>>());
            }
        }
    }
}

fn check_layer_decay(model: &dyn Backbone, golden: &Value) {
    for (layer, scale) in golden["lr_scale_per_group_for_decay_0.9"].as_object().into_iter().flatten() {
        let layer: usize = layer.parse().unwrap();
        let groups = model.param_groups();
        let Some(group) = groups.iter().find(|g| g.layer == layer) else { continue };
        let got = model.lr_scale(group.params[0], 0.9);
        assert_close(&format!("scale of layer {layer}"), got, scale.as_f64().unwrap(), 1e-12, 0.0);
    }
}

#[test]
fn multiply_accumulates_are_the_reference_s_at_every_size() {
    let golden = json("macs.json");
    let models = golden["models"].as_object().unwrap();
    assert_eq!(models.len(), 16);
    for (name, sizes) in models {
        let model = create_model(name, &ModelOptions::default()).unwrap();
        for (size, want) in sizes.as_object().unwrap() {
            let (model, _) = model.at_size([size.parse().unwrap(); 2]).unwrap();
            let got = cost(&*model).unwrap();
            let parts = [got.params, got.conv_macs, got.linear_macs, got.attention_macs, got.macs()];
            let keys = ["params", "conv", "linear", "attention_matmul", "total"];
            assert_eq!(parts, keys.map(|key| want[key].as_u64().unwrap()), "{name} at {size}");
        }
    }
}

#[test]
fn evaluation_logits_are_the_reference_s() {
    let golden = tensors("logits_f64.safetensors");
    for case in json("forward_backward.json").as_array().unwrap() {
        let model = model(case);
        let key = format!("{}/{}/logits", case["model"].as_str().unwrap(), case["size"]);
        let want = numbers(&golden[&key]);
        for (dtype, tolerance) in [(DType::F32, 2e-5), (DType::F64, 1e-10)] {
            let params = golden_weights(model.name(), model.specs(), dtype);
            let got = numbers(&predict(&*model, &params, &images(case, dtype)).unwrap());
            let difference = max_difference(&got, &want);
            assert!(difference < tolerance, "{key} in {dtype:?}: off by {difference}");
        }
    }
}

#[test]
fn losses_and_gradients_are_the_reference_s_in_double_precision() {
    for case in json("forward_backward.json").as_array().unwrap() {
        let (model, golden) = (model(case), &case["train_f64"]);
        let what = format!("{} at {}", case["model"], case["size"]);
        let x = images(case, DType::F64);
        let params = golden_weights(model.name(), model.specs(), DType::F64);
        // The reference makes its soft targets in single precision. A pass in training changes
        // running statistics: each has weights of its own.
        for (key, lam, smoothing, relative) in
            [("loss_soft_ce", 0.7, 0.1, 1e-7), ("loss_label_smoothing", 1.0, 0.1, 1e-9)]
        {
            let params = params.deep_clone().unwrap();
            let mut cx = Context::new(&params, TRAIN);
            let loss = numbers(loss_of(&*model, &mut cx, &x, &targets(case, lam, smoothing)).tensor())[0];
            assert_close(&format!("{what}: {key}"), loss, golden[key].as_f64().unwrap(), relative, 0.0);
        }
        let (loss, gradients) = train_pass(&*model, &params, &x, &targets(case, 1.0, 0.0));
        assert_close(&format!("{what}: loss"), loss, golden["loss_ce"].as_f64().unwrap(), 1e-9, 0.0);
        gradients.check_complete(model.name(), model.specs()).unwrap();
        check_gradients(&what, &*model, &gradients, golden, 1e-7);
        check_running_statistics(&what, &params, golden, 1e-9);
    }
}

#[test]
fn losses_and_gradients_are_the_reference_s_in_single_precision() {
    let cases = json("forward_backward.json");
    let cases = cases.as_array().unwrap().iter();
    for (case, device) in cases.flat_map(|case| devices().into_iter().map(move |device| (case, device))) {
        let (model, golden) = (model(case), &case["train_f64"]);
        let what = format!("{} at {} on {:?}", case["model"], case["size"], device.location());
        let params = golden_weights(model.name(), model.specs(), DType::F32).to_device(&device).unwrap();
        let x = images(case, DType::F32).to_device(&device).unwrap();
        let (loss, gradients) = train_pass(&*model, &params, &x, &targets(case, 1.0, 0.0));
        // Batch statistics over two images make the training mode of a ResNet ill-conditioned.
        let (loss_off, norm_off) =
            if model.name().starts_with("resnet") { (1e-4, 2e-2) } else { (1e-5, 1e-4) };
        assert_close(&format!("{what}: loss"), loss, golden["loss_ce"].as_f64().unwrap(), 0.0, loss_off);
        check_norms(&what, &*model, &gradients, golden, norm_off);
        check_running_statistics(&what, &params, golden, 1e-4);
    }
}

fn check_norms(what: &str, model: &dyn Backbone, gradients: &Gradients, golden: &Value, relative: f64) {
    let total = golden["grad_norm_total"].as_f64().unwrap();
    let params = model.specs().iter().enumerate().filter(|(_, s)| s.kind == ParamKind::Parameter);
    for ((index, spec), want) in params.zip(floats(&golden["grad_norm_all"])) {
        let (_, gradient) = gradients.iter().find(|(id, _)| id.index() == index).unwrap();
        let norm = ops::squared_norm(gradient).unwrap().sqrt();
        // The gradient of a single number is a sum of thousands of terms of both signs: what
        // rounding leaves of it is measured by all gradients, not by what the terms happen to add
        // up to.
        let floor = if spec.shape == [1] { 1e-3 * relative * total } else { 1e-9 };
        assert_close(&format!("{what}: gradient norm of {}", spec.name), norm, want, relative, floor);
    }
    assert_close(&format!("{what}: total gradient norm"), gradients.norm().unwrap(), total, relative, 0.0);
}

fn check_gradients(what: &str, model: &dyn Backbone, gradients: &Gradients, golden: &Value, relative: f64) {
    check_norms(what, model, gradients, golden, relative);
    for (name, first) in golden["grad_first4"].as_object().unwrap() {
        let index = model.specs().iter().position(|s| s.name == *name).unwrap();
        let (_, gradient) = gradients.iter().find(|(id, _)| id.index() == index).unwrap();
        let scale = golden["grad_norm"][name].as_f64().unwrap();
        let (got, want) = (numbers(gradient), floats(first));
        let difference = max_difference(&got[..want.len()], &want);
        assert!(difference < relative * scale, "{what}: first gradients of {name} are off by {difference}");
    }
}

fn check_running_statistics(what: &str, params: &ParamStore, golden: &Value, tolerance: f64) {
    for (name, want) in golden["bn_after_one_train_forward"].as_object().into_iter().flatten() {
        let got = numbers(params.by_name(name).unwrap());
        match want.as_u64() {
            Some(count) => assert_eq!(got, [count as f64], "{what}: {name}"),
            None => {
                let want = floats(want);
                let difference = max_difference(&got[..want.len()], &want);
                // The golden values are single precision where the reference keeps its buffers so.
                assert!(difference < tolerance.max(2e-7), "{what}: {name} is off by {difference}");
            }
        }
    }
}

#[test]
fn four_adamw_steps_follow_the_reference() {
    for case in json("train_steps.json").as_array().unwrap() {
        for (dtype, key, tolerance) in [(DType::F64, "loss_f64", 1e-6), (DType::F32, "loss_f32", 1e-3)] {
            let model = model(case);
            let params = golden_weights(model.name(), model.specs(), dtype);
            let x = images(case, dtype);
            let soft = &case["soft"];
            let t = targets(case, soft["lam"].as_f64().unwrap(), soft["smoothing"].as_f64().unwrap());
            let mean = ParamStore::zeros(model.specs(), dtype, &Device::Cpu).unwrap();
            let square = ParamStore::zeros(model.specs(), dtype, &Device::Cpu).unwrap();
            for (step, want) in floats(&case[key]).into_iter().enumerate() {
                let (loss, gradients) = train_pass(&*model, &params, &x, &t);
                assert_close(&format!("{key} before step {step}"), loss, want, 0.0, tolerance);
                for (id, gradient) in gradients.iter() {
                    let decay = model.specs()[id.index()].decay;
                    let step = ops::AdamW {
                        lr: case["lr"].as_f64().unwrap(),
                        beta1: 0.9,
                        beta2: 0.999,
                        eps: 1e-8,
                        weight_decay: if decay { case["weight_decay"].as_f64().unwrap() } else { 0.0 },
                        step: step as u64 + 1,
                    };
                    ops::adamw_step(params.get(id), gradient, mean.get(id), square.get(id), &step).unwrap();
                }
            }
        }
    }
}
