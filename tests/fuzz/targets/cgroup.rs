//! The files of a cgroup: the first byte names a file, the others are what it holds.

#![no_main]

use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use gam_task::cgroup::Cgroup;
use libfuzzer_sys::fuzz_target;

const FILES: [&str; 24] = [
    "pids.current",
    "pids.max",
    "cpu.stat",
    "cpu.pressure",
    "memory.stat",
    "memory.current",
    "memory.events",
    "memory.pressure",
    "io.stat",
    "io.pressure",
    "rdma.current",
    "hugetlb.2MB.current",
    "hugetlb.2MB.events",
    "cpuacct.usage",
    "cpuacct.usage_percpu",
    "cpuacct.stat",
    "memory.oom_control",
    "memory.usage_in_bytes",
    "blkio.throttle.io_service_bytes_recursive",
    "blkio.time_recursive",
    "blkio.bfq.io_serviced_recursive",
    "hugetlb.2MB.usage_in_bytes",
    "rdma.max",
    "cgroup.procs",
];

/// The directory of this process: in memory, where there is such a place. The script that runs targets removes it.
fn directory() -> PathBuf {
    let above = std::env::var_os("GAM_FUZZ_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = above.join("cgroup");
    fs::create_dir_all(&directory).expect("a directory");
    directory
}

thread_local! {
    static DIRECTORY: LazyCell<PathBuf> = LazyCell::new(directory);
}

fuzz_target!(|input: (u8, &[u8])| {
    let (number, text) = input;
    let file = FILES[usize::from(number) % FILES.len()];
    DIRECTORY.with(|directory| {
        fs::write(directory.join(file), text).expect("a file");
        let controllers = ["pids", "cpu", "cpuacct", "memory", "blkio", "hugetlb", "rdma", "freezer"];
        let v1 = controllers.iter().map(|name| ((*name).to_owned(), directory.to_path_buf())).collect();
        for paths in [v1, BTreeMap::from([(String::new(), directory.to_path_buf())])] {
            let cgroup = Cgroup::from_paths(paths).expect("a cgroup");
            if let Err(error) = cgroup.stats() {
                assert!(error.to_string().len() < 1024);
            }
            let _ = cgroup.processes();
        }
        fs::remove_file(directory.join(file)).expect("the file is there");
    });
});
