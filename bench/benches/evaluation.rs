//! Evaluation of JPEG files in memory: loader, forward pass, accuracy.

use std::sync::Arc;

use candle_core::{DType, Device};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use efficienttrain::data::EvalPipeline;
use efficienttrain::inference::evaluate::evaluate;
use efficienttrain_bench::Photos;
use efficienttrain_models::{ModelOptions, ParamStore, create_model};

const IMAGES: u32 = 32;

fn evaluation(c: &mut Criterion) {
    let photos = Arc::new(Photos::new(IMAGES));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let mut group = c.benchmark_group("evaluation at 160");
    group.throughput(Throughput::Elements(u64::from(IMAGES)));
    for name in ["resnet18", "deit_tiny"] {
        let options = ModelOptions { num_classes: 2, input_size: [160; 2], ..ModelOptions::default() };
        let model = create_model(name, &options).expect("a known model");
        let params = ParamStore::init(model.specs(), 0, DType::F32, &Device::Cpu).expect("memory");
        let pipeline = EvalPipeline::new(160);
        group.bench_function(name, |b| {
            b.iter(|| evaluate(&*model, &params, photos.clone(), &pipeline, 16, workers).map(|_| ()));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = efficienttrain_bench::criterion();
    targets = evaluation
}
criterion_main!(benches);
