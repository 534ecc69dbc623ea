//! Runs the binary like a user.

use std::path::Path;
use std::process::{Command, Output};

pub(crate) fn efficienttrain(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_efficienttrain")).args(args).output().unwrap()
}

/// Runs a command that must succeed, and returns its output.
pub(crate) fn accepted(args: &[&str]) -> String {
    let out = efficienttrain(args);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
