//! Forward and backward of each trainable op, beside what candle itself offers for it.
//!
//! `stock` is the nearest of candle's own that differentiates; where there is none, there is no second line.

use candle_core::{DType, Device, Result as CandleResult, Tensor, Var};
use criterion::{Criterion, criterion_group, criterion_main};
use efficienttrain_models::Result;
use efficienttrain_models::ops::{self, AdamW, BatchStatistics, Conv2dConfig, Traced};

const CPU: &Device = &Device::Cpu;

fn random(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1., shape, CPU).expect("memory")
}

/// Our op on `shapes`, in single and half precision.
fn ours(c: &mut Criterion, name: &str, shapes: &[&[usize]], op: impl Fn(&[Tensor]) -> Result<Traced> + Sync) {
    let inputs: Vec<Tensor> = shapes.iter().map(|shape| random(shape)).collect();
    for (line, dtype) in [("ours", DType::F32), ("ours bf16", DType::BF16)] {
        let mut inputs = inputs.clone();
        inputs[0] = inputs[0].to_dtype(dtype).expect("memory");
        let dy = op(&inputs).expect("a good shape").value.ones_like().expect("memory");
        let mut needs = vec![true; inputs.len()];
        // A training step has no use for the gradient of the images.
        needs[0] = shapes[0].last() != Some(&3);
        c.benchmark_group(name).bench_function(line, |b| {
            // Inside the thread pool, as a model's pass.
            b.iter(|| rayon::scope(|_| (op(&inputs)?.pullback)(&dy, &needs)));
        });
    }
}

fn stock(c: &mut Criterion, name: &str, shapes: &[&[usize]], op: impl Fn(&[Tensor]) -> CandleResult<Tensor>) {
    let inputs: Vec<Var> =
        shapes.iter().map(|shape| Var::from_tensor(&random(shape)).expect("memory")).collect();
    let inputs: Vec<Tensor> = inputs.iter().map(|var| var.as_tensor().clone()).collect();
    c.benchmark_group(name).bench_function("stock candle", |b| {
        b.iter(|| op(&inputs)?.backward());
    });
}

/// Ours takes `[N, H, W, C]`, candle `[N, C, H, W]`.
fn convolution(
    c: &mut Criterion,
    name: &str,
    [size, inputs, outputs]: [usize; 3],
    kernel: usize,
    stride: usize,
) {
    let padding = kernel / 2;
    let weight: &[usize] = &[outputs, inputs, kernel, kernel];
    let config = Conv2dConfig { stride, padding, ..Conv2dConfig::default() };
    ours(c, name, &[&[8, size, size, inputs], weight], |t| ops::conv2d(&t[0], &t[1], None, config));
    stock(c, name, &[&[8, inputs, size, size], weight], |t| t[0].conv2d(&t[1], padding, stride, 1, 1));
}

fn convolutions(c: &mut Criterion) {
    convolution(c, "conv 3x3, 64 to 64 at 56", [56, 64, 64], 3, 1);
    convolution(c, "conv 1x1, 256 to 64 at 56", [56, 256, 64], 1, 1);
    convolution(c, "conv 7x7 stride 2, 3 to 64 at 224", [224, 3, 64], 7, 2);
    let (name, config) =
        ("conv 4x4 stride 4, 3 to 96 at 224", Conv2dConfig { stride: 4, ..Conv2dConfig::default() });
    ours(c, name, &[&[8, 224, 224, 3], &[96, 3, 4, 4]], |t| ops::conv2d(&t[0], &t[1], None, config));
    stock(c, name, &[&[8, 3, 224, 224], &[96, 3, 4, 4]], |t| t[0].conv2d(&t[1], 0, 4, 1, 1));
    let name = "depthwise 7x7, 96 at 56";
    ours(c, name, &[&[8, 56, 56, 96], &[96, 1, 7, 7]], |t| {
        ops::depthwise_conv2d(&t[0], &t[1], None, 3, None)
    });
    stock(c, name, &[&[8, 96, 56, 56], &[96, 1, 7, 7]], |t| t[0].conv2d(&t[1], 3, 1, 1, 96));
}

fn products(c: &mut Criterion) {
    let (name, shapes) = ("linear 384 to 1536, 1576 rows", [&[8, 197, 384][..], &[1536, 384], &[1536]]);
    ours(c, name, &shapes, |t| ops::linear(&t[0], &t[1], Some(&t[2])));
    stock(c, name, &shapes, |t| t[0].broadcast_matmul(&t[1].t()?)?.broadcast_add(&t[2]));
    let name = "attention, 6 heads of 64, 197 tokens";
    ours(c, name, &[&[8, 197, 3 * 384]], |t| ops::attention(&t[0], 6));
    stock(c, name, &[&[8, 197, 3 * 384]], |t| {
        let qkv = t[0].reshape((8, 197, 3, 6, 64))?.permute((2, 0, 3, 1, 4))?;
        let part = |i: usize| qkv.get(i)?.contiguous();
        let scores = (part(0)?.matmul(&part(1)?.t()?)? * 0.125)?;
        candle_nn::ops::softmax(&scores, 3)?.matmul(&part(2)?)
    });
}

fn norms(c: &mut Criterion) {
    let (name, shapes) = ("layer norm of 384, 1576 rows", [&[8, 197, 384][..], &[384], &[384]]);
    ours(c, name, &shapes, |t| ops::layer_norm(&t[0], &t[1], Some(&t[2]), 1e-6));
    stock(c, name, &shapes, |t| candle_nn::ops::layer_norm_slow(&t[0], &t[1], &t[2], 1e-6));
    let name = "batch norm of 64 at 56";
    ours(c, name, &[&[8, 56, 56, 64], &[64], &[64]], |t| {
        let statistics = BatchStatistics::of(&t[0])?;
        ops::batch_norm(&t[0], &t[1], &t[2], None, false, &statistics, true, 1e-5)
    });
    stock(c, name, &[&[8, 64, 56, 56], &[1, 64, 1, 1], &[1, 64, 1, 1]], |t| {
        let mean = t[0].mean_keepdim((0, 2, 3))?;
        let centred = t[0].broadcast_sub(&mean)?;
        let deviation = (centred.sqr()?.mean_keepdim((0, 2, 3))? + 1e-5)?.sqrt()?;
        centred.broadcast_div(&deviation)?.broadcast_mul(&t[1])?.broadcast_add(&t[2])
    });
}

fn element_wise(c: &mut Criterion) {
    let hidden: &[usize] = &[8, 197, 1536];
    ours(c, "gelu of 2.4 M", &[hidden], |t| ops::gelu(&t[0]));
    stock(c, "gelu of 2.4 M", &[hidden], |t| t[0].gelu_erf());
    ours(c, "silu of 2.4 M", &[hidden], |t| ops::silu(&t[0]));
    stock(c, "silu of 2.4 M", &[hidden], |t| t[0].silu());
    ours(c, "star relu of 2.4 M", &[hidden, &[1], &[1]], |t| ops::star_relu(&t[0], &t[1], &t[2]));
    stock(c, "star relu of 2.4 M", &[hidden, &[1], &[1]], |t| {
        t[0].relu()?.sqr()?.broadcast_mul(&t[1])?.broadcast_add(&t[2])
    });
    let tokens: &[usize] = &[8, 56, 56, 96];
    ours(c, "residual with layer scale, 96 at 56", &[tokens, tokens, &[96]], |t| {
        let scales = ops::Scales { branch: Some(t[2].clone()), ..ops::Scales::default() };
        ops::residual(&t[0], &t[1], scales)
    });
    stock(c, "residual with layer scale, 96 at 56", &[tokens, tokens, &[96]], |t| {
        &t[0] + t[1].broadcast_mul(&t[2])?
    });
    // Candle's own max-pool refuses to differentiate here.
    ours(c, "max-pool 3x3 stride 2, 64 at 112", &[&[8, 112, 112, 64]], |t| ops::max_pool2d(&t[0], 3, 2, 1));
    ours(c, "global average of 2048 at 7", &[&[8, 7, 7, 2048]], |t| ops::global_avg_pool(&t[0]));
    stock(c, "global average of 2048 at 7", &[&[8, 2048, 7, 7]], |t| t[0].mean((2, 3)));
}

fn adamw(c: &mut Criterion) {
    use candle_nn::Optimizer;

    let tensors = || -> Vec<Tensor> { (0..22).map(|_| random(&[1000, 1000])).collect() };
    let (params, grads) = (tensors(), tensors());
    let zeros = || -> Vec<Tensor> { params.iter().map(|p| p.zeros_like().expect("memory")).collect() };
    let (first, second) = (zeros(), zeros());
    let rule = AdamW { lr: 1e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.05, step: 1 };
    let mut group = c.benchmark_group("AdamW of 22 M");
    group.bench_function("ours", |b| {
        b.iter(|| {
            let moments = first.iter().zip(&second);
            let mut all = params.iter().zip(&grads).zip(moments);
            all.try_for_each(|((p, g), (m, v))| ops::adamw_step(p, g, m, v, &rule))
        });
    });
    let vars: Vec<Var> = params.iter().map(|p| Var::from_tensor(p).expect("memory")).collect();
    let sum = |vars: &[Var]| -> CandleResult<_> {
        let terms = vars.iter().map(|var| var.sum_all()).collect::<CandleResult<Vec<_>>>()?;
        Tensor::stack(&terms, 0)?.sum_all()?.backward()
    };
    let grads = sum(&vars).expect("memory");
    let mut optimiser = candle_nn::AdamW::new_lr(vars, 1e-4).expect("memory");
    group.bench_function("stock candle", |b| b.iter(|| optimiser.step(&grads)));
}

criterion_group! {
    name = benches;
    config = efficienttrain_bench::criterion();
    targets = convolutions, products, norms, element_wise, adamw
}
criterion_main!(benches);
