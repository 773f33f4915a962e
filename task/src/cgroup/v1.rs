//! What v1 accounts (`Documentation/admin-guide/cgroup-v1`).

mod blkio;

use std::collections::BTreeMap;
use std::path::PathBuf;

use gam_protos::cgroups_v1::{
    CPUStat, CPUUsage, HugetlbStat, MemoryEntry, MemoryOomControl, MemoryStat, Metrics, PidsStat, RdmaEntry,
    RdmaStat, Throttle,
};
use protobuf::MessageField;

use super::CgroupError;
use super::files::{Dir, Text, fill};

/// Nanoseconds in one tick of `cpuacct.stat`: USER_HZ, a constant 100 of the interface on every architecture but alpha
/// and ia64.
const TICK: u64 = 10_000_000;

/// The metrics of the cgroup with these directories. Those that are missing are left out.
pub(super) fn stats(paths: &BTreeMap<String, PathBuf>) -> Result<Metrics, CgroupError> {
    let open = |controller: &str| match paths.get(controller).map(|path| Dir::open(path)) {
        None | Some(Err(CgroupError::Gone { .. })) => Ok(None),
        Some(other) => other.map(Some),
    };
    let mut metrics = Metrics::new();
    let (cpu, cpuacct) = (open("cpu")?, open("cpuacct")?);
    if cpu.is_some() || cpuacct.is_some() {
        let mut stat = CPUStat::new();
        stat.usage = MessageField::from_option(cpuacct.as_ref().map(usage).transpose()?);
        stat.throttling = MessageField::from_option(cpu.as_ref().map(throttling).transpose()?);
        metrics.cpu = MessageField::some(stat);
    }
    if let Some(memory_dir) = open("memory")? {
        metrics.memory = MessageField::some(memory(&memory_dir)?);
        if let Some(text) = memory_dir.text("memory.oom_control")? {
            let mut control = MemoryOomControl::new();
            fill!(text, control, {
                "oom_kill_disable" => oom_kill_disable,
                "under_oom" => under_oom,
                "oom_kill" => oom_kill,
            });
            metrics.memory_oom_control = MessageField::some(control);
        }
    }
    if let Some(text) = open("pids")? {
        let mut pids = PidsStat::new();
        pids.current = text.number("pids.current")?.unwrap_or(0);
        // On v1 containerd writes "no limit" as 0.
        pids.limit = text.number("pids.max")?.filter(|limit| *limit != u64::MAX).unwrap_or(0);
        metrics.pids = MessageField::some(pids);
    }
    if let Some(blkio_dir) = open("blkio")? {
        metrics.blkio = MessageField::some(blkio::stats(&blkio_dir)?);
    }
    if let Some(hugetlb_dir) = open("hugetlb")? {
        metrics.hugetlb = hugetlb(&hugetlb_dir)?;
    }
    if let Some(rdma_dir) = open("rdma")? {
        let mut rdma = RdmaStat::new();
        rdma.current = entries(rdma_dir.text("rdma.current")?)?;
        rdma.limit = entries(rdma_dir.text("rdma.max")?)?;
        metrics.rdma = MessageField::some(rdma);
    }
    Ok(metrics)
}

fn usage(dir: &Dir) -> Result<CPUUsage, CgroupError> {
    let mut usage = CPUUsage::new();
    usage.total = dir.number("cpuacct.usage")?.unwrap_or(0);
    if let Some(text) = dir.text("cpuacct.stat")? {
        fill!(text, usage, { "user" => user, "system" => kernel, });
        usage.user = usage.user.saturating_mul(TICK);
        usage.kernel = usage.kernel.saturating_mul(TICK);
    }
    if let Some(text) = dir.text("cpuacct.usage_percpu")? {
        for word in text.lines().flat_map(str::split_ascii_whitespace) {
            usage.per_cpu.push(text.number(word)?);
        }
    }
    Ok(usage)
}

fn throttling(dir: &Dir) -> Result<Throttle, CgroupError> {
    let mut throttle = Throttle::new();
    if let Some(text) = dir.text("cpu.stat")? {
        fill!(text, throttle, {
            "nr_periods" => periods,
            "nr_throttled" => throttled_periods,
            "throttled_time" => throttled_time,
        });
    }
    Ok(throttle)
}

fn memory(dir: &Dir) -> Result<MemoryStat, CgroupError> {
    let mut stat = MemoryStat::new();
    if let Some(text) = dir.text("memory.stat")? {
        fill!(text, stat, {
            "cache" => cache,
            "rss" => rss,
            "rss_huge" => rss_huge,
            "mapped_file" => mapped_file,
            "dirty" => dirty,
            "writeback" => writeback,
            "pgpgin" => pg_pg_in,
            "pgpgout" => pg_pg_out,
            "pgfault" => pg_fault,
            "pgmajfault" => pg_maj_fault,
            "inactive_anon" => inactive_anon,
            "active_anon" => active_anon,
            "inactive_file" => inactive_file,
            "active_file" => active_file,
            "unevictable" => unevictable,
            "hierarchical_memory_limit" => hierarchical_memory_limit,
            "hierarchical_memsw_limit" => hierarchical_swap_limit,
            "total_cache" => total_cache,
            "total_rss" => total_rss,
            "total_rss_huge" => total_rss_huge,
            "total_mapped_file" => total_mapped_file,
            "total_dirty" => total_dirty,
            "total_writeback" => total_writeback,
            "total_pgpgin" => total_pg_pg_in,
            "total_pgpgout" => total_pg_pg_out,
            "total_pgfault" => total_pg_fault,
            "total_pgmajfault" => total_pg_maj_fault,
            "total_inactive_anon" => total_inactive_anon,
            "total_active_anon" => total_active_anon,
            "total_inactive_file" => total_inactive_file,
            "total_active_file" => total_active_file,
            "total_unevictable" => total_unevictable,
        });
    }
    stat.usage = memory_entry(dir, "memory")?;
    stat.swap = memory_entry(dir, "memory.memsw")?;
    stat.kernel = memory_entry(dir, "memory.kmem")?;
    stat.kernel_tcp = memory_entry(dir, "memory.kmem.tcp")?;
    Ok(stat)
}

fn memory_entry(dir: &Dir, prefix: &str) -> Result<MessageField<MemoryEntry>, CgroupError> {
    let Some(usage) = dir.number(&format!("{prefix}.usage_in_bytes"))? else {
        return Ok(MessageField::none());
    };
    let mut entry = MemoryEntry::new();
    entry.usage = usage;
    entry.limit = dir.number(&format!("{prefix}.limit_in_bytes"))?.unwrap_or(0);
    entry.max = dir.number(&format!("{prefix}.max_usage_in_bytes"))?.unwrap_or(0);
    entry.failcnt = dir.number(&format!("{prefix}.failcnt"))?.unwrap_or(0);
    Ok(MessageField::some(entry))
}

fn hugetlb(dir: &Dir) -> Result<Vec<HugetlbStat>, CgroupError> {
    let mut found = Vec::new();
    for size in dir.page_sizes("usage_in_bytes")? {
        let mut stat = HugetlbStat::new();
        stat.usage = dir.number(&format!("hugetlb.{size}.usage_in_bytes"))?.unwrap_or(0);
        stat.max = dir.number(&format!("hugetlb.{size}.max_usage_in_bytes"))?.unwrap_or(0);
        stat.failcnt = dir.number(&format!("hugetlb.{size}.failcnt"))?.unwrap_or(0);
        stat.pagesize = size;
        found.push(stat);
    }
    Ok(found)
}

fn entries(text: Option<Text>) -> Result<Vec<RdmaEntry>, CgroupError> {
    let found = text.map(|text| text.rdma()).transpose()?.unwrap_or_default();
    let entry = |(device, handles, objects)| {
        let mut entry = RdmaEntry::new();
        entry.device = device;
        entry.hca_handles = handles;
        entry.hca_objects = objects;
        entry
    };
    Ok(found.into_iter().map(entry).collect())
}
