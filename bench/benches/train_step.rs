//! Forward and backward passes of whole models at the sizes of a curriculum.

use candle_core::{DType, Device, Result, Tensor};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use efficienttrain_models::{
    Context, Gradients, Mode, ModelOptions, ParamStore, Variable, create_model, ops,
};

const BATCH: usize = 8;
/// The smallest model of each family, and the two that other pages give figures of.
const FAMILIES: [&str; 9] = [
    "resnet18",
    "resnet50",
    "deit_tiny",
    "deit_small",
    "swin_tiny",
    "cswin_tiny",
    "pvt_tiny",
    "convnext_tiny",
    "caformer_s18",
];

fn passes(c: &mut Criterion) {
    for name in FAMILIES {
        let mut group = c.benchmark_group(format!("{name}, batch {BATCH}"));
        group.throughput(Throughput::Elements(BATCH as u64)).sampling_mode(SamplingMode::Flat);
        for size in [96, 224] {
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                let options =
                    ModelOptions { num_classes: 1000, input_size: [size; 2], ..ModelOptions::default() };
                let model = create_model(name, &options).expect("a known model");
                let params = ParamStore::init(model.specs(), 0, DType::F32, &Device::Cpu).expect("memory");
                let (images, targets) = inputs(size).expect("memory");
                b.iter(|| {
                    let mut cx = Context::new(&params, Mode::Train { seed: 0, drop_path: 0.0 });
                    let logits = model.forward(&mut cx, &images)?;
                    let loss = cx.record(&[&logits], ops::soft_cross_entropy(logits.tensor(), &targets)?);
                    let mut gradients = Gradients::new(params.len());
                    cx.backward(&loss, Tensor::new(1f32, &Device::Cpu)?, &mut gradients)
                });
            });
        }
        group.finish();
    }
}

fn inputs(size: usize) -> Result<(Variable, Tensor)> {
    let images = Tensor::rand(-1f32, 1., (BATCH, size, size, 3), &Device::Cpu)?;
    Ok((Variable::constant(images), Tensor::full(1e-3f32, (BATCH, 1000), &Device::Cpu)?))
}

criterion_group! {
    name = benches;
    config = efficienttrain_bench::criterion();
    targets = passes
}
criterion_main!(benches);
