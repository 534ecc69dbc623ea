//! Values of options at and beyond the ends of their ranges: accepted or refused, never a panic. The
//! program is built with checks of overflow here.

use std::path::Path;

use rayon::prelude::*;

use crate::common::command::{efficienttrain, text};
use crate::common::image_folder;

const VALUES: [&str; 5] = ["18446744073709551615", "4294967295", "-1", "1e308", "nan"];

/// Names of the options of a command that take a value, from its help.
fn options(command: &[&str]) -> Vec<String> {
    let help = efficienttrain(&[command, &["--help"]].concat());
    let help = String::from_utf8(help.stdout).unwrap();
    let names = help.lines().filter_map(|line| {
        let name = &line[line.find("--")?..];
        let (name, value) = name.split_once(' ')?;
        (line.starts_with(' ') && value.starts_with('<')).then(|| name.to_string())
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    names.dedup();
    names
}

/// Runs a command with each value in place of each of its options, but for those that only make it take
/// longer.
fn try_all(command: &[&str], given: &[(&str, &str)], flags: &[&str]) -> usize {
    let cases: Vec<(String, &str)> = options(command)
        .into_iter()
        .filter(|name| name != "--steps" && name != "--warmup")
        .flat_map(|name| VALUES.map(|value| (name.clone(), value)))
        .collect();
    cases.par_iter().for_each(|(name, value)| {
        let others = given.iter().filter(|(known, _)| known != name);
        let mut args: Vec<String> = command.iter().map(ToString::to_string).collect();
        args.extend(others.map(|(name, value)| format!("{name}={value}")));
        args.extend(flags.iter().map(ToString::to_string));
        args.push(format!("{name}={value}"));
        let out = efficienttrain(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(matches!(out.status.code(), Some(0..=2)), "{args:?}: {:?}\n{said}", out.status);
        assert!(!said.contains("panicked"), "{args:?}\n{said}");
    });
    cases.len()
}

fn data(dir: &Path) -> String {
    text(&image_folder(&dir.join("data"), 2, 4)).to_string()
}

#[test]
#[ignore = "runs the program many times: CI runs it"]
fn no_value_of_an_option_makes_the_program_panic() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (data(dir.path()), text(&dir.path().join("out")).to_string());
    let run = [
        ("--data", data.as_str()),
        ("--out", &out),
        ("--model", "resnet10"),
        ("--base-size", "32"),
        ("--batch", "2"),
        ("--epochs", "2"),
    ];
    assert!(try_all(&["train"], &run, &["--dry-run"]) > 200);
    let pretraining = run.map(|(name, value)| (name, if name == "--model" { "deit_tiny" } else { value }));
    assert!(try_all(&["pretrain"], &pretraining, &["--dry-run"]) > 100);
    assert!(try_all(&["plan"], &[("--model", "resnet10"), ("--epochs", "2")], &[]) > 50);
    assert!(try_all(&["models"], &[], &["resnet10", "deit_tiny"]) > 10);
    let step = [("--model", "resnet10"), ("--size", "32"), ("--batch", "2"), ("--steps", "1")];
    assert!(try_all(&["bench", "step"], &step, &[]) > 20);
}
