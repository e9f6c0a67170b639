//! What the machine has to give: free memory under every limit that binds this process, and the GPU's.
//!
//! Linux only; elsewhere nothing is known and nothing refused. Read are `/proc/meminfo`, the memory controllers of control
//! groups in versions 2 and 1 up to their roots, and the limits of `ulimit -v` and `ulimit -d`.

use super::watch::field_kib;
use crate::device::Chosen;
use serde::Serialize;
use std::path::Path;

/// The memory of the host as this process may use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostMemory {
    /// Bytes of its own that this process holds already.
    pub own: u64,
    /// Bytes that it may take beyond them.
    pub free: u64,
    /// Bytes of the machine, or of the limit that binds.
    pub total: u64,
    /// What binds: the machine, a control group, a process limit.
    pub bound: String,
    /// Bytes that mapped files may take in the page cache beside what is free now; at most what the machine and the
    /// groups leave.
    pub page_cache: u64,
}

/// The memory of one GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GpuMemory {
    /// The device as people name it.
    pub name: String,
    /// Bytes not taken by anybody.
    pub free: u64,
    /// Bytes of the device.
    pub total: u64,
}

/// What a plan is held against.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Unknown on systems that do not say.
    pub host: Option<HostMemory>,
    /// The GPU that models run on, if they run on one.
    pub gpu: Option<GpuMemory>,
    /// Threads of a merge.
    pub threads: usize,
}

impl Machine {
    /// This machine, as it stands now, with models on the device chosen.
    pub fn now(chosen: &Chosen) -> Machine {
        Machine { gpu: chosen.memory(), ..Machine::of_host() }
    }

    /// The same for what runs on the host alone.
    pub fn of_host() -> Machine {
        Machine { host: host(), gpu: None, threads: rayon::current_num_threads() }
    }
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn host() -> Option<HostMemory> {
    let meminfo = read("/proc/meminfo")?;
    let status = read("/proc/self/status").unwrap_or_default();
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let limits = read("/proc/self/limits").unwrap_or_default();
    judge(&meminfo, &status, &groups, Path::new("/sys/fs/cgroup"), &limits)
}

/// The tightest of all limits; `root` is where control groups are mounted.
fn judge(meminfo: &str, status: &str, groups: &str, root: &Path, limits: &str) -> Option<HostMemory> {
    let own = field_kib(status, "RssAnon:").unwrap_or(0);
    let free = field_kib(meminfo, "MemAvailable:")?;
    let total = field_kib(meminfo, "MemTotal:")?;
    let mut host = HostMemory { own, free, total, bound: "memory of the machine".into(), page_cache: free };
    for group in self::groups(groups, root) {
        host.page_cache = host.page_cache.min(group.free);
        host.tighten(group.free, group.limit, group.name);
    }
    // Address space holds mapped files too, which are all mapped by the time a plan is made.
    for (line, used, name) in [
        ("Max address space", "VmSize:", "address space (ulimit -v)"),
        ("Max data size", "VmData:", "data (ulimit -d)"),
    ] {
        let limit =
            limits.lines().find_map(|l| l.strip_prefix(line)?.split_whitespace().next()?.parse::<u64>().ok());
        if let (Some(limit), Some(used)) = (limit, field_kib(status, used)) {
            host.tighten(limit.saturating_sub(used), limit, name.into());
        }
    }
    Some(host)
}

impl HostMemory {
    fn tighten(&mut self, free: u64, total: u64, bound: String) {
        if free < self.free {
            (self.free, self.total, self.bound) = (free, total, bound);
        }
    }
}

struct Group {
    free: u64,
    limit: u64,
    name: String,
}

/// Every group with a limit, from this process's own up to the root, of either version.
fn groups(text: &str, root: &Path) -> Vec<Group> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (mount, files) = match controllers {
            "" => (root.to_path_buf(), ["memory.max", "memory.high"].as_slice()),
            c if c.split(',').any(|c| c == "memory") => {
                (root.join("memory"), ["memory.limit_in_bytes"].as_slice())
            }
            _ => continue,
        };
        let version_2 = controllers.is_empty();
        // In a container the path may be the host's, which is not to be seen here; the mount itself is then the group.
        let own = mount.join(path.trim_start_matches('/'));
        for folder in own.ancestors().take_while(|f| f.starts_with(&mount)) {
            let number = |file: &str| read(folder.join(file))?.trim().parse::<u64>().ok();
            let used = number(if version_2 { "memory.current" } else { "memory.usage_in_bytes" });
            let stat = read(folder.join("memory.stat")).unwrap_or_default();
            // Pages of files give way when memory is short.
            let count = |key: &str| {
                let line =
                    stat.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok());
                line.unwrap_or(0u64)
            };
            let files_held = match version_2 {
                true => count("inactive_file") + count("active_file"),
                false => count("total_inactive_file") + count("total_active_file"),
            };
            for file in files {
                // "max" is no number; version 1 says a number beyond any machine.
                let Some(limit) = number(file).filter(|&l| l < 1 << 60) else { continue };
                let held = used.unwrap_or(0).saturating_sub(files_held);
                let name = format!("control group ({file} of {})", folder.display());
                found.push(Group { free: limit.saturating_sub(held), limit, name });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       24000000 kB\nMemFree: 1 kB\nMemAvailable:   20000000 kB\n";
    const STATUS: &str = "VmSize:\t 3000000 kB\nVmData:\t 500000 kB\nRssAnon:\t  400000 kB\n";
    const FREE: &str = "Max data size             unlimited            unlimited            bytes\n\
                        Max address space         unlimited            unlimited            bytes\n";

    #[test]
    fn the_machine_binds_where_nothing_else_does() {
        let host = judge(MEMINFO, STATUS, "", Path::new("/nowhere"), FREE).expect("Linux");
        assert_eq!((host.own, host.free, host.total), (400_000 << 10, 20_000_000 << 10, 24_000_000 << 10));
        assert_eq!(judge("", STATUS, "", Path::new("/nowhere"), FREE), None);
    }

    #[test]
    fn the_tightest_control_group_binds() {
        let dir = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("has one")).expect("writable");
            std::fs::write(path, text).expect("writable");
        };
        write("jobs/memory.max", "8000000000\n");
        write("jobs/memory.current", "3000000000\n");
        write(
            "jobs/memory.stat",
            "anon 1\ninactive_file 1500000000\nactive_file 500000000\nactive_file_x 7\n",
        );
        write("jobs/one/memory.max", "max\n");
        let host = judge(MEMINFO, STATUS, "0::/jobs/one\n", dir.path(), FREE).expect("Linux");
        assert_eq!((host.free, host.total, host.page_cache), (7_000_000_000, 8_000_000_000, 7_000_000_000));
        assert!(host.bound.contains("jobs"), "{}", host.bound);
        // Version 1, seen from inside a container: the path is the host's.
        write("memory/memory.limit_in_bytes", "5000000000\n");
        write("memory/memory.usage_in_bytes", "1000000000\n");
        let host = judge(MEMINFO, STATUS, "4:cpu,memory:/docker/abc\n", dir.path(), FREE).expect("Linux");
        assert_eq!(host.free, 4_000_000_000);
    }

    #[test]
    fn process_limits_bind() {
        let limits = "Max address space         4096000000           unlimited            bytes\n";
        let host = judge(MEMINFO, STATUS, "", Path::new("/nowhere"), limits).expect("Linux");
        assert_eq!(host.free, 4_096_000_000 - (3_000_000 << 10));
        assert!(host.bound.contains("ulimit -v"), "{}", host.bound);
        // The page cache is not a matter of the process's limits.
        assert_eq!(host.page_cache, 20_000_000 << 10);
    }
}
