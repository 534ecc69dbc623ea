//! The crop of 3x224x224 images to the sizes of the curriculum, one thread, every entry and
//! backend.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use freqcrop::{Backend, FrequencyCrop, Lanczos, Layout, LowPass, Scratch};

const SIDE: usize = 224;

fn image() -> Vec<u8> {
    (0..SIDE * SIDE * 3).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn crops(c: &mut Criterion) {
    let bytes = image();
    let floats: Vec<f32> = bytes.iter().map(|&b| f32::from(b) / 255.0).collect();
    let mut group = c.benchmark_group("freqcrop 3x224x224");
    group.throughput(Throughput::Elements(1));
    for size in [96, 128, 160, 192] {
        let (mut out, mut out8) = (vec![0.0; 3 * size * size], vec![0; 3 * size * size]);
        let mut scratch = Scratch::new();
        for backend in [Backend::Separable, Backend::Fft] {
            let plan =
                FrequencyCrop::<f32>::with_backend((SIDE, SIDE), (size, size), backend).expect("valid sizes");
            for layout in [Layout::Chw, Layout::Hwc] {
                group.bench_function(BenchmarkId::new(format!("{backend:?} {layout:?} f32"), size), |b| {
                    b.iter(|| plan.apply_slice_with(layout, 3, black_box(&floats), &mut out, &mut scratch));
                });
            }
            group.bench_function(BenchmarkId::new(format!("{backend:?} Hwc u8"), size), |b| {
                b.iter(|| plan.apply_rgb8_with(black_box(&bytes), &mut out8, &mut scratch));
            });
        }
        let lanczos = Lanczos::new((SIDE, SIDE), (size, size)).expect("valid sizes");
        group.bench_function(BenchmarkId::new("Lanczos Hwc u8", size), |b| {
            b.iter(|| lanczos.apply_u8_into(3, black_box(&bytes), &mut out8));
        });
        let filter = LowPass::<f32>::new((SIDE, SIDE), (size, size)).expect("valid sizes");
        let mut same = vec![0.0; floats.len()];
        group.bench_function(BenchmarkId::new("LowPass Chw f32", size), |b| {
            b.iter(|| filter.apply_slice_with(Layout::Chw, 3, black_box(&floats), &mut same, &mut scratch));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = efficienttrain_bench::criterion();
    targets = crops
}
criterion_main!(benches);
