//! The loader from JPEG files in memory to batches, with one worker and with one for each core.

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use efficienttrain::config::TrainConfig;
use efficienttrain::data::{BatchRequest, Loader, TrainPipeline, ViewSpec};
use efficienttrain_bench::Photos;
use efficienttrain_schedule::Order;

const IMAGES: usize = 64;
const BATCH: usize = 16;

fn loading(c: &mut Criterion) {
    let config = TrainConfig::default();
    let recipe = config.recipe().expect("the default is a recipe");
    let (photos, pipeline) = (Arc::new(Photos::new(IMAGES as u32)), TrainPipeline::new(&config, &recipe));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for (size, magnitude) in [(96, 1.0), (224, 9.0)] {
        let view = ViewSpec { size, magnitude, order: Order::CropThenAugment };
        let mut group = c.benchmark_group(format!("loader at {size}"));
        group.throughput(Throughput::Elements(IMAGES as u64));
        for workers in if cores > 1 { vec![1, cores] } else { vec![1] } {
            group.bench_function(BenchmarkId::new("workers", workers), |b| {
                b.iter(|| {
                    let first = move |i: usize| BatchRequest::fresh_images((i * BATCH) as u64, BATCH, view);
                    let requests = (0..IMAGES / BATCH).map(first);
                    let mut loader = Loader::train(photos.clone(), pipeline.clone(), requests, workers)?;
                    loader.try_for_each(|batch| batch.map(|_| ()))
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = efficienttrain_bench::criterion();
    targets = loading
}
criterion_main!(benches);
