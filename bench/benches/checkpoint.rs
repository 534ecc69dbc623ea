//! Writing and reading checkpoints, with moments and moving average.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use efficienttrain::checkpoint::{Checkpoint, LAST, save};
use efficienttrain::config::{RunOptions, TrainConfig};
use efficienttrain::{Result, Run, Sources};

fn trained(model: &str, out: &std::path::Path) -> Result<Run> {
    let config = TrainConfig {
        model: Some(model.into()),
        base_size: 32,
        batch: "8".parse().expect("a batch"),
        synthetic_images: 64,
        ema_decay: Some(0.9999),
        epochs: 1.0,
        ..TrainConfig::default()
    };
    let options = RunOptions { out: out.into(), stop_after: Some(1), ..RunOptions::default() };
    let mut run = Run::new(config.clone(), options, Sources::open(&config)?)?;
    run.train(&mut ())?;
    Ok(run)
}

fn checkpoints(c: &mut Criterion) {
    for model in ["resnet18", "deit_small"] {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let run = trained(model, dir.path()).expect("a valid run");
        let path = dir.path().join(LAST);
        let record = Checkpoint::open(&path).expect("it was written").run().expect("it has a run").clone();
        let bytes = std::fs::metadata(&path).expect("it was written").len();
        let mut group = c.benchmark_group(format!("checkpoint of {model}"));
        group.throughput(Throughput::Bytes(bytes));
        group.bench_function("write", |b| b.iter(|| save(&path, &run.state, &record)));
        group.bench_function("read", |b| b.iter(|| Checkpoint::open(&path).map(|_| ())));
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = efficienttrain_bench::criterion();
    targets = checkpoints
}
criterion_main!(benches);
