//! What the manager itself uses, from /proc/self (proc(5)).

use std::fs;

/// What this process uses; none where the kernel does not tell.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Resident memory in bytes.
    pub(super) rss: Option<u64>,
    /// Proportional memory in bytes.
    pub(super) pss: Option<u64>,
    /// Threads.
    pub(super) threads: Option<u64>,
    /// Open file descriptors.
    pub(super) fds: Option<u64>,
}

/// Reads it.
pub(super) fn usage() -> Usage {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    // Kernels without it (before 4.14) tell no PSS that is cheap to read.
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    Usage {
        rss: number(&rollup, "Rss:").or_else(|| number(&status, "VmRSS:")).map(|kib| kib * 1024),
        pss: number(&rollup, "Pss:").map(|kib| kib * 1024),
        threads: number(&status, "Threads:"),
        // The directory is open while it is read, and is one of them.
        fds: fs::read_dir("/proc/self/fd").ok().map(|entries| (entries.count() as u64).saturating_sub(1)),
    }
}

/// The number on the line of `text` that begins with `name`.
fn number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let usage = usage();
        let (rss, pss) = (usage.rss.unwrap(), usage.pss.unwrap());
        assert!(rss > 500_000 && pss > 100_000 && pss <= rss, "{rss} {pss}");
        assert!(usage.threads.unwrap() >= 1 && usage.fds.unwrap() >= 3);
    }

    #[test]
    fn numbers_are_found_by_the_name_of_their_line() {
        let text = "x-y [rollup]\nRss:       12 kB\nPss_Anon: 7 kB\nPss: 3 kB\n";
        assert_eq!(
            (number(text, "Rss:"), number(text, "Pss:"), number(text, "Swap:")),
            (Some(12), Some(3), None)
        );
    }
}
