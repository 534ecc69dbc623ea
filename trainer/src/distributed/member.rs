//! What is known of a process of a group.

use serde::{Deserialize, Serialize};

/// A process of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Name of its host.
    pub host: String,
    /// Number of the process on its host.
    pub process: u32,
    /// Cores that it may run on.
    pub cores: Vec<usize>,
    /// Cores of its host.
    pub machine_cores: usize,
    /// Version of the program.
    pub version: String,
    /// Instruction set of the arithmetic, which decides the order of additions.
    pub instructions: String,
}

impl Member {
    /// Describes this process.
    pub(crate) fn this() -> Self {
        Self {
            host: host(),
            process: std::process::id(),
            cores: cores(),
            machine_cores: machine_cores(),
            version: env!("CARGO_PKG_VERSION").into(),
            instructions: crate::util::instruction_sets::instruction_sets().join(" "),
        }
    }

    /// Names host and process.
    pub(crate) fn about(&self) -> String {
        format!("{}, process {}", self.host, self.process)
    }
}

#[cfg(unix)]
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn host() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_else(|_| "this host".into())
}

/// Returns the cores that this process may run on: bound processes may not use all.
#[cfg(target_os = "linux")]
fn cores() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..rustix::thread::CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect(),
        Err(_) => all_cores(),
    }
}

#[cfg(not(target_os = "linux"))]
fn cores() -> Vec<usize> {
    all_cores()
}

/// Returns the number of cores of this machine, whoever may use them.
fn machine_cores() -> usize {
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)? + 1)
    };
    let cores = online.trim().split(',').map(range).sum::<Option<usize>>();
    cores.filter(|&cores| cores > 0).unwrap_or_else(|| all_cores().len())
}

fn all_cores() -> Vec<usize> {
    (0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get)).collect()
}
