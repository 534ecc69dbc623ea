//! Tests for a GPU only: whole models in all precisions, optimizers over many tensors, and that
//! nothing is written if it does not belong. Nothing runs if there is no GPU; the ops are
//! compared by the tests of the ops.

mod common;

use candle_core::{DType, Device, Tensor};
use common::gradients::filled;
use common::{gpu, max_difference, model_input, numbers};
use efficienttrain_models::hog::Hog;
use efficienttrain_models::mae::{Mae, MaeOptions, Masking, Target, TransformerShape};
use efficienttrain_models::ops::{self, Stepped};
use efficienttrain_models::{
    Backbone, Context, Gradients, Mode, Model, ModelOptions, ParamSpec, ParamStore, Variable, create_model,
};
#[cfg(feature = "cuda")]
use efficienttrain_models::{Error, ops::cuda};

/// One of each family.
const MODELS: [&str; 7] =
    ["resnet10", "deit_tiny", "swin_tiny", "convnext_tiny", "caformer_s18", "cswin_tiny", "pvt_tiny"];

fn pass(model: &dyn Backbone, params: &ParamStore, dtype: DType) -> (f64, Gradients) {
    let device = params.iter().next().unwrap().1.device().clone();
    let mut cx = Context::new(params, Mode::Train { seed: 3, drop_path: 0.1 }).with_compute_type(dtype);
    let x = model_input(5, 2, 64, 64).permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
    let targets = Tensor::eye(10, DType::F32, &Device::Cpu).unwrap().narrow(0, 0, 2).unwrap();
    let targets = targets.contiguous().unwrap().to_device(&device).unwrap();
    let logits = model.forward(&mut cx, &Variable::constant(x.to_device(&device).unwrap())).unwrap();
    assert_eq!(logits.tensor().dtype(), dtype);
    let loss = cx.record(&[&logits], ops::soft_cross_entropy(logits.tensor(), &targets).unwrap());
    back(cx, &loss, (model.name(), model.specs()))
}

/// A loss and its gradients, which reach every parameter.
fn back(cx: Context, loss: &Variable, (name, specs): (&str, &[ParamSpec])) -> (f64, Gradients) {
    let mut gradients = Gradients::new(specs.len());
    let value = numbers(loss.tensor())[0];
    let seed = Tensor::new(1f32, &Device::Cpu).unwrap().to_device(&cx.device()).unwrap();
    cx.backward(loss, seed, &mut gradients).unwrap();
    gradients.check_complete(name, specs).unwrap();
    (value, gradients)
}

fn reconstruct(mae: &Mae, params: &ParamStore, dtype: DType) -> (f64, Gradients) {
    let mut cx = Context::new(params, Mode::Train { seed: 3, drop_path: 0.0 }).with_compute_type(dtype);
    let [h, w] = mae.options().input_size;
    let x = model_input(5, 3, h, w).permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
    let masking = Masking::draw(&[1, 2, 3], mae.patches(), mae.mask_ratio()).unwrap();
    let images = Variable::constant(x.to_device(&cx.device()).unwrap());
    let loss = mae.loss(&mut cx, &images, &masking).unwrap();
    assert_eq!(loss.tensor().dtype(), DType::F32);
    back(cx, &loss, (mae.name(), mae.specs()))
}

fn all(gradients: &Gradients) -> Vec<f64> {
    gradients.iter().flat_map(|(_, g)| numbers(g)).collect()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    product(a, b) / (product(a, a) * product(b, b)).sqrt()
}

#[test]
fn models_train_as_on_the_cpu_in_every_precision() {
    let Some(gpu) = gpu() else { return };
    for name in MODELS {
        let options = ModelOptions { num_classes: 10, input_size: [64; 2], ..ModelOptions::default() };
        let model = create_model(name, &options).unwrap();
        let params = || ParamStore::init(model.specs(), 1, DType::F32, &Device::Cpu).unwrap();
        let (want, gradients) = pass(&*model, &params(), DType::F32);
        let want_all = all(&gradients);
        let precisions = [(DType::F32, 1e-4, 0.9999), (DType::BF16, 0.02, 0.97), (DType::F16, 0.01, 0.99)];
        // Half precision differs from bfloat16 in its range and its places alone: two models will
        // do.
        let count = if ["resnet10", "swin_tiny"].contains(&name) { 3 } else { 2 };
        for (dtype, most, least) in precisions.into_iter().take(count) {
            let params = params().to_device(&gpu).unwrap();
            let (loss, gradients) = pass(&*model, &params, dtype);
            assert!((loss - want).abs() < most * want, "{name}, {dtype:?}: {loss}, on the CPU {want}");
            assert!(gradients.iter().all(|(_, g)| g.dtype() == DType::F32), "{name}");
            let cosine = cosine(&all(&gradients), &want_all);
            assert!(cosine > least, "{name}, {dtype:?}: the cosine of the gradients is {cosine}");
        }
    }
}

#[test]
fn masked_autoencoders_train_as_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let encoder = TransformerShape { width: 48, heads: 3, depth: 3 };
    for target in [Target::NormalizedPixels, Target::Pixels, Target::Hog(Hog::default())] {
        let options = MaeOptions {
            input_size: [48, 64],
            base_size: [64, 64],
            target,
            decoder: Some(TransformerShape { width: 32, heads: 2, depth: 2 }),
            ..MaeOptions::default()
        };
        let mae = Mae::with_encoder("mae_test", encoder, &options).unwrap();
        let params = ParamStore::init(mae.specs(), 1, DType::F32, &Device::Cpu).unwrap();
        let there = params.to_device(&gpu).unwrap();
        let (want, gradients) = reconstruct(&mae, &params, DType::F32);
        let want_all = all(&gradients);
        for (dtype, most, least) in
            [(DType::F32, 1e-4, 0.9999), (DType::BF16, 0.02, 0.97), (DType::F16, 0.01, 0.99)]
        {
            let (loss, gradients) = reconstruct(&mae, &there, dtype);
            assert!((loss - want).abs() < most * want, "{target:?}, {dtype:?}: {loss}, on the CPU {want}");
            let cosine = cosine(&all(&gradients), &want_all);
            assert!(cosine > least, "{target:?}, {dtype:?}: the cosine of the gradients is {cosine}");
        }
    }
}

#[test]
fn targets_are_those_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let images = model_input(9, 2, 48, 32).permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
    let there = images.to_device(&gpu).unwrap();
    let hogs = [Hog::default(), Hog { bins: 7, cell: 4, window: 0 }, Hog { bins: 15, cell: 16, window: 8 }];
    for target in hogs.map(Target::Hog).into_iter().chain([Target::NormalizedPixels, Target::Pixels]) {
        let (want, got) = (target.of(&images, 16).unwrap(), target.of(&there, 16).unwrap());
        assert_eq!(got.dims(), want.dims());
        let off = max_difference(&numbers(&got), &numbers(&want));
        assert!(off < 2e-6, "{target:?} is off by {off}");
    }
    let huge = Hog { bins: 9, cell: 96, window: 0 };
    let images = Tensor::zeros((1, 96, 96, 1), DType::F32, &Device::Cpu).unwrap().to_device(&gpu).unwrap();
    assert!(huge.cells(&images).unwrap_err().to_string().contains("96x96"));
}

/// Parameters of many lengths, one of more than a piece, with gradients, what optimizers keep, and
/// averages.
fn tensors(device: &Device) -> Vec<[Tensor; 5]> {
    let shapes: [&[usize]; 4] = [&[3, 5], &[1], &[91, 97], &[20_000]];
    let one = |shape: &&[usize], i: usize| {
        let t = filled(&format!("{i}.{shape:?}"), shape);
        let t = if i == 3 { t.abs().unwrap() } else { t };
        t.to_dtype(DType::F32).unwrap().to_device(device).unwrap()
    };
    shapes.iter().map(|shape| [0, 1, 2, 3, 4].map(|i| one(shape, i))).collect()
}

fn stepped(tensors: &[[Tensor; 5]]) -> Vec<Stepped<'_>> {
    let rates = [(0.1, 0.0), (0.2, 0.3), (0.05, 0.1), (0.1, 0.02)];
    let pairs = tensors.iter().zip(rates);
    pairs
        .map(|([param, grad, a, b, average], (lr, weight_decay))| Stepped {
            param,
            grad,
            kept: [a, b],
            lr,
            weight_decay,
            // Not all of them have an average, or the same decay.
            average: (lr != 0.2).then_some(ops::Average { tensor: average, decay: 1.0 - lr }),
        })
        .collect()
}

#[test]
fn optimisers_take_the_steps_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let adam = |step| ops::AdamW { lr: 0.0, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.0, step };
    let lamb = |step| ops::Lamb {
        lr: 0.0,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-6,
        weight_decay: 0.0,
        step,
        always_adapt: step == 2,
        trust_clip: step == 3,
    };
    let sgd = |step| ops::Sgd { lr: 0.0, momentum: 0.9, nesterov: step < 3, weight_decay: 0.0, step };
    for kind in ["adamw", "lamb", "sgd"] {
        let states = [tensors(&Device::Cpu), tensors(&gpu)];
        for step in 1..4 {
            for state in &states {
                let tensors = stepped(state);
                let grads: Vec<&Tensor> = tensors.iter().map(|t| t.grad).collect();
                let loss = Tensor::new(1f32, &Device::Cpu).unwrap().to_device(grads[0].device()).unwrap();
                let limits = ops::NormLimits { clip: Some(20.0), optimizer: Some(7.0) };
                let factor = ops::clip_factor(&grads, Some(&loss), 0.5, limits).unwrap();
                match kind {
                    "adamw" => ops::adamw_all(&tensors, &adam(step), Some(&factor)).unwrap(),
                    "lamb" => ops::lamb_all(&tensors, &lamb(step), Some(&factor)).unwrap(),
                    _ => ops::sgd_all(&tensors, &sgd(step), Some(&factor)).unwrap(),
                }
                // On the CPU the factor was multiplied into the gradients: the next step starts
                // from the same ones.
                for (t, fresh) in state.iter().zip(self::tensors(grads[0].device())) {
                    ops::scale_by(&t[1], 0.0).unwrap();
                    ops::accumulate(&t[1], &fresh[1]).unwrap();
                }
            }
        }
        for (a, b) in states[0].iter().flatten().zip(states[1].iter().flatten()) {
            let off = max_difference(&numbers(a), &numbers(b));
            assert!(off < 2e-5, "{kind}, {:?}: off by {off}", a.dims());
        }
    }
}

#[test]
fn a_bad_step_changes_nothing() {
    let Some(gpu) = gpu() else { return };
    let mut state = tensors(&gpu);
    let before: Vec<Vec<f64>> = state.iter().flatten().map(numbers).collect();
    let good = state[1][1].clone();
    for (loss, grad) in [(f32::NAN, 1.0), (1.0, f32::INFINITY)] {
        state[1][1] = Tensor::new(&[grad], &Device::Cpu).unwrap().to_device(&gpu).unwrap();
        let loss = Tensor::new(loss, &Device::Cpu).unwrap().to_device(&gpu).unwrap();
        let tensors = stepped(&state);
        let grads: Vec<&Tensor> = tensors.iter().map(|t| t.grad).collect();
        let factor = ops::clip_factor(&grads, Some(&loss), 1.0, ops::NormLimits::default()).unwrap();
        assert_eq!(factor.read().unwrap().factor, 0.0);
        let rule = ops::AdamW { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1, step: 1 };
        ops::adamw_all(&tensors, &rule, Some(&factor)).unwrap();
        let pairs: Vec<(&Tensor, &Tensor)> = tensors.iter().map(|t| (t.kept[0], t.kept[1])).collect();
        ops::blend_all(&pairs, 0.5, Some(&factor)).unwrap();
    }
    state[1][1] = good;
    let after: Vec<Vec<f64>> = state.iter().flatten().map(numbers).collect();
    assert!(before == after);
}

#[test]
fn running_statistics_follow_as_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let x = filled("x", &[700, 33]).to_dtype(DType::F32).unwrap();
    let running = |device: &Device| {
        let mean = filled("mean", &[33]).to_dtype(DType::F32).unwrap().to_device(device).unwrap();
        let variance = filled("variance", &[33]).sqr().unwrap().to_dtype(DType::F32).unwrap();
        let variance = variance.to_device(device).unwrap();
        let statistics = ops::BatchStatistics::of(&x.to_device(device).unwrap()).unwrap();
        statistics.observe(&mean, &variance, 0.1).unwrap();
        [numbers(&mean), numbers(&variance)].concat()
    };
    assert!(max_difference(&running(&Device::Cpu), &running(&gpu)) < 1e-6);
    let counter = Tensor::new(41i64, &Device::Cpu).unwrap().to_device(&gpu).unwrap();
    ops::increment(&counter).unwrap();
    assert_eq!(numbers(&counter), [42.0]);
}

/// A grid may be long in its first dimension alone: early stages of a curriculum have large batches
/// of small windows.
#[test]
fn attention_takes_more_groups_than_a_grid_is_wide() {
    let Some(gpu) = gpu() else { return };
    const GROUPS: usize = 65_537;
    let qkv = filled("groups", &[GROUPS, 1, 3]).to_dtype(DType::F32).unwrap();
    let dy = filled("gradients", &[GROUPS, 1, 1]).to_dtype(DType::F32).unwrap();
    let traced = ops::attention(&qkv.to_device(&gpu).unwrap(), 1).unwrap();
    // Of one token alone the result is its value.
    let values: Vec<f64> = numbers(&qkv).chunks(3).map(|token| token[2]).collect();
    assert!(max_difference(&numbers(&traced.value), &values) < 1e-6);
    let grads = (traced.pullback)(&dy.to_device(&gpu).unwrap(), &[true]).unwrap();
    let wanted: Vec<f64> = numbers(&dy).iter().flat_map(|&dy| [0.0, 0.0, dy]).collect();
    assert!(max_difference(&numbers(grads[0].as_ref().unwrap()), &wanted) < 1e-6);
}

/// Gives up after far more looks than a sum needs.
#[cfg(feature = "cuda")]
fn patience() -> impl FnMut() -> Result<(), Error> {
    let mut looks = 0;
    move || {
        looks += 1;
        std::thread::sleep(std::time::Duration::from_micros(50));
        if looks > 200_000 { Err(Error::Device { what: "NCCL is late".into() }) } else { Ok(()) }
    }
}

/// On an emulated GPU there is an emulated NCCL as well; on a real one it may not be installed.
#[cfg(feature = "cuda")]
fn has_nccl() -> bool {
    let found = cuda::Nccl::version();
    assert!(found.is_ok() || std::env::var_os("EFFICIENTTRAIN_PRETEND_GPU_MIB").is_none(), "{found:?}");
    found.is_ok()
}

/// A process alone: the sum is what there was, and everything else happens as among several.
#[cfg(feature = "cuda")]
#[test]
fn nccl_adds_up_buckets_on_a_stream_of_its_own() {
    let Some(gpu) = gpu().filter(|_| has_nccl()) else { return };
    let id = cuda::Nccl::unique_id().unwrap();
    let mut nccl = cuda::Nccl::join(&gpu, &id, 0, 1, &mut patience()).unwrap();
    for (dtype, most) in [(DType::F32, 0.0), (DType::BF16, 0.004)] {
        let values = [filled("a", &[10, 10]), filled("b", &[300])];
        let flat = Tensor::zeros(512, dtype, &gpu).unwrap();
        for (values, offset) in values.iter().zip([64, 192]) {
            let values = values.to_dtype(DType::F32).unwrap().to_device(&gpu).unwrap();
            cuda::write_part(&flat, offset, &values).unwrap();
        }
        // It must neither be freed nor waited for by the drop.
        drop(nccl.all_reduce(Tensor::zeros(64, dtype, &gpu).unwrap(), &mut patience()).unwrap());
        let pending = nccl.all_reduce(flat, &mut patience()).unwrap();
        let sum = numbers(&nccl.wait(pending, &mut patience()).unwrap());
        for (values, offset) in values.iter().zip([64, 192]) {
            let values = numbers(values);
            let off = max_difference(&sum[offset..offset + values.len()], &values);
            assert!(off <= most, "{dtype:?}: off by {off}");
        }
        let gaps = [&sum[..64], &sum[164..192], &sum[492..]].concat();
        assert!(gaps.iter().all(|&gap| gap == 0.0), "{dtype:?}: {gaps:?}");
    }
    let integers = Tensor::zeros(64, DType::U32, &gpu).unwrap();
    let error = nccl.all_reduce(integers, &mut patience()).unwrap_err().to_string();
    assert!(error.contains("U32"), "{error}");
    let error = cuda::Nccl::join(&gpu, &id[..100], 0, 1, &mut patience()).unwrap_err().to_string();
    assert!(error.contains("128 bytes"), "{error}");
}

/// A sum begins after the work that was queued before it: once it is there, so is that.
#[cfg(feature = "cuda")]
#[test]
fn a_sum_waits_for_the_work_before_it() {
    let Some(gpu) = gpu().filter(|_| has_nccl()) else { return };
    let id = cuda::Nccl::unique_id().unwrap();
    let mut nccl = cuda::Nccl::join(&gpu, &id, 0, 1, &mut patience()).unwrap();
    // Much work for a GPU, little for an emulated one.
    let len = if cfg!(debug_assertions) { 1 << 12 } else { 1 << 26 };
    let x = Tensor::zeros(len, DType::F32, &gpu).unwrap();
    let flat = Tensor::zeros(1 << 10, DType::F32, &gpu).unwrap();
    for _ in 0..100 {
        ops::accumulate(&x, &x).unwrap();
    }
    let before = gpu.as_cuda_device().unwrap().cuda_stream().record_event(None).unwrap();
    let sum = nccl.all_reduce(flat, &mut patience()).unwrap();
    nccl.wait(sum, &mut patience()).unwrap();
    assert!(before.is_complete());
}

/// A process that does not come is waited for as long as the caller likes.
#[cfg(feature = "cuda")]
#[test]
fn nccl_waits_for_others_no_longer_than_it_is_told() {
    let Some(gpu) = gpu().filter(|_| has_nccl()) else { return };
    let mut looks = 0;
    let mut pause = || {
        looks += 1;
        std::thread::sleep(std::time::Duration::from_millis(1));
        if looks > 100 { Err(Error::Device { what: "no more patience".into() }) } else { Ok(()) }
    };
    let id = cuda::Nccl::unique_id().unwrap();
    let error = cuda::Nccl::join(&gpu, &id, 0, 2, &mut pause).unwrap_err().to_string();
    assert_eq!(error, "no more patience");
}

/// Both halves of a pass run on the thread that asks for them: what belongs to a thread (cuDNN's
/// handles and plans) is made once.
#[test]
fn a_pass_stays_on_its_thread() {
    let Some(gpu) = gpu() else { return };
    let model = create_model(
        "resnet10",
        &ModelOptions { num_classes: 10, input_size: [32; 2], ..ModelOptions::default() },
    );
    let model = model.unwrap();
    let params =
        ParamStore::init(model.specs(), 1, DType::F32, &Device::Cpu).unwrap().to_device(&gpu).unwrap();
    let here = std::thread::current().id();
    let mut cx = Context::new(&params, Mode::Train { seed: 3, drop_path: 0.0 });
    let x = Tensor::zeros((2, 32, 32, 3), DType::F32, &gpu).unwrap();
    let logits = model.forward(&mut cx, &Variable::constant(x)).unwrap();
    let value = logits.tensor().clone();
    let pullback = move |dy: &Tensor, _: &[bool]| {
        assert_eq!(std::thread::current().id(), here);
        Ok(vec![Some(dy.clone())])
    };
    let same = cx.record(&[&logits], ops::Traced::new(value.clone(), pullback));
    cx.backward(&same, value, &mut Gradients::new(params.len())).unwrap();
}
