//! Every parser of what users bring, on files that are damaged in many ways: an error or a value, and
//! no panic. A short pass of the fuzz targets (`trainer/fuzz`) from a stored corpus, the same each time;
//! `EFFICIENTTRAIN_DAMAGED=50` makes it fifty times as long.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use efficienttrain::data::keep_decoder_panics_quiet;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::common::{self, run};

#[path = "../fuzz/checkpoint.rs"]
mod checkpoint;
#[path = "../fuzz/cifar.rs"]
mod cifar;
#[path = "../fuzz/config.rs"]
mod config;
#[path = "../fuzz/decode.rs"]
mod decode;
#[path = "../fuzz/log.rs"]
mod log;
#[cfg(feature = "parquet")]
#[path = "../fuzz/parquet_index.rs"]
mod parquet_index;
#[path = "../fuzz/policy.rs"]
mod policy;
#[path = "../fuzz/recipe.rs"]
mod recipe;
#[path = "../fuzz/tar_shard.rs"]
mod tar_shard;
#[path = "../fuzz/weights.rs"]
mod weights;

/// Numbers that lengths and offsets are replaced by.
const NUMBERS: [u64; 8] = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];

/// Symbols that those of texts are replaced by.
const SYMBOLS: &[u8] = b"0987654321-+.e\"{}[],:=\n";

/// A copy of `data` with one to four faults.
fn damaged(data: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = data.to_vec();
    for _ in 0..rng.random_range(1..=4) {
        if bytes.is_empty() {
            break;
        }
        let at = rng.random_range(0..bytes.len());
        let len = rng.random_range(1..=16).min(bytes.len() - at);
        match rng.random_range(0..7) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = rng.random(),
            2 => bytes.truncate(at),
            3 => _ = bytes.drain(at..at + len),
            4 => {
                let copy = bytes[at..at + len].to_vec();
                let to = rng.random_range(0..=bytes.len());
                bytes.splice(to..to, copy);
            }
            5 => {
                let number = NUMBERS[rng.random_range(0..NUMBERS.len())].to_le_bytes();
                bytes[at..at + len.min(8)].copy_from_slice(&number[..len.min(8)]);
            }
            // As text: another digit, sign or bracket.
            _ => bytes[at] = SYMBOLS[rng.random_range(0..SYMBOLS.len())],
        }
    }
    bytes
}

/// Runs a target on each of `corpus`, as it is and damaged in `count` ways.
fn survives(name: &str, target: impl Fn(&[u8]), corpus: &[Vec<u8>], count: u64) {
    keep_decoder_panics_quiet();
    assert!(!corpus.is_empty(), "{name} has no corpus");
    let times = std::env::var("EFFICIENTTRAIN_DAMAGED").map_or(1, |times| times.parse::<u64>().unwrap());
    for (file, data) in corpus.iter().enumerate() {
        target(data);
        for seed in 0..count * times {
            let bytes = damaged(data, &mut ChaCha8Rng::seed_from_u64(seed));
            let outcome = catch_unwind(AssertUnwindSafe(|| target(&bytes)));
            assert!(
                outcome.is_ok(),
                "{name}: file {file} of the corpus, damaged with seed {seed}: {bytes:02x?}"
            );
        }
    }
}

/// Contents of the files in `folder`, relative to the package, that have one of these endings.
fn files(folder: &str, endings: &[&str]) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut paths: Vec<PathBuf> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let wanted = |path: &PathBuf| path.extension().is_some_and(|e| endings.iter().any(|&ending| e == ending));
    paths.into_iter().filter(wanted).map(|path| std::fs::read(path).unwrap()).collect()
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

#[test]
fn images() {
    let endings = ["jpg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm"];
    survives("decode", decode::run, &files("tests/data/images", &endings), 40);
}

#[test]
fn shards() {
    survives("tar_shard", tar_shard::run, &files("tests/data/earlier", &["tar"]), 400);
}

#[test]
#[cfg(feature = "parquet")]
fn parquet_files() {
    survives("parquet_index", parquet_index::run, &files("tests/data/parquet/coded", &["parquet"]), 60);
}

/// Found by the fuzz target: the `parquet` crate would count for seconds.
#[test]
#[cfg(feature = "parquet")]
fn a_parquet_file_with_endless_lists_is_refused() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/parquet/damaged/endless_lists.parquet");
    let error = efficienttrain::data::ParquetFiles::open(&[path], None, 1 << 20).unwrap_err();
    assert!(error.to_string().contains("a list is too long"), "{error}");
}

#[test]
fn weight_files() {
    let mut corpus = files("../models/tests/data/weights", &["pth"]);
    corpus.extend(files("tests/data/earlier", &["safetensors"]).into_iter().take(1));
    survives("weights", weights::run, &corpus, 200);
}

#[test]
fn checkpoints() {
    survives("checkpoint", checkpoint::run, &files("tests/data/earlier", &["safetensors"]), 60);
}

#[test]
fn cifar_files() {
    let records: Vec<u8> = (0..3 * 3073).map(|i| (i % 3073 % 10) as u8).collect();
    survives("cifar", cifar::run, &[records], 200);
}

#[test]
fn configurations() {
    survives("config", config::run, &files("tests/data/earlier", &["toml"]), 100);
}

#[test]
fn recipes_and_plans() {
    survives("recipe", recipe::run, &files("tests/data/earlier", &["json"]), 400);
}

#[test]
fn policies() {
    let corpus = texts(&[
        "rand-m9-mstd0.5-inc1",
        "rand-m3-n2-w1-mmax10",
        "original-mstd0.5",
        "augmix-m5-w4-d2",
        "3a",
        "v0",
    ]);
    survives("policy", policy::run, &corpus, 200);
}

#[test]
fn logs_of_runs() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = run(&common::config("resnet10"), common::options(dir.path(), 1));
    let mut logs = efficienttrain::observe::log::open(run.config(), run.options(), 0).unwrap();
    run.train(&mut logs).unwrap();
    survives("log", log::run, &files(&dir.path().display().to_string(), &["jsonl"]), 300);
}
