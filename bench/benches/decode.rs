//! From an image file to pixels: JPEG in full and at reduced sizes, and PNG.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use efficienttrain::data::{DEFAULT_IMAGE_LIMIT, Divisor, decode, decode_reduced};
use efficienttrain_bench::{file, photo};
use image::ImageFormat;

fn decoding(c: &mut Criterion) {
    let image = photo(500, 375, 0);
    let (jpeg, png) = (file(&image, ImageFormat::Jpeg), file(&image, ImageFormat::Png));
    let mut group = c.benchmark_group("decode 500x375");
    group.throughput(Throughput::Elements(1));
    group.bench_function("JPEG", |b| b.iter(|| decode(&jpeg, "photo", DEFAULT_IMAGE_LIMIT)));
    for part in [2, 4] {
        let divisor: Divisor = &|_| part;
        group.bench_function(format!("JPEG at 1/{part}"), |b| {
            b.iter(|| decode_reduced(&jpeg, "photo", DEFAULT_IMAGE_LIMIT, divisor));
        });
    }
    group.bench_function("PNG", |b| b.iter(|| decode(&png, "photo", DEFAULT_IMAGE_LIMIT)));
    group.finish();
}

criterion_group! {
    name = benches;
    config = efficienttrain_bench::criterion();
    targets = decoding
}
criterion_main!(benches);
