//! Requirements on every model at any size: logits, a gradient for every parameter, parameters kept
//! through a size change.

mod names;

use crate::common::{max_difference, model_input, numbers};
use candle_core::{DType, Device, Tensor};
use efficienttrain_models::{
    Backbone, BlockIndex, Context, Family, Gradients, Mode, ModelOptions, ParamKind, ParamStore, Variable,
    cost, create_model, model_names, ops, predict, size_multiple,
};

/// Sizes that every kind of edge gets: the smallest, a rectangle, and one that is no multiple of
/// anything.
fn sizes(family: Family) -> Vec<[usize; 2]> {
    match family {
        Family::ResNet => vec![[32, 32], [33, 45]],
        Family::ConvNext | Family::MetaFormer => vec![[32, 32], [45, 33]],
        Family::Vit => vec![[16, 16], [48, 64]],
        Family::Swin | Family::CsWin | Family::Pvt => vec![[32, 32], [64, 96]],
    }
}

fn family(name: &str) -> Family {
    create_model(name, &ModelOptions::default()).unwrap().info().family
}

/// The smallest model of each family.
const SMALLEST: [&str; 8] = [
    "resnet10",
    "deit_tiny",
    "deit_tiny_distilled",
    "swin_tiny",
    "convnext_atto",
    "caformer_s18",
    "cswin_tiny",
    "pvt_tiny",
];

fn channels_last(x: &Tensor) -> Variable {
    Variable::constant(x.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap())
}

#[test]
fn every_parameter_of_every_model_gets_a_gradient() {
    for name in model_names() {
        // Large variants repeat the small one's blocks: one size is enough for them.
        let count = if SMALLEST.contains(&name) { 2 } else { 1 };
        for size in sizes(family(name)).into_iter().take(count) {
            let options =
                ModelOptions { num_classes: 3, input_size: size, drop_rate: 0.2, ..ModelOptions::default() };
            let model = create_model(name, &options).unwrap();
            let params = ParamStore::init(model.specs(), 0, DType::F32, &Device::Cpu).unwrap();
            let x = channels_last(&model_input(1, 2, size[0], size[1]));
            let mut cx = Context::new(&params, Mode::Train { seed: 0, drop_path: 0.1 });
            let logits = model.forward(&mut cx, &x).unwrap();
            assert_eq!(logits.dims(), [2, 3]);
            let targets = Tensor::new(&[[1f32, 0., 0.], [0., 1., 0.]], &Device::Cpu).unwrap();
            let loss = cx.record(&[&logits], ops::soft_cross_entropy(logits.tensor(), &targets).unwrap());
            let mut gradients = Gradients::new(params.len());
            cx.backward(&loss, Tensor::new(1f32, &Device::Cpu).unwrap(), &mut gradients).unwrap();
            gradients.check_complete(name, model.specs()).unwrap();
            for (id, gradient) in gradients.iter() {
                let spec = &model.specs()[id.index()];
                assert_eq!(spec.kind, ParamKind::Parameter);
                assert_eq!(gradient.dims(), spec.shape, "{name}: {}", spec.name);
                assert!(numbers(gradient).iter().all(|g| g.is_finite()), "{name}: {}", spec.name);
            }
        }
    }
}

#[test]
fn pyramids_are_what_they_say_and_counting_gives_the_shapes_of_running() {
    for name in SMALLEST {
        for size in sizes(family(name)) {
            let model = create_model(
                name,
                &ModelOptions { num_classes: 4, input_size: size, ..ModelOptions::default() },
            )
            .unwrap();
            let params = ParamStore::init(model.specs(), 0, DType::F32, &Device::Cpu).unwrap();
            let x = channels_last(&model_input(1, 1, size[0], size[1]));
            let mut cx = Context::new(&params, Mode::Eval);
            let maps = model.feature_maps(&mut cx, &x).unwrap();
            assert_eq!(maps.len(), model.feature_info().len(), "{name}");
            for (map, info) in maps.iter().zip(model.feature_info()) {
                // Overlapping patches round up, others down.
                let fits = |axis: usize| {
                    let (low, high) = (size[axis] / info.stride, size[axis].div_ceil(info.stride));
                    (low..=high).contains(&map.dims()[1 + axis])
                };
                assert!(fits(0) && fits(1) && map.dims()[3] == info.channels, "{name}: {:?}", map.dims());
            }
            let mut counting = Context::new(&params, Mode::Count);
            let counted = model.feature_maps(&mut counting, &x).unwrap();
            for (counted, map) in counted.iter().zip(&maps) {
                assert_eq!(counted.dims(), map.dims(), "{name}");
            }
            assert!(cost(&*model).unwrap().macs() > 0);
        }
    }
}

#[test]
fn the_last_map_is_what_is_pooled() {
    // Of families that pool the last map by its mean: the head reads nothing else.
    for name in ["resnet10", "convnext_atto", "caformer_s18"] {
        let model = create_model(
            name,
            &ModelOptions { num_classes: 4, input_size: [64, 64], ..ModelOptions::default() },
        )
        .unwrap();
        let params = ParamStore::init(model.specs(), 0, DType::F32, &Device::Cpu).unwrap();
        let x = channels_last(&model_input(1, 2, 64, 64));
        let mut cx = Context::new(&params, Mode::Eval);
        let features = model.features(&mut cx, &x).unwrap();
        let map = model.feature_maps(&mut cx, &x).unwrap().pop().unwrap();
        let mut pooled = ops::global_avg_pool(map.tensor()).unwrap().value;
        if let (Some(w), b) = (params.by_name("norm.weight"), params.by_name("norm.bias")) {
            pooled = ops::layer_norm(&pooled, w, b, 1e-6).unwrap().value;
        }
        assert_eq!(numbers(features.tensor()), numbers(&pooled), "{name}");
    }
}

#[test]
fn the_mean_over_the_image_is_of_normed_patch_tokens() {
    for (name, eps) in
        [("deit_tiny", 1e-6), ("deit_tiny_distilled", 1e-6), ("pvt_tiny", 1e-6), ("resnet10", 0.0)]
    {
        let model = create_model(
            name,
            &ModelOptions { num_classes: 4, input_size: [64, 64], ..ModelOptions::default() },
        )
        .unwrap();
        let params = ParamStore::init(model.specs(), 0, DType::F32, &Device::Cpu).unwrap();
        let x = channels_last(&model_input(1, 2, 64, 64));
        let mut cx = Context::new(&params, Mode::Eval);
        let mean = numbers(model.mean_features(&mut cx, &x).unwrap().tensor());
        if eps == 0.0 {
            assert_eq!(mean, numbers(model.features(&mut cx, &x).unwrap().tensor()), "{name}");
            continue;
        }
        // First values of a norm scale by 1 and add nothing.
        let map = model.feature_maps(&mut cx, &x).unwrap().pop().unwrap();
        let &[n, h, w, c] = map.dims() else { panic!("{name}: {:?}", map.dims()) };
        let values = numbers(map.tensor());
        let mut expected = vec![0.0; n * c];
        for (token, row) in values.chunks_exact(c).enumerate() {
            let middle = row.iter().sum::<f64>() / c as f64;
            let variance = row.iter().map(|v| (v - middle).powi(2)).sum::<f64>() / c as f64;
            for (channel, value) in row.iter().enumerate() {
                let normed = (value - middle) / (variance + eps).sqrt();
                expected[token / (h * w) * c + channel] += normed / (h * w) as f64;
            }
        }
        assert_eq!(mean.len(), expected.len(), "{name}");
        for (ours, expected) in mean.iter().zip(&expected) {
            assert!((ours - expected).abs() < 1e-4, "{name}: {ours} for {expected}");
        }
    }
}

#[test]
fn a_change_of_size_there_and_back_keeps_everything_else() {
    for name in SMALLEST {
        let options = ModelOptions { num_classes: 5, input_size: [96, 96], ..ModelOptions::default() };
        let mut model = create_model(name, &options).unwrap();
        let mut params = ParamStore::init(model.specs(), 0, DType::F32, &Device::Cpu).unwrap();
        let before = params.deep_clone().unwrap();
        let mut changed = std::collections::HashSet::new();
        for size in [[160, 160], [64, 96], [96, 96]] {
            let (resized, changes) = model.at_size(size).unwrap();
            model = resized;
            for change in changes {
                change.apply_in(&mut params).unwrap();
                changed.insert(model.specs()[change.id.index()].name.clone());
            }
            for (spec, (_, tensor)) in model.specs().iter().zip(params.iter()) {
                assert_eq!(spec.shape, tensor.dims(), "{name}: {}", spec.name);
            }
            let logits = predict(&*model, &params, &model_input(1, 1, size[0], size[1])).unwrap();
            assert_eq!(logits.dims(), [1, 5]);
            // A model made for the size from the start has the same shapes.
            let fresh = create_model(name, &ModelOptions { input_size: size, ..options }).unwrap();
            assert_eq!(fresh.specs(), model.specs());
        }
        for ((key, now), (_, then)) in
            params.iter().zip(before.iter()).filter(|((k, _), _)| !changed.contains(*k))
        {
            assert_eq!(numbers(now), numbers(then), "{name}: {key}");
        }
        let expected = match family(name) {
            Family::Vit => 1,
            Family::Swin => 12,
            Family::Pvt => 4,
            _ => 0,
        };
        assert_eq!(changed.len(), expected, "{name}: {changed:?}");
        assert!(model.resampling([96, 96]).unwrap().is_empty());
        let Err(error) = model.at_size([96, 7]) else { continue };
        assert!(error.to_string().contains("96x7") && error.to_string().contains("both edges"), "{error}");
        assert_eq!(model.input_size(), [96, 96], "a refused size must change nothing");
    }
}

#[test]
fn another_size_keeps_channels_classes_and_dropout() {
    for name in SMALLEST {
        let options = ModelOptions { num_classes: 5, input_size: [64, 64], in_channels: 1, drop_rate: 0.25 };
        let model = create_model(name, &options).unwrap();
        let (resized, changes) = model.at_size([96, 96]).unwrap();
        assert_eq!(changes, model.resampling([96, 96]).unwrap(), "{name}");
        let fresh = create_model(name, &ModelOptions { input_size: [96, 96], ..options }).unwrap();
        assert_eq!(format!("{resized:?}"), format!("{fresh:?}"), "{name}");
        assert_eq!(model.input_size(), [64, 64], "{name}: the model itself stays as it is");
    }
}

#[test]
fn channels_classes_and_dropout_are_options() {
    for name in SMALLEST {
        let options =
            ModelOptions { num_classes: 7, input_size: [32, 32], in_channels: 5, ..ModelOptions::default() };
        let model = create_model(name, &options).unwrap();
        let params = ParamStore::init(model.specs(), 0, DType::F32, &Device::Cpu).unwrap();
        let x = Tensor::rand(-1f32, 1., (2, 5, 32, 32), &Device::Cpu).unwrap();
        assert_eq!(predict(&*model, &params, &x).unwrap().dims(), [2, 7], "{name}");
        let error = predict(&*model, &params, &model_input(1, 1, 32, 32)).unwrap_err().to_string();
        assert!(error.contains("[N, 32, 32, 5]"), "{error}");
        for classifier in model.classifiers() {
            assert_eq!(params.by_name(&format!("{classifier}.weight")).unwrap().dim(0).unwrap(), 7);
        }
        // Dropout changes training passes alone, by the seed.
        let dropped = create_model(name, &ModelOptions { drop_rate: 0.5, ..options }).unwrap();
        let run = |model: &dyn Backbone, mode| {
            let mut cx = Context::new(&params, mode);
            numbers(model.forward(&mut cx, &channels_last(&x)).unwrap().tensor())
        };
        let train = |seed| Mode::Train { seed, drop_path: 0.0 };
        assert_eq!(run(&*dropped, train(1)), run(&*dropped, train(1)), "{name}");
        assert_ne!(run(&*dropped, train(1)), run(&*dropped, train(2)), "{name}");
        assert_eq!(run(&*dropped, Mode::Eval), run(&*dropped, Mode::Eval), "{name}");
    }
    for (options, expected) in [
        (ModelOptions { drop_rate: 1.0, ..ModelOptions::default() }, "drop_rate must be 0 to below 1, got 1"),
        (
            ModelOptions { in_channels: 0, ..ModelOptions::default() },
            "in_channels must be 1 to 16777216, got 0",
        ),
        (
            ModelOptions { num_classes: 0, ..ModelOptions::default() },
            "num_classes must be 1 to 16777216, got 0",
        ),
        (ModelOptions { num_classes: usize::MAX, ..ModelOptions::default() }, "num_classes must be 1 to"),
        (ModelOptions { input_size: [0, 32], ..ModelOptions::default() }, "above 0"),
        (ModelOptions { input_size: [32, usize::MAX & !63], ..ModelOptions::default() }, "at most 16384"),
    ] {
        let error = create_model("swin_tiny", &options).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn parameters_are_grouped_by_decay_and_depth() {
    for name in model_names() {
        let model = create_model(name, &ModelOptions::default()).unwrap();
        let groups = model.param_groups();
        let mut seen: Vec<usize> = groups.iter().flat_map(|g| &g.params).map(|id| id.index()).collect();
        seen.sort_unstable();
        let trained = model.specs().iter().enumerate().filter(|(_, s)| s.kind == ParamKind::Parameter);
        assert_eq!(
            seen,
            trained.map(|(i, _)| i).collect::<Vec<_>>(),
            "{name}: each parameter is in one group"
        );
        for group in &groups {
            for id in &group.params {
                let spec = &model.specs()[id.index()];
                assert_eq!((spec.decay, spec.layer), (group.decay, group.layer), "{name}: {}", spec.name);
                assert!(spec.decay <= (spec.shape.len() > 1), "{name}: {}", spec.name);
            }
        }
        // The stem is the lowest layer, the classifier the highest, with the full learning rate.
        let of = |name: &str| model.specs().iter().find(|s| s.name == name).unwrap().layer;
        let highest = model.info().layers - 1;
        for classifier in model.classifiers() {
            assert_eq!(of(&format!("{classifier}.weight")), highest, "{name}");
        }
        assert_eq!(model.specs().iter().find(|s| s.shape.len() == 4).unwrap().layer, 0, "{name}");
        assert_eq!(model.lr_scale(groups.last().unwrap().params[0], 0.9), 1.0);
        let stem = model.lr_scale(groups[0].params[0], 0.5);
        assert!((stem.log2() + highest as f64).abs() < 1e-12, "{name}: {stem}");
    }
}

#[test]
fn published_sizes_of_models_without_golden_numbers() {
    // Parameters in millions and multiply-accumulates in billions as their papers and timm round
    // them. For CSWin-L the paper says 31.5 G, less than 2.25 times the linear layers of CSWin-B
    // (which it must be at 1.5 times the width, and which are counted right): only its parameters
    // are compared.
    for (name, params, macs) in [
        ("resnet18", 11.7, 1.8),
        ("resnet34", 21.8, 3.7),
        ("resnet101", 44.5, 7.8),
        ("resnet152", 60.2, 11.5),
        ("convnext_atto", 3.7, 0.55),
        ("convnext_femto", 5.2, 0.79),
        ("convnext_pico", 9.0, 1.4),
        ("convnext_nano", 15.6, 2.46),
        ("convnext_large", 197.8, 34.4),
        ("caformer_b36", 98.8, 23.2),
        ("convformer_s18", 26.8, 4.0),
        ("convformer_s36", 40.0, 7.7),
        ("convformer_m36", 57.1, 12.9),
        ("convformer_b36", 99.9, 22.7),
        ("cswin_large", 173.3, f64::NAN),
        ("pvt_tiny", 13.2, 1.9),
        ("pvt_small", 24.5, 3.8),
        ("pvt_medium", 44.2, 6.7),
        ("pvt_large", 61.4, 9.8),
    ] {
        let cost = cost(&*create_model(name, &ModelOptions::default()).unwrap()).unwrap();
        let (p, m) = (cost.params as f64 / 1e6, cost.macs() as f64 / 1e9);
        assert!(
            (p - params).abs() < 0.051 && (macs.is_nan() || (m - macs).abs() < 0.1),
            "{name}: {p} M, {m} G"
        );
    }
}

#[test]
fn stochastic_depth_keeps_the_expectation_and_is_seeded() {
    let model = create_model(
        "resnet10",
        &ModelOptions { num_classes: 2, input_size: [32, 32], ..ModelOptions::default() },
    )
    .unwrap();
    let params = ParamStore::init(model.specs(), 0, DType::F32, &Device::Cpu).unwrap();
    let draw = |seed, index| {
        let cx = Context::new(&params, Mode::Train { seed, drop_path: 0.4 });
        let mask = cx.drop_path_mask(BlockIndex { index, depth: 3 }, "", 20_000).unwrap();
        mask.map(|mask| mask.to_vec1::<f64>().unwrap())
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
    assert!(eval.drop_path_mask(BlockIndex { index: 2, depth: 3 }, "", 4).unwrap().is_none());
}

/// Up to the largest images, counts of operations fit into their types: the build checks overflow.
#[test]
fn the_cost_of_the_largest_images_can_be_counted() {
    for name in SMALLEST.into_iter().chain(["deit_base", "swin_base", "resnet152"]) {
        let size = 16_384 / size_multiple(name).unwrap() * size_multiple(name).unwrap();
        let large = ModelOptions { input_size: [size; 2], ..ModelOptions::default() };
        let large = cost(&*create_model(name, &large).unwrap()).unwrap();
        let small = cost(&*create_model(name, &ModelOptions::default()).unwrap()).unwrap();
        assert!(large.macs() > 1000 * small.macs(), "{name}");
    }
}
