//! Finds out how much memory this process may use: the limit of its control group, or the machine's memory.
//!
//! Version 2 has one tree, whose groups have `memory.max`; version 1 has one for memory, with `memory.limit_in_bytes`.
//! A group can use no more than those above it, so all of them are read. Inside a container the tree often begins at
//! the container's own group, whatever `/proc/self/cgroup` calls it: so the root is read in any case.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes assumed for a system that does not say how many it has: those of a small container.
const UNKNOWN: usize = 1 << 30;

/// Where trees of version 2 are mounted: alone, or beside those of version 1.
const UNIFIED: [&str; 2] = ["sys/fs/cgroup", "sys/fs/cgroup/unified"];
const VERSION_1: &str = "sys/fs/cgroup/memory";

/// Gives the bytes that this process may use.
#[must_use]
pub fn limit_of_machine() -> usize {
    limit_under(Path::new("/"))
}

/// As [`limit_of_machine`], for a system whose files are under `root`.
fn limit_under(root: &Path) -> usize {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().flat_map(|line| limits_of(root, line));
    // The lowest counts: a group's limit may be set above the machine's memory, or above its parent's limit.
    limits.chain(of_machine(root)).min().unwrap_or(UNKNOWN)
}

/// Reads the limits of the group in one line of `/proc/self/cgroup`: `0::/path`, or `4:memory:/path`.
fn limits_of(root: &Path, line: &str) -> Vec<usize> {
    let mut parts = line.splitn(3, ':');
    let (Some(number), Some(controllers), Some(group)) = (parts.next(), parts.next(), parts.next()) else {
        return Vec::new();
    };
    // That is version 2's only line; the lines of version 1 name their controllers.
    if number == "0" && controllers.is_empty() {
        let trees = UNIFIED.iter().flat_map(|tree| group_folders(&root.join(tree), group));
        return trees.filter_map(|folder| read_limit(&folder.join("memory.max"))).collect();
    }
    if controllers.split(',').any(|controller| controller == "memory") {
        let tree = group_folders(&root.join(VERSION_1), group);
        return tree.iter().filter_map(|folder| read_limit(&folder.join("memory.limit_in_bytes"))).collect();
    }
    Vec::new()
}

/// Lists the folders from a group's own up to the root of its tree.
fn group_folders(tree: &Path, group: &str) -> Vec<PathBuf> {
    Path::new(group.trim_start_matches('/')).ancestors().map(|folder| tree.join(folder)).collect()
}

/// Reads the number in a file; none for `max`.
fn read_limit(file: &Path) -> Option<usize> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn of_machine(root: &Path) -> Option<usize> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: usize = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: (&str, &str) = ("proc/meminfo", "MemTotal:       16384 kB\nMemFree: 1 kB\n");

    #[track_caller]
    fn check(files: &[(&str, &str)], expected: usize) {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a file")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        assert_eq!(limit_under(root.path()), expected, "{files:?}");
    }

    #[test]
    fn version_2_says_it_in_the_group_or_above_it() {
        let group = ("proc/self/cgroup", "0::/kube/pod/box\n");
        check(&[MACHINE, group, ("sys/fs/cgroup/kube/pod/box/memory.max", "1048576\n")], 1 << 20);
        let parent = ("sys/fs/cgroup/kube/memory.max", "2097152\n");
        check(&[MACHINE, group, ("sys/fs/cgroup/kube/pod/box/memory.max", "max\n"), parent], 2 << 20);
        check(&[MACHINE, group, ("sys/fs/cgroup/memory.max", "4096\n")], 4096);
        check(&[MACHINE, ("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "4096\n")], 4096);
    }

    #[test]
    fn version_1_says_it_in_the_tree_of_memory() {
        let groups = ("proc/self/cgroup", "5:devices:/x\n4:cpu,memory:/docker/a\n0::/\n");
        check(&[MACHINE, groups, ("sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes", "1048576\n")], 1 << 20);
        // In a container the path is that of the machine, and the tree begins at the container's own group.
        check(&[MACHINE, groups, ("sys/fs/cgroup/memory/memory.limit_in_bytes", "4096\n")], 4096);
        check(&[MACHINE, groups, ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")], 16 << 20);
        check(&[MACHINE, groups, ("sys/fs/cgroup/unified/memory.max", "8192\n")], 8192);
    }

    #[test]
    fn without_groups_it_is_the_machines_and_without_that_a_guess() {
        check(&[MACHINE], 16 << 20);
        check(&[MACHINE, ("proc/self/cgroup", "rubbish\n0::\n")], 16 << 20);
        check(&[], UNKNOWN);
    }
}
