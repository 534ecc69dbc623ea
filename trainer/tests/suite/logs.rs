//! Tables and event files: their contents, and that a resumed run repeats no step in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::common::{config, options, run};
use efficienttrain::checkpoint::Checkpoint;
use efficienttrain::config::Interval;
use efficienttrain::config::{LogFormat, RunOptions};
use efficienttrain::observe::log;
use efficienttrain::{Run, Sources};

/// CRC-32C bit by bit, as RFC 3720 defines it.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0x82f6_3b78 } else { c >> 1 })
    })
}

fn masked(bytes: &[u8]) -> u32 {
    let crc = crc32c(bytes);
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// A field of a Protocol Buffers message.
#[derive(Debug)]
enum Field<'a> {
    Number(u64),
    Fixed(&'a [u8]),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return value;
        }
    }
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let mut take = |n: usize| {
            let (head, rest) = bytes.split_at(n);
            bytes = rest;
            head
        };
        let field = match key & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => Field::Fixed(take(8)),
            5 => Field::Fixed(take(4)),
            2 => {
                let length = varint(&mut bytes) as usize;
                let (head, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(head)
            }
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, field));
    }
    found
}

/// Returns the payloads of an event file; every checksum must be correct.
fn records(path: &Path) -> Vec<Vec<u8>> {
    let file = std::fs::read(path).unwrap();
    let (mut rest, mut payloads) = (&file[..], Vec::new());
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        assert_eq!(u32::from_le_bytes(rest[8..12].try_into().unwrap()), masked(&rest[..8]));
        let payload = &rest[12..12 + length];
        assert_eq!(u32::from_le_bytes(rest[12 + length..16 + length].try_into().unwrap()), masked(payload));
        payloads.push(payload.to_vec());
        rest = &rest[16 + length..];
    }
    payloads
}

/// Scalars by tag, in the order of the files; steps at which readers are instructed to restart.
type Scalars = BTreeMap<String, Vec<(u64, f32)>>;

fn event_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

fn scalars(folder: &Path) -> (Scalars, Vec<u64>) {
    let (mut scalars, mut restarts) = (Scalars::new(), Vec::new());
    for file in event_files(folder) {
        for (i, event) in records(&file).iter().enumerate() {
            let event = fields(event);
            let [(1, Field::Fixed(time)), (2, Field::Number(step)), (what, Field::Bytes(value))] = &event[..]
            else {
                panic!("{event:?}");
            };
            let time = f64::from_le_bytes((*time).try_into().unwrap());
            assert!(time > 1.5e9 && time < 1e11, "{time} is no time");
            match what {
                3 => assert!(i == 0 && *value == b"brain.Event:2"),
                7 => {
                    assert!(matches!(fields(value)[..], [(1, Field::Number(1))]));
                    restarts.push(*step);
                }
                5 => {
                    for (field, value) in fields(value) {
                        let Field::Bytes(value) = value else { panic!("{value:?}") };
                        let value = fields(value);
                        let [(1, Field::Bytes(tag)), (2, Field::Fixed(number))] = value[..] else {
                            panic!("{value:?}")
                        };
                        assert_eq!(field, 1);
                        let number = f32::from_le_bytes(number.try_into().unwrap());
                        let tag = String::from_utf8(tag.to_vec()).unwrap();
                        scalars.entry(tag).or_default().push((*step, number));
                    }
                }
                other => panic!("field {other}"),
            }
        }
    }
    (scalars, restarts)
}

/// Returns header and rows of a table.
fn table(path: &Path) -> (Vec<String>, Vec<BTreeMap<String, String>>) {
    let mut table = csv::Reader::from_path(path).unwrap();
    let heading: Vec<String> = table.headers().unwrap().iter().map(String::from).collect();
    let row = |row: csv::StringRecord| heading.iter().cloned().zip(row.iter().map(String::from)).collect();
    let rows = table.records().map(|r| row(r.unwrap())).collect();
    (heading, rows)
}

fn logged(out: &Path, stop_after: Option<u64>) -> RunOptions {
    RunOptions {
        log: vec![LogFormat::Csv, LogFormat::Tensorboard],
        checkpoint_every: Interval::Steps(1000),
        eval_every: Interval::Steps(6),
        stop_after,
        ..options(out, 2)
    }
}

fn train(mut run: Run) {
    let mut logs = log::open(run.config(), run.options(), run.step()).unwrap();
    run.train(&mut logs).unwrap();
}

#[test]
fn a_run_that_goes_on_logs_each_step_once() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path();
    let config = config("resnet10");
    train(run(&config, logged(out, Some(12))));
    let checkpoint = std::fs::read(out.join("last.safetensors")).unwrap();
    let resume = |stop_after| {
        let saved = Checkpoint::open(&out.join("last.safetensors")).unwrap();
        Run::resume(&saved, logged(out, stop_after), Sources::open(&config).unwrap()).unwrap()
    };
    // Resumes to step 23, is killed with half of a line and of a record written, and is resumed
    // from step 12 twice.
    train(resume(Some(23)));
    let files = event_files(&out.join("tensorboard"));
    let mut torn = std::fs::read(files.last().unwrap()).unwrap();
    torn.extend([40, 0, 0]);
    std::fs::write(files.last().unwrap(), torn).unwrap();
    let steps = out.join("steps.csv");
    let text = std::fs::read_to_string(&steps).unwrap();
    std::fs::write(&steps, text + "3,1").unwrap();
    std::fs::write(out.join("last.safetensors"), &checkpoint).unwrap();
    train(resume(Some(15)));
    std::fs::write(out.join("last.safetensors"), &checkpoint).unwrap();
    let last = resume(None);
    let total = last.plan().total_steps();
    train(last);

    let (heading, rows) = table(&steps);
    assert_eq!(heading[..3], ["step", "stage", "size"]);
    let numbers: Vec<u64> = rows.iter().map(|row| row["step"].parse().unwrap()).collect();
    assert_eq!(numbers, (0..total).collect::<Vec<_>>());
    let (_, evals) = table(&out.join("evals.csv"));
    let evaluated: Vec<u64> = evals.iter().map(|row| row["step"].parse().unwrap()).collect();
    let mut expected: Vec<u64> = (1..total).filter(|step| step % 6 == 0).collect();
    expected.push(total);
    assert_eq!(evaluated, expected);

    let (scalars, restarts) = scalars(&out.join("tensorboard"));
    // The processes from 12 to 23 and to 15 left nothing.
    assert_eq!((event_files(&out.join("tensorboard")).len(), restarts), (2, vec![13]));
    let steps_of = |tag: &str| scalars[tag].iter().map(|&(step, _)| step).collect::<Vec<_>>();
    assert_eq!(steps_of("train/loss"), (0..total).step_by(10).map(|step| step + 1).collect::<Vec<_>>());
    assert_eq!(steps_of("eval/top1"), expected);
    for (scalar, column, shift) in [
        ("train/loss", "loss", 1),
        ("train/lr", "lr", 1),
        ("curriculum/size", "size", 1),
        ("curriculum/magnitude", "magnitude", 1),
        ("progress/epoch", "epoch", 1),
    ] {
        for &(step, value) in &scalars[scalar] {
            let row = &rows[(step - shift) as usize];
            assert_eq!(row[column].parse::<f64>().unwrap() as f32, value, "{scalar} at {step}");
        }
    }
    let top1: Vec<f32> = evals.iter().map(|row| row["top1"].parse::<f64>().unwrap() as f32).collect();
    assert_eq!(scalars["eval/top1"].iter().map(|&(_, v)| v).collect::<Vec<_>>(), top1);
    // Time and position only increase, also across stops.
    let column = |name: &str| rows.iter().map(|row| row[name].parse().unwrap()).collect::<Vec<f64>>();
    for name in ["elapsed", "epoch", "compute"] {
        assert!(column(name).windows(2).all(|pair| pair[0] < pair[1]), "{name}");
    }
    assert_eq!(column("compute").last(), Some(&1.0));
    assert!(
        column("loader_load").iter().all(|&load| load >= 0.0)
            && column("loader_load").iter().any(|&l| l > 0.0)
    );
}

#[test]
fn a_run_from_the_start_begins_its_logs_anew() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let out = dir.path().join("run");
        train(run(&config("resnet10"), logged(&out, Some(2))));
        std::fs::remove_file(out.join("last.safetensors")).unwrap();
        assert_eq!(table(&out.join("steps.csv")).1.len(), 2);
        assert_eq!(event_files(&out.join("tensorboard")).len(), 1);
    }
    // Without the option there are none.
    let out = dir.path().join("plain");
    train(run(&config("resnet10"), options(&out, 1)));
    assert!(
        out.join("log.jsonl").exists()
            && !out.join("steps.csv").exists()
            && !out.join("tensorboard").exists()
    );
}
