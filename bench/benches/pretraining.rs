//! Masked-autoencoder pre-training: the histograms of gradients, and both passes of a step.

use candle_core::{DType, Device, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use efficienttrain_models::mae::{Mae, MaeOptions, Masking};
use efficienttrain_models::{Context, Gradients, Mode, Model, ParamStore, Variable, hog::Hog};

const BATCH: usize = 8;

fn pretraining(c: &mut Criterion) {
    let mut group = c.benchmark_group("pre-training of mae_small, batch 8");
    group.throughput(Throughput::Elements(BATCH as u64));
    for size in [96, 224] {
        let images = Tensor::rand(-1f32, 1., (BATCH, size, size, 3), &Device::Cpu).expect("memory");
        group.bench_function(BenchmarkId::new("HOG", size), |b| {
            b.iter(|| Hog::default().patches(&images, 16));
        });
        let options = MaeOptions { input_size: [size; 2], ..MaeOptions::default() };
        let model = Mae::new("mae_small", &options).expect("a known model");
        let params = ParamStore::init(model.specs(), 0, DType::F32, &Device::Cpu).expect("memory");
        let seeds: Vec<u64> = (0..BATCH as u64).collect();
        let masking = Masking::draw(&seeds, model.patches(), model.mask_ratio()).expect("patches are left");
        let images = Variable::constant(images);
        group.bench_function(BenchmarkId::new("passes", size), |b| {
            b.iter(|| {
                let mut cx = Context::new(&params, Mode::Train { seed: 0, drop_path: 0.0 });
                let loss = model.loss(&mut cx, &images, &masking)?;
                let mut gradients = Gradients::new(params.len());
                cx.backward(&loss, Tensor::new(1f32, &Device::Cpu)?, &mut gradients)
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = efficienttrain_bench::criterion();
    targets = pretraining
}
criterion_main!(benches);
