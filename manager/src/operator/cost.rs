//! What containers and managers use, from the kernel's files.

use std::fs;

use gam_protos::any::unpack;
use gam_protos::{cgroups_v1, cgroups_v2};
use gam_task::cgroup::Cgroup;
use serde::Serialize;

/// Nanoseconds in a tick of `/proc/PID/stat`: USER_HZ, a constant 100 on every architecture but alpha and ia64.
const TICK: u64 = 10_000_000;

/// What a container or process uses; none where the kernel does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Cost {
    /// The time it has had of processors, in nanoseconds.
    #[serde(skip)]
    pub(super) cpu: Option<u64>,
    /// Its memory in bytes; a container's without the files that could be dropped at once, as Kubernetes counts it.
    pub(super) memory: Option<u64>,
    /// How many processes and threads it has.
    pub(super) pids: Option<u64>,
}

/// What a container uses.
pub(super) fn of_cgroup(cgroup: Option<&Cgroup>) -> Cost {
    let Some(cgroup) = cgroup else { return Cost::default() };
    let Ok(any) = cgroup.stats() else { return Cost::default() };
    let mut cost = Cost::default();
    if let Ok(Some(metrics)) = unpack::<cgroups_v1::Metrics>(&any) {
        cost.cpu = metrics.cpu.usage.as_ref().map(|usage| usage.total);
        cost.memory = metrics
            .memory
            .as_ref()
            .map(|memory| memory.usage.usage.saturating_sub(memory.total_inactive_file));
        cost.pids = metrics.pids.as_ref().map(|pids| pids.current);
    } else if let Ok(Some(metrics)) = unpack::<cgroups_v2::Metrics>(&any) {
        cost.cpu = metrics.cpu.as_ref().map(|cpu| cpu.usage_usec.saturating_mul(1000));
        cost.memory = metrics.memory.as_ref().map(|memory| memory.usage.saturating_sub(memory.inactive_file));
        cost.pids = metrics.pids.as_ref().map(|pids| pids.current);
    }
    cost.pids = cost.pids.or_else(|| cgroup.processes().ok().map(|pids| pids.len() as u64));
    cost
}

/// What a process uses.
pub(super) fn of_process(pid: u32) -> Cost {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let status = read("status");
    let number = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    };
    Cost {
        cpu: ticks(&read("stat")).map(|ticks| ticks.saturating_mul(TICK)),
        memory: number("VmRSS:").map(|kib| kib * 1024),
        pids: number("Threads:"),
    }
}

/// `utime` and `stime`, the fields 14 and 15 (proc_pid_stat(5)); the name before them may hold anything but is in brackets.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_costs_something() {
        let cost = of_process(std::process::id());
        assert!(cost.memory.unwrap() > 100_000 && cost.pids.unwrap() >= 1 && cost.cpu.is_some());
        assert_eq!(of_process(u32::MAX), Cost::default());
        assert_eq!(of_cgroup(None), Cost::default());
    }

    #[test]
    fn ticks_are_found_behind_any_name() {
        assert_eq!(ticks("7 (a) b) S 1 1 1 0 -1 4194560 1 0 0 0 30 12 0 0 20 0 1 0 98 0"), Some(42));
        assert_eq!(ticks("7 (a"), None);
    }
}
