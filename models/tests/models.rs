//! What every model must do at any size: give logits, train every parameter, keep its parameters through a size change.

mod common;

use candle_core::{DType, Device, Tensor};
use common::{max_difference, model_input, numbers};
use efficienttrain_models::{
    Act, Context, Gradients, Kind, Mode, Options, ParamStore, create, names, ops, predict,
};

#[test]
fn every_parameter_of_every_model_gets_a_gradient() {
    for name in names() {
        for size in [[32, 32], [48, 64]] {
            let model =
                create(name, &Options { num_classes: 3, input_size: size, ..Options::default() }).unwrap();
            let params = ParamStore::init(model.specs(), 0, DType::F32, &Device::Cpu).unwrap();
            let x = model_input(1, 2, size[0], size[1]).permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
            let mut cx = Context::new(&params, Mode::Train { seed: 0, drop_path: 0.1 });
            let logits = model.forward(&mut cx, &Act::constant(x)).unwrap();
            assert_eq!(logits.dims(), [2, 3]);
            let targets = Tensor::new(&[[1f32, 0., 0.], [0., 1., 0.]], &Device::Cpu).unwrap();
            let loss = cx.record(&[&logits], ops::soft_cross_entropy(logits.tensor(), &targets).unwrap());
            let mut gradients = Gradients::new(params.len());
            cx.backward(&loss, Tensor::new(1f32, &Device::Cpu).unwrap(), &mut gradients).unwrap();
            gradients.check_complete(name, model.specs()).unwrap();
            for (id, gradient) in gradients.iter() {
                let spec = &model.specs()[id.index()];
                assert_eq!(spec.kind, Kind::Parameter);
                assert_eq!(gradient.dims(), spec.shape, "{name}: {}", spec.name);
                assert!(numbers(gradient).iter().all(|g| g.is_finite()), "{name}: {}", spec.name);
            }
        }
    }
}

#[test]
fn a_change_of_size_there_and_back_keeps_everything_else() {
    let mut model =
        create("deit_tiny", &Options { num_classes: 5, input_size: [64, 64], ..Options::default() }).unwrap();
    let mut params = ParamStore::init(model.specs(), 0, DType::F32, &Device::Cpu).unwrap();
    let before = params.deep_clone().unwrap();
    for size in [[96, 96], [48, 80], [64, 64]] {
        for change in model.set_input_size(size).unwrap() {
            change.apply_in(&mut params).unwrap();
        }
        let logits = predict(&*model, &params, &model_input(1, 1, size[0], size[1])).unwrap();
        assert_eq!(logits.dims(), [1, 5]);
    }
    for ((name, now), (_, then)) in params.iter().zip(before.iter()) {
        if name != "pos_embed" {
            assert_eq!(numbers(now), numbers(then), "{name}");
        }
    }
    assert!(model.set_input_size([64, 64]).unwrap().is_empty());
    let message = model.set_input_size([64, 70]).unwrap_err().to_string();
    assert!(message.contains("64x70") && message.contains("16"), "{message}");
    assert_eq!(model.input_size(), [64, 64], "a refused size must change nothing");
}

#[test]
fn stochastic_depth_keeps_the_expectation_and_is_seeded() {
    let model =
        create("resnet10", &Options { num_classes: 2, input_size: [32, 32], ..Options::default() }).unwrap();
    let params = ParamStore::init(model.specs(), 0, DType::F32, &Device::Cpu).unwrap();
    let draw = |seed, index| {
        let cx = Context::new(&params, Mode::Train { seed, drop_path: 0.4 });
        cx.keep_samples((index, 3), "", 20_000)
    };
    assert_eq!(draw(1, 0), None, "the first block is never dropped");
    for (index, rate) in [(1, 0.2f64), (2, 0.4)] {
        let scale = draw(1, index).unwrap();
        let mean = scale.iter().sum::<f64>() / scale.len() as f64;
        // Five standard errors of a mean whose terms are 0 or 1 / (1 - rate).
        let error = (rate / (1.0 - rate) / scale.len() as f64).sqrt();
        assert!((mean - 1.0).abs() < 5.0 * error, "mean {mean}");
        let dropped = scale.iter().filter(|&&s| s == 0.0).count() as f64 / scale.len() as f64;
        assert!((dropped - rate).abs() < 0.02);
    }
    assert_eq!(draw(1, 2), draw(1, 2));
    assert_ne!(draw(1, 2), draw(2, 2));
    let eval = Context::new(&params, Mode::Eval);
    assert_eq!(eval.keep_samples((2, 3), "", 4), None);
}

#[test]
fn names_and_weights_that_do_not_fit_are_errors_that_name_them() {
    let unknown = create("resnet81", &Options::default()).unwrap_err().to_string();
    assert!(unknown.contains("did you mean `resnet18`"), "{unknown}");
    assert!(create("DeiT_small_patch16_224", &Options::default()).is_ok());
    assert!(
        create("resnet18", &Options { num_classes: 2, input_size: [0, 32], ..Options::default() }).is_err()
    );

    let model =
        create("resnet10", &Options { num_classes: 2, input_size: [32, 32], ..Options::default() }).unwrap();
    let params = ParamStore::init(model.specs(), 0, DType::F32, &Device::Cpu).unwrap();
    let mut tensors: std::collections::HashMap<String, Tensor> =
        params.iter().map(|(n, t)| (n.to_string(), t.clone())).collect();
    let load = |t: &std::collections::HashMap<String, Tensor>| {
        ParamStore::from_tensors("resnet10", model.specs(), t, DType::F32, &Device::Cpu)
    };
    tensors.remove("bn1.num_batches_tracked");
    assert!(load(&tensors).is_ok(), "counters may be missing, as in old files");
    let fc = tensors.remove("fc.weight").unwrap();
    tensors.insert("fc.bias".into(), fc);
    tensors.insert("head.weight".into(), Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap());
    let message = load(&tensors).unwrap_err().to_string();
    for part in
        ["missing `fc.weight`", "`fc.bias` has shape [2, 512], expected [2]", "unexpected `head.weight`"]
    {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_candle_var_builder_reads_the_store() {
    let model =
        create("resnet10", &Options { num_classes: 2, input_size: [32, 32], ..Options::default() }).unwrap();
    let params = ParamStore::init(model.specs(), 0, DType::F32, &Device::Cpu).unwrap();
    let builder = params.var_builder(DType::F32, &Device::Cpu);
    let fc = candle_nn::linear(512, 2, builder.pp("fc")).unwrap();
    let off = max_difference(&numbers(fc.weight()), &numbers(params.by_name("fc.weight").unwrap()));
    assert_eq!(off, 0.0);
    assert!(builder.pp("fc").get((3, 512), "weight").is_err());
}
