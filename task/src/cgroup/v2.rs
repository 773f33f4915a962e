//! Stats of version 2.

use std::path::Path;

use gam_protos::cgroups_v2::{
    CPUStat, HugeTlbStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PSIData, PSIStats, PidsStat,
    RdmaEntry, RdmaStat,
};

use super::CgroupError;
use super::files::{number, page_sizes, pairs, rdma, text};

pub(super) fn stats(directory: &Path) -> Result<Metrics, CgroupError> {
    let mut metrics = Metrics::new();
    metrics.pids = Some(PidsStat {
        current: number(directory, "pids.current")?,
        limit: number(directory, "pids.max")?,
        ..PidsStat::new()
    })
    .into();
    metrics.cpu = Some(cpu(directory)?).into();
    metrics.memory = Some(memory(directory)?).into();
    metrics.rdma = Some(RdmaStat {
        current: rdma_of(directory, "rdma.current")?,
        limit: rdma_of(directory, "rdma.max")?,
        ..RdmaStat::new()
    })
    .into();
    metrics.io = Some(IOStat {
        usage: io(directory)?,
        psi: pressure(directory, "io.pressure")?.into(),
        ..IOStat::new()
    })
    .into();
    metrics.hugetlb = huge_pages(directory)?;
    let events = pairs(directory, "memory.events")?;
    let event = |name: &str| events.get(name).copied().unwrap_or_default();
    metrics.memory_events = Some(MemoryEvents {
        low: event("low"),
        high: event("high"),
        max: event("max"),
        oom: event("oom"),
        oom_kill: event("oom_kill"),
        ..MemoryEvents::new()
    })
    .into();
    Ok(metrics)
}

fn cpu(directory: &Path) -> Result<CPUStat, CgroupError> {
    let counts = pairs(directory, "cpu.stat")?;
    let field = |name: &str| counts.get(name).copied().unwrap_or_default();
    Ok(CPUStat {
        usage_usec: field("usage_usec"),
        user_usec: field("user_usec"),
        system_usec: field("system_usec"),
        nr_periods: field("nr_periods"),
        nr_throttled: field("nr_throttled"),
        throttled_usec: field("throttled_usec"),
        nr_bursts: field("nr_bursts"),
        burst_usec: field("burst_usec"),
        psi: pressure(directory, "cpu.pressure")?.into(),
        ..CPUStat::new()
    })
}

fn memory(directory: &Path) -> Result<MemoryStat, CgroupError> {
    let counts = pairs(directory, "memory.stat")?;
    let field = |name: &str| counts.get(name).copied().unwrap_or_default();
    Ok(MemoryStat {
        anon: field("anon"),
        file: field("file"),
        kernel_stack: field("kernel_stack"),
        slab: field("slab"),
        sock: field("sock"),
        shmem: field("shmem"),
        file_mapped: field("file_mapped"),
        file_dirty: field("file_dirty"),
        file_writeback: field("file_writeback"),
        anon_thp: field("anon_thp"),
        inactive_anon: field("inactive_anon"),
        active_anon: field("active_anon"),
        inactive_file: field("inactive_file"),
        active_file: field("active_file"),
        unevictable: field("unevictable"),
        slab_reclaimable: field("slab_reclaimable"),
        slab_unreclaimable: field("slab_unreclaimable"),
        pgfault: field("pgfault"),
        pgmajfault: field("pgmajfault"),
        // Since Linux 5.9 these are counted apart for anonymous memory and files.
        workingset_refault: sum(&field, "workingset_refault"),
        workingset_activate: sum(&field, "workingset_activate"),
        workingset_nodereclaim: field("workingset_nodereclaim"),
        pgrefill: field("pgrefill"),
        pgscan: field("pgscan"),
        pgsteal: field("pgsteal"),
        pgactivate: field("pgactivate"),
        pgdeactivate: field("pgdeactivate"),
        pglazyfree: field("pglazyfree"),
        pglazyfreed: field("pglazyfreed"),
        thp_fault_alloc: field("thp_fault_alloc"),
        thp_collapse_alloc: field("thp_collapse_alloc"),
        usage: number(directory, "memory.current")?,
        usage_limit: number(directory, "memory.max")?,
        max_usage: number(directory, "memory.peak")?,
        swap_usage: number(directory, "memory.swap.current")?,
        swap_limit: number(directory, "memory.swap.max")?,
        swap_max_usage: number(directory, "memory.swap.peak")?,
        psi: pressure(directory, "memory.pressure")?.into(),
        ..MemoryStat::new()
    })
}

fn sum(field: &impl Fn(&str) -> u64, name: &str) -> u64 {
    let parts = field(&format!("{name}_anon")).saturating_add(field(&format!("{name}_file")));
    parts.saturating_add(field(name))
}

fn io(directory: &Path) -> Result<Vec<IOEntry>, CgroupError> {
    let text = text(directory, "io.stat")?.unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let mut entry = IOEntry::new();
        entry.major = major.parse().ok()?;
        entry.minor = minor.parse().ok()?;
        for word in words {
            let (key, value) = word.split_once('=')?;
            let Ok(value) = value.parse() else { continue };
            match key {
                "rbytes" => entry.rbytes = value,
                "wbytes" => entry.wbytes = value,
                "rios" => entry.rios = value,
                "wios" => entry.wios = value,
                _ => {}
            }
        }
        Some(entry)
    };
    Ok(text.lines().filter_map(line).collect())
}

fn huge_pages(directory: &Path) -> Result<Vec<HugeTlbStat>, CgroupError> {
    let mut found = Vec::new();
    for pagesize in page_sizes(directory, ".current") {
        let failures = pairs(directory, &format!("hugetlb.{pagesize}.events"))?;
        found.push(HugeTlbStat {
            current: number(directory, &format!("hugetlb.{pagesize}.current"))?,
            max: number(directory, &format!("hugetlb.{pagesize}.max"))?,
            failcnt: failures.get("max").copied().unwrap_or_default(),
            pagesize,
            ..HugeTlbStat::new()
        });
    }
    Ok(found)
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

/// A pressure file; none where the kernel does not measure it, or not now.
fn pressure(directory: &Path, name: &str) -> Result<Option<PSIStats>, CgroupError> {
    let Some(text) = text(directory, name)? else { return Ok(None) };
    let mut stats = PSIStats::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let kind = words.next();
        let mut data = PSIData::new();
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "avg10" => data.avg10 = value.parse().unwrap_or_default(),
                "avg60" => data.avg60 = value.parse().unwrap_or_default(),
                "avg300" => data.avg300 = value.parse().unwrap_or_default(),
                "total" => data.total = value.parse().unwrap_or_default(),
                _ => {}
            }
        }
        match kind {
            Some("some") => stats.some = Some(data).into(),
            Some("full") => stats.full = Some(data).into(),
            _ => {}
        }
    }
    Ok(Some(stats))
}
