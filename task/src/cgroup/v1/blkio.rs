//! What v1 accounts of block devices.
//!
//! Which files there are depends on the scheduler: CFQ had `blkio.*`, BFQ has `blkio.bfq.*`, both only of what passes
//! through that scheduler; `blkio.throttle.*` are always there. The first that tells anything is taken, and of two that
//! tell the same the one that includes sub-cgroups.

use std::collections::HashMap;

use gam_protos::cgroups_v1::{BlkIOEntry, BlkIOStat};

use super::super::CgroupError;
use super::super::files::{Dir, Text};

pub(super) fn stats(dir: &Dir) -> Result<BlkIOStat, CgroupError> {
    let mut stat = BlkIOStat::new();
    stat.io_service_bytes_recursive = list(dir, "io_service_bytes")?;
    stat.io_serviced_recursive = list(dir, "io_serviced")?;
    stat.io_queued_recursive = list(dir, "io_queued")?;
    stat.io_service_time_recursive = list(dir, "io_service_time")?;
    stat.io_wait_time_recursive = list(dir, "io_wait_time")?;
    stat.io_merged_recursive = list(dir, "io_merged")?;
    stat.io_time_recursive = list(dir, "time")?;
    stat.sectors_recursive = list(dir, "sectors")?;
    let lists = [
        &mut stat.io_service_bytes_recursive,
        &mut stat.io_serviced_recursive,
        &mut stat.io_queued_recursive,
        &mut stat.io_service_time_recursive,
        &mut stat.io_wait_time_recursive,
        &mut stat.io_merged_recursive,
        &mut stat.io_time_recursive,
        &mut stat.sectors_recursive,
    ];
    if lists.iter().any(|list| !list.is_empty()) {
        let names = std::fs::read_to_string("/proc/partitions").unwrap_or_default();
        let names = devices(&names);
        for entry in lists.into_iter().flatten() {
            if let Some(name) = names.get(&(entry.major, entry.minor)) {
                entry.device = format!("/dev/{name}");
            }
        }
    }
    Ok(stat)
}

fn list(dir: &Dir, what: &str) -> Result<Vec<BlkIOEntry>, CgroupError> {
    for name in [
        format!("blkio.{what}_recursive"),
        format!("blkio.bfq.{what}_recursive"),
        format!("blkio.throttle.{what}_recursive"),
        format!("blkio.throttle.{what}"),
    ] {
        let entries = dir.text(&name)?.map(|text| entries(&text)).transpose()?.unwrap_or_default();
        if !entries.is_empty() {
            return Ok(entries);
        }
    }
    Ok(Vec::new())
}

/// Lines of `MAJOR:MINOR [OPERATION] VALUE`; the last, `Total VALUE`, is the sum.
fn entries(text: &Text) -> Result<Vec<BlkIOEntry>, CgroupError> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (device, operation, value) = match (words.next(), words.next(), words.next()) {
            (Some("Total"), _, None) => continue,
            (Some(device), Some(value), None) => (device, "", value),
            (Some(device), Some(operation), Some(value)) => (device, operation, value),
            _ => return Err(text.refused(line)),
        };
        let mut entry = BlkIOEntry::new();
        (entry.major, entry.minor) = text.device(device)?;
        entry.op = operation.to_owned();
        entry.value = text.number(value)?;
        found.push(entry);
    }
    Ok(found)
}

/// The names of block devices by their numbers: lines of `MAJOR MINOR BLOCKS NAME`.
fn devices(partitions: &str) -> HashMap<(u64, u64), &str> {
    let device = |line: &str| -> Option<(u64, u64)> {
        let mut words = line.split_ascii_whitespace();
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    };
    let lines = partitions.lines();
    lines.filter_map(|line| Some((device(line)?, line.split_ascii_whitespace().nth(3)?))).collect()
}
