//! Preprocessing of a training image without decoding: crop, RandAugment, normalization, on one
//! thread.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use image::{Rgb, RgbImage};
use randaug::{
    CropBox, Filter, Layout, Normalize, Purpose, RandAugment, RandomResizedCrop, Scratch, resize_crop_into,
    sample_rng,
};

fn image(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(x * 3 + y) as u8, (x ^ y) as u8, (x * y / 7) as u8]))
}

fn crops(c: &mut Criterion) {
    let (photo, mut scratch) = (image(500, 375), Scratch::new());
    let mut group = c.benchmark_group("random resized crop of 500x375");
    group.throughput(Throughput::Elements(1));
    for size in [96, 160, 224] {
        let mut index = 0;
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                index += 1;
                let rng = &mut sample_rng(0, 0, index, Purpose::Crop);
                RandomResizedCrop::default().apply(&photo, size, rng, &mut scratch)
            });
        });
    }
    group.finish();
}

fn resizes(c: &mut Criterion) {
    let (base, mut scratch) = (image(224, 224), Scratch::new());
    let mut group = c.benchmark_group("Lanczos resize of 224x224");
    group.throughput(Throughput::Elements(1));
    for size in [96, 160] {
        let mut small = RgbImage::new(size, size);
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                let whole = CropBox::whole(&base);
                resize_crop_into(&base, whole, Filter::Lanczos, &mut small, &mut scratch)
            });
        });
    }
    group.finish();
}

fn augmentation(c: &mut Criterion) {
    let mut scratch = Scratch::new();
    let mut group = c.benchmark_group("RandAugment and normalization");
    group.throughput(Throughput::Elements(1));
    for (size, magnitude) in [(96, 1.0), (160, 4.0), (224, 9.0)] {
        let (start, mut out) = (image(size, size), vec![0.0; (size * size * 3) as usize]);
        let mut index = 0;
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter_batched_ref(
                || start.clone(),
                |image| {
                    index += 1;
                    let rng = &mut sample_rng(0, 0, index, Purpose::Augment);
                    RandAugment::default().apply(image, magnitude, rng, &mut scratch)?;
                    Normalize::default().apply(image, Layout::Hwc, &mut out)
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = efficienttrain_bench::criterion();
    targets = crops, resizes, augmentation
}
criterion_main!(benches);
