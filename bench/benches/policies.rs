//! Augmentation policies of whole images, and mixup and CutMix of batches, on one thread.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use efficienttrain_bench::photo;
use randaug::{BatchShape, Layout, Mix, MixBox, Policy, Purpose, Scratch, mix_batch, sample_rng};

fn policies(c: &mut Criterion) {
    let (image, mut scratch) = (photo(224, 224, 0), Scratch::new());
    let mut group = c.benchmark_group("policy at 224");
    group.throughput(Throughput::Elements(1));
    for name in ["rand-m9-mstd0.5-inc1", "original", "v0", "3a", "augmix-m3", "ta_wide"] {
        let policy: Policy = name.parse().expect("a known policy");
        let mut index = 0;
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || image.clone(),
                |image| {
                    index += 1;
                    policy.apply(image, None, &mut sample_rng(0, 0, index, Purpose::Augment), &mut scratch)
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn mixing(c: &mut Criterion) {
    let (n, edge) = (64, 224);
    let shape = BatchShape { batch: n, channels: 3, height: edge, width: edge, layout: Layout::Hwc };
    let (mut batch, mut buffer) = (vec![0.5; n * edge * edge * 3], Vec::new());
    let mut group = c.benchmark_group("mix 64 images of 224");
    group.throughput(Throughput::Elements(n as u64));
    let half = MixBox { y0: 56, y1: 168, x0: 56, x1: 168 };
    for (name, mix) in [("mixup", Mix::Mixup { lam: 0.7 }), ("CutMix", Mix::Cutmix { lam: 0.75, area: half })]
    {
        let mixes = vec![mix; n];
        group.bench_function(name, |b| b.iter(|| mix_batch(&mut batch, &shape, &mixes, &mut buffer)));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = efficienttrain_bench::criterion();
    targets = policies, mixing
}
criterion_main!(benches);
