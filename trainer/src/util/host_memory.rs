//! Memory of this machine, or of the container that the process is in.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// Memory of the host, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct HostMemory {
    /// All that this process may use, without swap space.
    pub(crate) total: u64,
    /// What is free or can be freed at once.
    pub(crate) free: u64,
    /// Swap space.
    pub(crate) swap: u64,
}

/// Returns the memory that `/proc/meminfo` reports, or what the process's control group leaves of it
/// (a container's or a batch job's limit); none where the system does not tell, as outside of Linux.
pub(crate) fn host_memory() -> Option<HostMemory> {
    let host = parse_meminfo(&read_to_string("/proc/meminfo").ok()?)?;
    let group = read_to_string("/proc/self/cgroup").unwrap_or_default();
    Some(limits(&group, Path::new("/sys/fs/cgroup")).fold(host, HostMemory::limited))
}

impl HostMemory {
    fn limited(self, Limit { most, used }: Limit) -> Self {
        Self { total: self.total.min(most), free: self.free.min(most.saturating_sub(used)), ..self }
    }
}

fn parse_meminfo(text: &str) -> Option<HostMemory> {
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        kib.checked_mul(1 << 10)
    };
    Some(HostMemory {
        total: bytes("MemTotal:")?,
        free: bytes("MemAvailable:")?,
        swap: bytes("SwapTotal:").unwrap_or(0),
    })
}

/// Limit of a control group, and what its processes use.
struct Limit {
    most: u64,
    used: u64,
}

/// Returns the limits of a process's control groups and of all that contain them. `groups` is its
/// `/proc/self/cgroup`.
fn limits(groups: &str, root: &Path) -> impl Iterator<Item = Limit> {
    // Version 2 has one hierarchy, `0::PATH`; version 1 has one for memory, `N:memory:PATH`.
    let places = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        match controllers {
            "" => Some((root.to_path_buf(), path, ["memory.max", "memory.current"])),
            "memory" => Some((root.join("memory"), path, ["memory.limit_in_bytes", "memory.usage_in_bytes"])),
            _ => None,
        }
    });
    let files: Vec<(PathBuf, [&str; 2])> = places
        .flat_map(|(root, path, names)| {
            let inner = path.trim_matches('/').to_string();
            let above = Path::new(&inner).ancestors().map(|folder| root.join(folder)).collect::<Vec<_>>();
            above.into_iter().map(move |folder| (folder, names))
        })
        .collect();
    files.into_iter().filter_map(|(folder, [most, used])| {
        // `max` where there is no limit.
        let number = |name: &str| read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
        let used = number(used).unwrap_or(0).saturating_sub(file_cache(&folder));
        Some(Limit { most: number(most)?, used })
    })
}

/// Returns the pages of files that a control group keeps until their memory is needed.
fn file_cache(group: &Path) -> u64 {
    let text = read_to_string(group.join("memory.stat")).unwrap_or_default();
    let fields = text.lines().filter_map(|line| line.split_once(' '));
    // Version 1 has sums over the groups below under names of their own.
    let named = |prefix: &str| {
        let of = |(name, bytes): (&str, &str)| match name.strip_prefix(prefix)? {
            "active_file" | "inactive_file" => bytes.trim().parse::<u64>().ok(),
            _ => None,
        };
        fields.clone().filter_map(of).reduce(u64::saturating_add)
    };
    named("total_").or_else(|| named("")).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read_in_bytes() {
        let text =
            "MemTotal:       24000000 kB\nMemFree: 1 kB\nMemAvailable:   9000000 kB\nSwapTotal:  512 kB\n";
        let expected = HostMemory { total: 24_000_000 << 10, free: 9_000_000 << 10, swap: 512 << 10 };
        assert_eq!(parse_meminfo(text), Some(expected));
        assert_eq!(parse_meminfo("MemTotal: 5 kB\n"), None);
    }

    #[test]
    fn the_tightest_control_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("jobs/memory.max", "1000\n");
        write("jobs/memory.current", "300\n");
        write("jobs/one/memory.max", "max\n");
        write("memory/old/memory.limit_in_bytes", "900\n");
        write("memory/old/memory.usage_in_bytes", "850\n");
        write("jobs/cached/memory.max", "900\n");
        write("jobs/cached/memory.current", "890\n");
        write("jobs/cached/memory.stat", "anon 90\ninactive_file 500\nactive_file 300\n");
        write("memory/cached/memory.limit_in_bytes", "900\n");
        write("memory/cached/memory.usage_in_bytes", "890\n");
        write("memory/cached/memory.stat", "active_file 1\ntotal_inactive_file 700\n");
        let host = HostMemory { total: 5000, free: 2000, swap: 7 };
        let within = |groups: &str| limits(groups, root.path()).fold(host, HostMemory::limited);
        assert_eq!(within("0::/jobs/one\n"), HostMemory { total: 1000, free: 700, swap: 7 });
        assert_eq!(within("4:cpu:/jobs\n3:memory:/old\n"), HostMemory { total: 900, free: 50, swap: 7 });
        assert_eq!(within("0::/jobs/cached\n").free, 700, "of the group above");
        assert_eq!(within("3:memory:/cached\n").free, 710);
        write("jobs/memory.current", "0\n");
        assert_eq!(within("0::/jobs/cached\n").free, 810);
        assert_eq!(within("0::/elsewhere\n"), host);
        assert_eq!(within(""), host);
    }
}
