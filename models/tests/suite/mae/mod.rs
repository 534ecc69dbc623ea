//! Masked autoencoders: golden numbers of the published formulas, gradients, sizes, and the way to
//! fine-tuning.

mod encoder;

use std::collections::HashMap;

use crate::common::{data, golden_weights, json, max_difference, model_input, numbers, tensors};
use candle_core::{DType, Device, Tensor};
use efficienttrain_models::hog::Hog;
use efficienttrain_models::mae::{
    Mae, MaeOptions, Masking, Target, TransformerShape, patchify, sincos_positions,
};
use efficienttrain_models::{
    Context, Gradients, Mode, Model, ModelOptions, ParamKind, ParamSpec, ParamStore, Variable, create_model,
    ops, weights,
};

const TARGETS: [Target; 3] =
    [Target::NormalizedPixels, Target::Pixels, Target::Hog(Hog { bins: 9, cell: 8, window: 16 })];

fn golden() -> HashMap<String, Tensor> {
    assert!(data("mae.json").exists());
    tensors("mae.safetensors")
}

fn channels_last(x: &Tensor) -> Tensor {
    x.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap()
}

fn train() -> Mode {
    Mode::Train { seed: 0, drop_path: 0.0 }
}

/// A model small enough for differences in double precision.
fn tiny(target: Target, input_size: [usize; 2]) -> Mae {
    let shape = TransformerShape { width: 8, heads: 2, depth: 2 };
    let options = MaeOptions {
        input_size,
        base_size: [64, 64],
        in_channels: 2,
        mask_ratio: 0.5,
        target,
        decoder: Some(TransformerShape { width: 4, heads: 1, depth: 1 }),
    };
    Mae::with_encoder("mae_test", shape, &options).unwrap()
}

#[test]
fn golden_patches_masks_and_positions() {
    let (golden, settings) = (golden(), json("mae.json"));
    let images = channels_last(&golden["images"]);
    assert_eq!(numbers(&images), numbers(&channels_last(&model_input(800, 2, 32, 32))));
    assert_eq!(numbers(&patchify(&images, 8).unwrap()), numbers(&golden["patchified"]));

    let ratio = settings["mask_ratio"].as_f64().unwrap();
    let masking = Masking::from_noise(&numbers(&golden["noise"]), 16, ratio).unwrap();
    assert_eq!((masking.images(), masking.kept(), masking.patches()), (2, 4, 16));
    let order: Vec<f64> = masking.order().iter().map(|&i| f64::from(i)).collect();
    assert_eq!(order, numbers(&golden["ids_shuffle"]));
    let removed: Vec<f64> = masking.removed().iter().map(|&flag| f64::from(u8::from(flag))).collect();
    assert_eq!(removed, numbers(&golden["mask"]));
    let kept = ops::gather_tokens(&golden["tokens"], &masking.places(0)).unwrap().value;
    assert_eq!(numbers(&kept), numbers(&golden["kept_tokens"]));
    // `ids_restore` says where in the order of the noise a patch is: the seen ones come back to
    // their places.
    let filler = Tensor::full(9f32, (1, 1, 16), &Device::Cpu).unwrap();
    let back = numbers(&ops::restore_tokens(&kept, &filler, &masking.places(0), 16).unwrap().value);
    let (restore, kept) = (numbers(&golden["ids_restore"]), numbers(&kept));
    for (token, &rank) in restore.iter().enumerate() {
        let (got, rank) = (&back[token * 16..][..16], rank as usize);
        let seen = &kept[(token / 16 * 4 + rank.min(3)) * 16..][..16];
        assert_eq!(got, if rank < 4 { seen } else { &[9.0; 16] });
    }

    let positions = sincos_positions([4, 4], [4, 4], 16).unwrap();
    assert!(max_difference(&numbers(&positions), &numbers(&golden["sincos_pos_embed"])) < 1e-6);
}

/// `initialize_weights` of the MAE authors' code.
#[test]
fn matrices_begin_as_the_authors_draw_them() {
    let model = Mae::new("mae_tiny", &MaeOptions::default()).unwrap();
    let params = ParamStore::init(model.specs(), 5, DType::F32, &Device::Cpu).unwrap();
    for (spec, (_, value)) in model.specs().iter().zip(params.iter()) {
        let values = numbers(value);
        let n = values.len() as f64;
        let deviation = (values.iter().map(|v| v * v).sum::<f64>() / n).sqrt();
        let largest = values.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
        if spec.name.ends_with("token") {
            assert!((deviation - 0.02).abs() < 5.0 * 0.02 / (2.0 * n).sqrt(), "{}: {deviation}", spec.name);
        } else if let [outputs, inputs @ ..] = &spec.shape[..]
            && !inputs.is_empty()
        {
            let bound = (6.0 / (outputs + inputs.iter().product::<usize>()) as f64).sqrt();
            assert!(largest <= bound && largest > 0.99 * bound, "{}: {largest} of {bound}", spec.name);
            // The square of a uniform number has a relative deviation of sqrt(4 / 5).
            let expected = bound / 3f64.sqrt();
            assert!((deviation / expected - 1.0).abs() < 5.0 * 0.45 / n.sqrt(), "{}: {deviation}", spec.name);
        }
    }
}

#[test]
fn golden_losses() {
    let (golden, settings) = (golden(), json("mae.json"));
    let (images, predicted) = (channels_last(&golden["images"]), &golden["pred"]);
    let removed: Vec<bool> = numbers(&golden["mask"]).iter().map(|&m| m == 1.0).collect();
    for (target, per_patch, total) in [
        (Target::Pixels, "per_patch_plain", "plain_loss"),
        (Target::NormalizedPixels, "per_patch_norm", "norm_pix_loss"),
    ] {
        for dtype in [DType::F32, DType::F64] {
            let target = target.of(&images.to_dtype(dtype).unwrap(), 8).unwrap();
            let predicted = predicted.to_dtype(dtype).unwrap();
            let loss = |removed: &[bool]| {
                numbers(&ops::masked_squared_error(&predicted, &target, removed).unwrap().value)[0]
            };
            let expected = settings["losses_f64"][total].as_f64().unwrap();
            assert!((loss(&removed) - expected).abs() < 1e-6, "{total}: {}", loss(&removed));
            for (i, expected) in numbers(&golden[per_patch]).into_iter().enumerate() {
                let alone: Vec<bool> = (0..32).map(|j| i == j).collect();
                assert!((loss(&alone) - expected).abs() < 1e-6 * expected.max(1.0), "{per_patch}[{i}]");
            }
        }
    }
}

#[test]
fn every_parameter_gets_a_gradient_with_every_target_at_every_size() {
    for (target, size) in TARGETS.into_iter().flat_map(|t| [[32, 32], [48, 96]].map(|s| (t, s))) {
        let options = MaeOptions { input_size: size, target, ..MaeOptions::default() };
        let model = Mae::new("mae_small", &options).unwrap();
        let params = ParamStore::init(model.specs(), 0, DType::F32, &Device::Cpu).unwrap();
        let images = Variable::constant(channels_last(&model_input(1, 2, size[0], size[1])));
        let masking = Masking::draw(&[3, 4], model.patches(), model.mask_ratio()).unwrap();
        let mut cx = Context::new(&params, Mode::Train { seed: 0, drop_path: 0.1 });
        let loss = model.loss(&mut cx, &images, &masking).unwrap();
        let mut gradients = Gradients::new(params.len());
        cx.backward(&loss, Tensor::new(1f32, &Device::Cpu).unwrap(), &mut gradients).unwrap();
        gradients.check_complete(model.name(), model.specs()).unwrap();
        for (id, gradient) in gradients.iter() {
            let (values, name) = (numbers(gradient), &model.specs()[id.index()].name);
            assert!(values.iter().all(|g| g.is_finite()) && values.iter().any(|&g| g != 0.0), "{name}");
        }
    }
}

fn loss_of(model: &Mae, params: &ParamStore, images: &Variable, masking: &Masking) -> f64 {
    let mut cx = Context::new(params, Mode::Eval);
    numbers(model.loss(&mut cx, images, masking).unwrap().tensor())[0]
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    const STEP: f64 = 1e-5;
    for target in TARGETS {
        let model = tiny(target, [32, 48]);
        let params = golden_weights("mae_test", model.specs(), DType::F64);
        let images = model_input(5, 2, 32, 48).narrow(1, 0, 2).unwrap().to_dtype(DType::F64).unwrap();
        let images = Variable::constant(channels_last(&images));
        let masking = Masking::draw(&[1, 2], 6, 0.5).unwrap();
        let mut cx = Context::new(&params, train());
        let loss = model.loss(&mut cx, &images, &masking).unwrap();
        let mut gradients = Gradients::new(params.len());
        cx.backward(&loss, Tensor::new(1f64, &Device::Cpu).unwrap(), &mut gradients).unwrap();
        for (id, gradient) in gradients.iter() {
            let (gradient, shape) = (numbers(gradient), gradient.dims().to_vec());
            for at in (0..gradient.len()).step_by((gradient.len() / 4).max(1)) {
                let moved = |by: f64| {
                    let mut values = numbers(params.get(id));
                    values[at] += by;
                    let mut params = params.clone();
                    params.set(id, Tensor::from_vec(values, shape.as_slice(), &Device::Cpu).unwrap());
                    loss_of(&model, &params, &images, &masking)
                };
                let slope = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                let name = &model.specs()[id.index()].name;
                assert!(
                    (slope - gradient[at]).abs() < 1e-8 * (1.0 + slope.abs()),
                    "{target:?}, {name}[{at}]: {} by hand, {slope} measured",
                    gradient[at]
                );
            }
        }
    }
}

#[test]
fn the_encoder_does_not_see_what_is_removed_and_the_loss_not_what_is_seen() {
    let model = tiny(Target::Pixels, [32, 32]);
    let params = golden_weights("mae_test", model.specs(), DType::F64);
    let masking = Masking::from_noise(&[0.1, 0.9, 0.8, 0.2], 4, 0.5).unwrap();
    assert_eq!(masking.removed(), [false, true, true, false]);
    let images = channels_last(&model_input(9, 1, 32, 32).narrow(1, 0, 2).unwrap());
    let images = images.to_dtype(DType::F64).unwrap();
    // Another image in the upper right patch, which is removed.
    let change = |row: usize, col: usize| {
        let mut values = numbers(&images);
        for (y, x) in (0..256).map(|i| (row * 16 + i / 16, col * 16 + i % 16)) {
            values[(y * 32 + x) * 2] += 1.0;
        }
        Tensor::from_vec(values, (1, 32, 32, 2), &Device::Cpu).unwrap()
    };
    let encoded = |images: &Tensor| {
        let mut cx = Context::new(&params, Mode::Eval);
        let tokens = model.encode(&mut cx, &Variable::constant(images.clone()), &masking).unwrap();
        assert_eq!(tokens.dims(), [1, 3, 8]);
        numbers(tokens.tensor())
    };
    assert_eq!(encoded(&change(0, 1)), encoded(&images));
    assert_ne!(encoded(&change(1, 1)), encoded(&images));
    // The target of a seen patch does not matter: only what the encoder makes of it does.
    let target = |images: &Tensor| Target::Pixels.of(images, 16).unwrap();
    let predicted = Tensor::zeros((1, 4, 512), DType::F64, &Device::Cpu).unwrap();
    let loss = |images: &Tensor| {
        let error = ops::masked_squared_error(&predicted, &target(images), &masking.removed()).unwrap();
        numbers(&error.value)[0]
    };
    assert_eq!(loss(&change(1, 1)), loss(&images));
    assert_ne!(loss(&change(0, 1)), loss(&images));
}

#[test]
fn the_size_may_change_and_no_parameter_with_it() {
    let mut model =
        Mae::new("mae_small", &MaeOptions { input_size: [96, 96], ..MaeOptions::default() }).unwrap();
    let specs = model.specs().to_vec();
    let params = ParamStore::init(model.specs(), 0, DType::F32, &Device::Cpu).unwrap();
    for size in [[96, 96], [32, 80], [64, 64]] {
        model = model.at_size(size).unwrap();
        assert_eq!(model.specs(), specs);
        let images = Variable::constant(channels_last(&model_input(1, 1, size[0], size[1])));
        let masking = Masking::draw(&[7], model.patches(), 0.75).unwrap();
        let mut cx = Context::new(&params, Mode::Eval);
        let tokens = model.encode(&mut cx, &images, &masking).unwrap();
        assert_eq!(tokens.dims(), [1, 1 + masking.kept(), 384]);
        let predicted = model.decode(&mut cx, &tokens, &masking).unwrap();
        assert_eq!(predicted.dims(), [1, size[0] / 16 * (size[1] / 16), 108]);
    }
    assert_eq!(model.options().input_size, [64, 64]);
    assert!(model.at_size([100, 96]).unwrap_err().to_string().contains("multiples of 16"));
    assert!(model.at_size([16, 16]).is_err(), "one patch cannot be seen and removed");
    assert_eq!(model.options().input_size, [64, 64], "as it was");
}

#[test]
fn a_mask_is_a_function_of_the_images_own_seed() {
    let both = Masking::draw(&[5, 6], 36, 0.75).unwrap();
    let other = Masking::draw(&[6, 9], 36, 0.75).unwrap();
    assert_eq!(both.order()[36..], other.order()[..36]);
    assert_ne!(both.order()[..36], both.order()[36..]);
    assert_eq!(both.removed().iter().filter(|&&flag| flag).count(), 2 * 27);
    // Every patch is removed three times in four.
    let many = Masking::draw(&(0..2000).collect::<Vec<_>>(), 16, 0.75).unwrap().removed();
    for patch in 0..16 {
        let removed = many.iter().skip(patch).step_by(16).filter(|&&flag| flag).count() as f64;
        // Five standard errors of a binomial share.
        assert!(
            (removed / 2000.0 - 0.75).abs() < 5.0 * (0.75f64 * 0.25 / 2000.0).sqrt(),
            "{patch}: {removed}"
        );
    }
}

#[test]
fn checkpointing_gives_the_same_gradients() {
    let model = tiny(TARGETS[2], [64, 64]);
    let params = ParamStore::init(model.specs(), 1, DType::F32, &Device::Cpu).unwrap();
    let images = Variable::constant(channels_last(&model_input(3, 2, 64, 64).narrow(1, 0, 2).unwrap()));
    let masking = Masking::draw(&[1, 2], 16, 0.75).unwrap();
    let run = |checkpoint: bool| {
        let mut cx = Context::new(&params, train()).with_checkpointing(checkpoint);
        let loss = model.loss(&mut cx, &images, &masking).unwrap();
        let mut gradients = Gradients::new(params.len());
        cx.backward(&loss, Tensor::new(1f32, &Device::Cpu).unwrap(), &mut gradients).unwrap();
        gradients.iter().map(|(_, t)| numbers(t)).collect::<Vec<_>>()
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn training_lowers_the_loss() {
    let model = tiny(Target::NormalizedPixels, [64, 64]);
    let params = ParamStore::init(model.specs(), 1, DType::F32, &Device::Cpu).unwrap();
    let zeros = || ParamStore::zeros(model.specs(), DType::F32, &Device::Cpu).unwrap();
    let (mean, square) = (zeros(), zeros());
    let images = Variable::constant(channels_last(&model_input(3, 4, 64, 64).narrow(1, 0, 2).unwrap()));
    let masking = Masking::draw(&[1, 2, 3, 4], 16, 0.75).unwrap();
    let before = loss_of(&model, &params, &images, &masking);
    for step in 1..=60 {
        let mut cx = Context::new(&params, train());
        let loss = model.loss(&mut cx, &images, &masking).unwrap();
        let mut gradients = Gradients::new(params.len());
        cx.backward(&loss, Tensor::new(1f32, &Device::Cpu).unwrap(), &mut gradients).unwrap();
        let numbers = ops::AdamW { lr: 1e-2, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.0, step };
        for (id, gradient) in gradients.iter() {
            ops::adamw_step(params.get(id), gradient, mean.get(id), square.get(id), &numbers).unwrap();
        }
    }
    let after = loss_of(&model, &params, &images, &masking);
    assert!(after < 0.8 * before, "{before} to {after}");
}

#[test]
fn misfits_are_named() {
    let message = |options: MaeOptions| Mae::new("mae_small", &options).unwrap_err().to_string();
    let options = MaeOptions::default;
    assert!(message(MaeOptions { input_size: [90, 96], ..options() }).contains("multiples of 16"));
    assert!(message(MaeOptions { base_size: [0, 96], ..options() }).contains("above 0"));
    let huge = MaeOptions { input_size: [96, usize::MAX & !15], ..options() };
    assert!(message(huge).contains("at most 16384"));
    assert!(message(MaeOptions { mask_ratio: 1.0, ..options() }).contains("mask_ratio of 1"));
    assert!(message(MaeOptions { mask_ratio: f64::NAN, ..options() }).contains("mask_ratio of NaN"));
    assert!(message(MaeOptions { mask_ratio: 0.0, ..options() }).contains("removes none"));
    assert!(message(MaeOptions { in_channels: 0, ..options() }).contains("in_channels"));
    let decoder = Some(TransformerShape { width: 510, heads: 16, depth: 8 });
    assert!(message(MaeOptions { decoder, ..options() }).contains("width of 510 with 16 heads"));
    let hog = Hog { cell: 6, ..Hog::default() };
    assert!(message(MaeOptions { target: Target::Hog(hog), ..options() }).contains("cell: 6"));
    let error = Mae::new("mae_bas", &options()).unwrap_err().to_string();
    assert!(
        error.contains("unknown model `mae_bas`") && error.contains("did you mean `mae_base`"),
        "{error}"
    );

    let model = tiny(Target::Pixels, [32, 32]);
    let params = ParamStore::init(model.specs(), 0, DType::F32, &Device::Cpu).unwrap();
    let images = Variable::constant(Tensor::zeros((2, 32, 32, 2), DType::F32, &Device::Cpu).unwrap());
    for masking in [Masking::draw(&[1], 4, 0.5), Masking::draw(&[1, 2], 9, 0.5)] {
        let mut cx = Context::new(&params, Mode::Eval);
        let error = model.loss(&mut cx, &images, &masking.unwrap()).unwrap_err().to_string();
        assert!(error.contains("expected images ["), "{error}");
    }
    let deit = create_model("deit_small", &ModelOptions::default()).unwrap();
    let other = ParamStore::init(&deit.specs()[..2], 0, DType::F32, &Device::Cpu).unwrap();
    assert!(model.encoder_weights(&other).is_err());
}

#[test]
fn mixed_precision_gives_gradients_in_single_precision_that_point_the_same_way() {
    for target in TARGETS {
        let options = MaeOptions { input_size: [64, 64], target, ..MaeOptions::default() };
        let model = Mae::new("mae_tiny", &options).unwrap();
        let params = ParamStore::init(model.specs(), 5, DType::F32, &Device::Cpu).unwrap();
        let images = Variable::constant(channels_last(&model_input(900, 4, 64, 64)));
        let masking = Masking::draw(&[1, 2, 3, 4], model.patches(), 0.75).unwrap();
        let pass = |dtype: DType| {
            let mut cx = Context::new(&params, train()).with_compute_type(dtype);
            let loss = model.loss(&mut cx, &images, &masking).unwrap();
            let mut gradients = Gradients::new(params.len());
            cx.backward(&loss, Tensor::new(1f32, &Device::Cpu).unwrap(), &mut gradients).unwrap();
            gradients.check_complete(model.name(), model.specs()).unwrap();
            assert!(gradients.iter().all(|(_, g)| g.dtype() == DType::F32), "{target:?} in {dtype:?}");
            (numbers(loss.tensor())[0], gradients.iter().flat_map(|(_, g)| numbers(g)).collect::<Vec<_>>())
        };
        let ((single, a), (half, b)) = (pass(DType::F32), pass(DType::BF16));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        let cosine = dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt();
        assert!(
            (half - single).abs() < 0.01 * single && cosine > 0.99,
            "{target:?}: {half} {single} {cosine}"
        );
    }
}
