//! Stats of version 1.

use std::fs;
use std::path::Path;

use gam_protos::cgroups_v1::{
    BlkIOEntry, BlkIOStat, CPUStat, CPUUsage, HugetlbStat, MemoryEntry, MemoryOomControl, MemoryStat,
    Metrics, PidsStat, RdmaEntry, RdmaStat, Throttle,
};

use super::files::{number, page_sizes, pairs, parse, rdma, text};
use super::{Cgroup, CgroupError};

/// Nanoseconds of a tick of `cpuacct.stat`: the kernel counts a hundred a second there, whatever its own clock.
const TICK: u64 = 10_000_000;

pub(super) fn stats(cgroup: &Cgroup) -> Result<Metrics, CgroupError> {
    let mut metrics = Metrics::new();
    if let Some(directory) = cgroup.directory("hugetlb") {
        metrics.hugetlb = huge_pages(directory)?;
    }
    if let Some(directory) = cgroup.directory("pids") {
        metrics.pids = Some(PidsStat {
            current: number(directory, "pids.current")?,
            limit: pids_limit(directory)?,
            ..PidsStat::new()
        })
        .into();
    }
    metrics.cpu = Some(cpu(cgroup)?).into();
    if let Some(directory) = cgroup.directory("memory") {
        metrics.memory = Some(memory(directory)?).into();
        let control = pairs(directory, "memory.oom_control")?;
        let field = |name: &str| control.get(name).copied().unwrap_or_default();
        metrics.memory_oom_control = Some(MemoryOomControl {
            oom_kill_disable: field("oom_kill_disable"),
            under_oom: field("under_oom"),
            oom_kill: field("oom_kill"),
            ..MemoryOomControl::new()
        })
        .into();
    }
    if let Some(directory) = cgroup.directory("blkio") {
        metrics.blkio = Some(block(directory)?).into();
    }
    if let Some(directory) = cgroup.directory("rdma") {
        metrics.rdma = Some(RdmaStat {
            current: rdma_of(directory, "rdma.current")?,
            limit: rdma_of(directory, "rdma.max")?,
            ..RdmaStat::new()
        })
        .into();
    }
    Ok(metrics)
}

/// containerd's own shim answers 0 for no limit.
fn pids_limit(directory: &Path) -> Result<u64, CgroupError> {
    let limit = number(directory, "pids.max")?;
    Ok(if limit == u64::MAX { 0 } else { limit })
}

fn huge_pages(directory: &Path) -> Result<Vec<HugetlbStat>, CgroupError> {
    let mut found = Vec::new();
    for pagesize in page_sizes(directory, ".usage_in_bytes") {
        let file = |name: &str| format!("hugetlb.{pagesize}.{name}");
        found.push(HugetlbStat {
            usage: number(directory, &file("usage_in_bytes"))?,
            max: number(directory, &file("max_usage_in_bytes"))?,
            failcnt: number(directory, &file("failcnt"))?,
            pagesize,
            ..HugetlbStat::new()
        });
    }
    Ok(found)
}

fn cpu(cgroup: &Cgroup) -> Result<CPUStat, CgroupError> {
    let mut cpu = CPUStat::new();
    if let Some(directory) = cgroup.directory("cpuacct") {
        let ticks = pairs(directory, "cpuacct.stat")?;
        let of = |name: &str| ticks.get(name).copied().unwrap_or_default().saturating_mul(TICK);
        let each = text(directory, "cpuacct.usage_percpu")?.unwrap_or_default();
        cpu.usage = Some(CPUUsage {
            total: number(directory, "cpuacct.usage")?,
            kernel: of("system"),
            user: of("user"),
            per_cpu: each.split_ascii_whitespace().filter_map(parse).collect(),
            ..CPUUsage::new()
        })
        .into();
    }
    if let Some(directory) = cgroup.directory("cpu") {
        let counts = pairs(directory, "cpu.stat")?;
        let field = |name: &str| counts.get(name).copied().unwrap_or_default();
        cpu.throttling = Some(Throttle {
            periods: field("nr_periods"),
            throttled_periods: field("nr_throttled"),
            throttled_time: field("throttled_time"),
            ..Throttle::new()
        })
        .into();
    }
    Ok(cpu)
}

fn memory(directory: &Path) -> Result<MemoryStat, CgroupError> {
    let counts = pairs(directory, "memory.stat")?;
    let field = |name: &str| counts.get(name).copied().unwrap_or_default();
    Ok(MemoryStat {
        cache: field("cache"),
        rss: field("rss"),
        rss_huge: field("rss_huge"),
        mapped_file: field("mapped_file"),
        dirty: field("dirty"),
        writeback: field("writeback"),
        pg_pg_in: field("pgpgin"),
        pg_pg_out: field("pgpgout"),
        pg_fault: field("pgfault"),
        pg_maj_fault: field("pgmajfault"),
        inactive_anon: field("inactive_anon"),
        active_anon: field("active_anon"),
        inactive_file: field("inactive_file"),
        active_file: field("active_file"),
        unevictable: field("unevictable"),
        hierarchical_memory_limit: field("hierarchical_memory_limit"),
        hierarchical_swap_limit: field("hierarchical_memsw_limit"),
        total_cache: field("total_cache"),
        total_rss: field("total_rss"),
        total_rss_huge: field("total_rss_huge"),
        total_mapped_file: field("total_mapped_file"),
        total_dirty: field("total_dirty"),
        total_writeback: field("total_writeback"),
        total_pg_pg_in: field("total_pgpgin"),
        total_pg_pg_out: field("total_pgpgout"),
        total_pg_fault: field("total_pgfault"),
        total_pg_maj_fault: field("total_pgmajfault"),
        total_inactive_anon: field("total_inactive_anon"),
        total_active_anon: field("total_active_anon"),
        total_inactive_file: field("total_inactive_file"),
        total_active_file: field("total_active_file"),
        total_unevictable: field("total_unevictable"),
        usage: entry(directory, "memory")?.into(),
        swap: entry(directory, "memory.memsw")?.into(),
        kernel: entry(directory, "memory.kmem")?.into(),
        kernel_tcp: entry(directory, "memory.kmem.tcp")?.into(),
        ..MemoryStat::new()
    })
}

/// One kind of memory; none where the kernel does not count it.
fn entry(directory: &Path, prefix: &str) -> Result<Option<MemoryEntry>, CgroupError> {
    if !directory.join(format!("{prefix}.usage_in_bytes")).exists() {
        return Ok(None);
    }
    Ok(Some(MemoryEntry {
        limit: number(directory, &format!("{prefix}.limit_in_bytes"))?,
        usage: number(directory, &format!("{prefix}.usage_in_bytes"))?,
        max: number(directory, &format!("{prefix}.max_usage_in_bytes"))?,
        failcnt: number(directory, &format!("{prefix}.failcnt"))?,
        ..MemoryEntry::new()
    }))
}

/// The kernel's recursive counts; where it has none (the scheduler is not CFQ or BFQ), those of throttling.
fn block(directory: &Path) -> Result<BlkIOStat, CgroupError> {
    let of = |name: &str| entries(directory, &format!("blkio.{name}_recursive"));
    let mut stat = BlkIOStat {
        io_service_bytes_recursive: of("io_service_bytes")?,
        io_serviced_recursive: of("io_serviced")?,
        io_queued_recursive: of("io_queued")?,
        io_service_time_recursive: of("io_service_time")?,
        io_wait_time_recursive: of("io_wait_time")?,
        io_merged_recursive: of("io_merged")?,
        io_time_recursive: of("time")?,
        sectors_recursive: of("sectors")?,
        ..BlkIOStat::new()
    };
    if stat.io_serviced_recursive.is_empty() {
        stat.io_service_bytes_recursive = entries(directory, "blkio.throttle.io_service_bytes")?;
        stat.io_serviced_recursive = entries(directory, "blkio.throttle.io_serviced")?;
    }
    Ok(stat)
}

/// Lines `MAJOR:MINOR OP VALUE`, or `MAJOR:MINOR VALUE`; the total at the end is nobody's.
fn entries(directory: &Path, name: &str) -> Result<Vec<BlkIOEntry>, CgroupError> {
    let text = text(directory, name)?.unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
        let (op, value) = match (words.next()?, words.next()) {
            (op, Some(value)) => (op.to_owned(), value),
            (value, None) => (String::new(), value),
        };
        let device = device(major, minor);
        Some(BlkIOEntry { op, device, major, minor, value: value.parse().ok()?, ..BlkIOEntry::new() })
    };
    Ok(text.lines().filter_map(line).collect())
}

/// A block device's name under `/dev`, as the kernel says; empty if it says none.
fn device(major: u64, minor: u64) -> String {
    let text = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/uevent")).unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("DEVNAME="));
    name.map_or_else(String::new, |name| format!("/dev/{name}"))
}

fn rdma_of(directory: &Path, name: &str) -> Result<Vec<RdmaEntry>, CgroupError> {
    let entry = |(device, hca_handles, hca_objects)| RdmaEntry {
        device,
        hca_handles,
        hca_objects,
        ..RdmaEntry::new()
    };
    Ok(rdma(directory, name)?.into_iter().map(entry).collect())
}
