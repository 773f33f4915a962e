//! What v2 accounts (`Documentation/admin-guide/cgroup-v2.rst`).

use std::path::Path;

use gam_protos::cgroups_v2::{
    CPUStat, HugeTlbStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PSIData, PSIStats, PidsStat,
    RdmaEntry, RdmaStat,
};
use protobuf::MessageField;

use super::CgroupError;
use super::files::{Dir, Text, fill};

/// The metrics of the cgroup at `path`. A controller that is not enabled there has no files and is left out.
pub(super) fn stats(path: &Path) -> Result<Metrics, CgroupError> {
    let dir = Dir::open(path)?;
    let mut metrics = Metrics::new();
    if let Some(current) = dir.number("pids.current")? {
        let mut pids = PidsStat::new();
        pids.current = current;
        pids.limit = dir.number("pids.max")?.unwrap_or(0);
        metrics.pids = MessageField::some(pids);
    }
    metrics.cpu = cpu(&dir)?;
    metrics.memory = memory(&dir)?;
    if let Some(text) = dir.text("memory.events")? {
        let mut events = MemoryEvents::new();
        fill!(text, events, {
            "low" => low,
            "high" => high,
            "max" => max,
            "oom" => oom,
            "oom_kill" => oom_kill,
        });
        metrics.memory_events = MessageField::some(events);
    }
    if let Some(text) = dir.text("rdma.current")? {
        let mut rdma = RdmaStat::new();
        rdma.current = entries(&text)?;
        rdma.limit = dir.text("rdma.max")?.map(|text| entries(&text)).transpose()?.unwrap_or_default();
        metrics.rdma = MessageField::some(rdma);
    }
    metrics.io = io(&dir)?;
    for size in dir.page_sizes("current")? {
        let mut stat = HugeTlbStat::new();
        stat.current = dir.number(&format!("hugetlb.{size}.current"))?.unwrap_or(0);
        stat.max = dir.number(&format!("hugetlb.{size}.max"))?.unwrap_or(0);
        if let Some(events) = dir.text(&format!("hugetlb.{size}.events"))? {
            stat.failcnt = events.value("max")?.unwrap_or(0);
        }
        stat.pagesize = size;
        metrics.hugetlb.push(stat);
    }
    Ok(metrics)
}

fn cpu(dir: &Dir) -> Result<MessageField<CPUStat>, CgroupError> {
    let Some(text) = dir.text("cpu.stat")? else { return Ok(MessageField::none()) };
    let mut stat = CPUStat::new();
    fill!(text, stat, {
        "usage_usec" => usage_usec,
        "user_usec" => user_usec,
        "system_usec" => system_usec,
        "nr_periods" => nr_periods,
        "nr_throttled" => nr_throttled,
        "throttled_usec" => throttled_usec,
        "nr_bursts" => nr_bursts,
        "burst_usec" => burst_usec,
    });
    stat.psi = pressure(dir, "cpu.pressure")?;
    Ok(MessageField::some(stat))
}

fn memory(dir: &Dir) -> Result<MessageField<MemoryStat>, CgroupError> {
    let Some(text) = dir.text("memory.stat")? else { return Ok(MessageField::none()) };
    let mut stat = MemoryStat::new();
    fill!(text, stat, {
        "anon" => anon,
        "file" => file,
        "kernel_stack" => kernel_stack,
        "slab" => slab,
        "sock" => sock,
        "shmem" => shmem,
        "file_mapped" => file_mapped,
        "file_dirty" => file_dirty,
        "file_writeback" => file_writeback,
        "anon_thp" => anon_thp,
        "inactive_anon" => inactive_anon,
        "active_anon" => active_anon,
        "inactive_file" => inactive_file,
        "active_file" => active_file,
        "unevictable" => unevictable,
        "slab_reclaimable" => slab_reclaimable,
        "slab_unreclaimable" => slab_unreclaimable,
        "pgfault" => pgfault,
        "pgmajfault" => pgmajfault,
        // Since 5.9 told separately, and no longer as a sum.
        "workingset_refault" | "workingset_refault_anon" | "workingset_refault_file" => workingset_refault,
        "workingset_activate" | "workingset_activate_anon" | "workingset_activate_file" => workingset_activate,
        "workingset_nodereclaim" => workingset_nodereclaim,
        "pgrefill" => pgrefill,
        "pgscan" => pgscan,
        "pgsteal" => pgsteal,
        "pgactivate" => pgactivate,
        "pgdeactivate" => pgdeactivate,
        "pglazyfree" => pglazyfree,
        "pglazyfreed" => pglazyfreed,
        "thp_fault_alloc" => thp_fault_alloc,
        "thp_collapse_alloc" => thp_collapse_alloc,
    });
    stat.usage = dir.number("memory.current")?.unwrap_or(0);
    stat.usage_limit = dir.number("memory.max")?.unwrap_or(0);
    stat.max_usage = dir.number("memory.peak")?.unwrap_or(0);
    stat.swap_usage = dir.number("memory.swap.current")?.unwrap_or(0);
    stat.swap_limit = dir.number("memory.swap.max")?.unwrap_or(0);
    stat.swap_max_usage = dir.number("memory.swap.peak")?.unwrap_or(0);
    stat.psi = pressure(dir, "memory.pressure")?;
    Ok(MessageField::some(stat))
}

fn io(dir: &Dir) -> Result<MessageField<IOStat>, CgroupError> {
    let Some(text) = dir.text("io.stat")? else { return Ok(MessageField::none()) };
    let mut stat = IOStat::new();
    for (device, values) in text.nested() {
        // A device that has gone is named "(unknown)" by some kernels.
        if values.is_empty() || device.starts_with('(') {
            continue;
        }
        let mut entry = IOEntry::new();
        (entry.major, entry.minor) = text.device(device)?;
        for (key, value) in values {
            match key {
                "rbytes" => entry.rbytes = text.number(value)?,
                "wbytes" => entry.wbytes = text.number(value)?,
                "rios" => entry.rios = text.number(value)?,
                "wios" => entry.wios = text.number(value)?,
                _ => {}
            }
        }
        stat.usage.push(entry);
    }
    stat.psi = pressure(dir, "io.pressure")?;
    Ok(MessageField::some(stat))
}

/// Pressure stall information: lines of `some|full avg10=PERCENT avg60=PERCENT avg300=PERCENT total=MICROSECONDS`.
fn pressure(dir: &Dir, name: &str) -> Result<MessageField<PSIStats>, CgroupError> {
    let Some(text) = dir.text(name)? else { return Ok(MessageField::none()) };
    let mut stats = PSIStats::new();
    for (kind, values) in text.nested() {
        let mut data = PSIData::new();
        for (key, value) in values {
            let percent = || value.parse::<f64>().map_err(|_| text.refused(value));
            match key {
                "avg10" => data.avg10 = percent()?,
                "avg60" => data.avg60 = percent()?,
                "avg300" => data.avg300 = percent()?,
                "total" => data.total = text.number(value)?,
                _ => {}
            }
        }
        match kind {
            "some" => stats.some = MessageField::some(data),
            "full" => stats.full = MessageField::some(data),
            _ => {}
        }
    }
    Ok(MessageField::some(stats))
}

fn entries(text: &Text) -> Result<Vec<RdmaEntry>, CgroupError> {
    let entry = |(device, handles, objects)| {
        let mut entry = RdmaEntry::new();
        entry.device = device;
        entry.hca_handles = handles;
        entry.hca_objects = objects;
        entry
    };
    Ok(text.rdma()?.into_iter().map(entry).collect())
}
