//! What v2's files become.

use std::collections::BTreeMap;
use std::fs;

use gam_protos::any::unpack;
use gam_protos::cgroups_v2::Metrics;

use super::super::{Cgroup, CgroupError};
use super::fixture;

/// The files of a 6.1 kernel with every controller enabled; each number occurs once.
const FILES: [(&str, &str); 27] = [
    ("cgroup.procs", "4242\n"),
    ("pids.current", "11\n"),
    ("pids.max", "max\n"),
    (
        "cpu.stat",
        "usage_usec 21\nuser_usec 22\nsystem_usec 23\nnr_periods 24\nnr_throttled 25\nthrottled_usec 26\n\
         nr_bursts 27\nburst_usec 28\n",
    ),
    (
        "cpu.pressure",
        "some avg10=1.25 avg60=2.25 avg300=3.25 total=31\nfull avg10=4.25 avg60=5.25 avg300=6.25 total=32\n",
    ),
    (
        "memory.stat",
        "anon 101\nfile 102\nkernel 190\nkernel_stack 103\npagetables 191\nsec_pagetables 192\npercpu 193\nsock 105\n\
         vmalloc 194\nshmem 106\nzswap 195\nzswapped 196\nfile_mapped 107\nfile_dirty 108\nfile_writeback 109\n\
         swapcached 197\nanon_thp 110\nfile_thp 198\nshmem_thp 199\ninactive_anon 111\nactive_anon 112\n\
         inactive_file 113\nactive_file 114\nunevictable 115\nslab_reclaimable 116\nslab_unreclaimable 117\nslab 104\n\
         workingset_refault_anon 1000\nworkingset_refault_file 120\nworkingset_activate_anon 2000\n\
         workingset_activate_file 121\nworkingset_restore_anon 180\nworkingset_restore_file 181\n\
         workingset_nodereclaim 122\npgscan 124\npgsteal 125\npgscan_kswapd 182\npgscan_direct 183\n\
         pgsteal_kswapd 184\npgsteal_direct 185\npgfault 118\npgmajfault 119\npgrefill 123\npgactivate 126\n\
         pgdeactivate 127\npglazyfree 128\npglazyfreed 129\nzswpin 186\nzswpout 187\nthp_fault_alloc 130\n\
         thp_collapse_alloc 131\n",
    ),
    ("memory.current", "132\n"),
    ("memory.max", "133\n"),
    ("memory.swap.current", "134\n"),
    ("memory.swap.max", "max\n"),
    ("memory.peak", "136\n"),
    ("memory.swap.peak", "137\n"),
    (
        "memory.pressure",
        "some avg10=1.50 avg60=2.50 avg300=3.50 total=141\nfull avg10=4.50 avg60=5.50 avg300=6.50 total=142\n",
    ),
    ("memory.events", "low 51\nhigh 52\nmax 53\noom 54\noom_kill 55\noom_group_kill 56\n"),
    ("memory.events.local", "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n"),
    ("rdma.current", "mlx4_0 hca_handle=61 hca_object=62\n"),
    ("rdma.max", "mlx4_0 hca_handle=63 hca_object=max\n"),
    (
        "io.stat",
        "8:16 253:0 rbytes=71 wbytes=72 rios=73 wios=74 dbytes=75 dios=76\n\
         (unknown) rbytes=1 wbytes=1 rios=1 wios=1 dbytes=1 dios=1\n9:1\n",
    ),
    (
        "io.pressure",
        "some avg10=1.75 avg60=2.75 avg300=3.75 total=81\nfull avg10=4.75 avg60=5.75 avg300=6.75 total=82\n",
    ),
    ("hugetlb.2MB.current", "91\n"),
    ("hugetlb.2MB.max", "92\n"),
    ("hugetlb.2MB.events", "max 93\n"),
    ("hugetlb.2MB.rsvd.current", "99\n"),
    ("hugetlb.1GB.current", "94\n"),
    ("hugetlb.1GB.max", "max\n"),
    ("hugetlb.1GB.events", "max 96\n"),
    ("sub/memory.events", "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n"),
];

const EXPECTED: &str = "pids {current: 11 limit: 18446744073709551615} \
    cpu {usage_usec: 21 user_usec: 22 system_usec: 23 nr_periods: 24 nr_throttled: 25 throttled_usec: 26 \
    psi {some {avg10: 1.25 avg60: 2.25 avg300: 3.25 total: 31} full {avg10: 4.25 avg60: 5.25 avg300: 6.25 total: 32}} \
    nr_bursts: 27 burst_usec: 28} \
    memory {anon: 101 file: 102 kernel_stack: 103 slab: 104 sock: 105 shmem: 106 file_mapped: 107 file_dirty: 108 \
    file_writeback: 109 anon_thp: 110 inactive_anon: 111 active_anon: 112 inactive_file: 113 active_file: 114 \
    unevictable: 115 slab_reclaimable: 116 slab_unreclaimable: 117 pgfault: 118 pgmajfault: 119 \
    workingset_refault: 1120 workingset_activate: 2121 workingset_nodereclaim: 122 pgrefill: 123 pgscan: 124 \
    pgsteal: 125 pgactivate: 126 pgdeactivate: 127 pglazyfree: 128 pglazyfreed: 129 thp_fault_alloc: 130 \
    thp_collapse_alloc: 131 usage: 132 usage_limit: 133 swap_usage: 134 swap_limit: 18446744073709551615 \
    max_usage: 136 swap_max_usage: 137 \
    psi {some {avg10: 1.5 avg60: 2.5 avg300: 3.5 total: 141} full {avg10: 4.5 avg60: 5.5 avg300: 6.5 total: 142}}} \
    rdma {current {device: \"mlx4_0\" hca_handles: 61 hca_objects: 62} \
    limit {device: \"mlx4_0\" hca_handles: 63 hca_objects: 4294967295}} \
    io {usage {major: 253 minor: 0 rbytes: 71 wbytes: 72 rios: 73 wios: 74} \
    psi {some {avg10: 1.75 avg60: 2.75 avg300: 3.75 total: 81} full {avg10: 4.75 avg60: 5.75 avg300: 6.75 total: 82}}} \
    hugetlb {current: 94 max: 18446744073709551615 pagesize: \"1GB\" failcnt: 96} \
    hugetlb {current: 91 max: 92 pagesize: \"2MB\" failcnt: 93} \
    memory_events {low: 51 high: 52 max: 53 oom: 54 oom_kill: 55}";

fn cgroup(path: &std::path::Path) -> Cgroup {
    Cgroup::from_paths(BTreeMap::from([(String::new(), path.to_owned())])).unwrap()
}

fn metrics(cgroup: &Cgroup) -> Metrics {
    let any = cgroup.stats().unwrap();
    assert_eq!(any.type_url, "io.containerd.cgroups.v2.Metrics");
    unpack(&any).unwrap().unwrap()
}

#[test]
fn e10_every_field_of_v2_is_told() {
    let directory = tempfile::tempdir().unwrap();
    fixture::tree(directory.path(), &FILES);
    let metrics = metrics(&cgroup(directory.path()));
    let mut told = fixture::fields(&metrics);
    // The device's minor number is 0; the shim knows nothing of networks.
    assert_eq!(fixture::unset(&told), ["io.usage.minor", "network"]);
    told.retain(|field| field != "network=[]");
    let mut expected = fixture::expected(EXPECTED);
    // The message's own order is that of its numbers, not of the text above.
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
}

#[test]
fn a_controller_that_is_not_enabled_is_absent() {
    let directory = tempfile::tempdir().unwrap();
    let files = [("cpu.stat", "usage_usec 5\n"), ("memory.stat", "anon 6\nworkingset_refault 7\n")];
    fixture::tree(directory.path(), &files);
    let metrics = metrics(&cgroup(directory.path()));
    assert_eq!(metrics.cpu.usage_usec, 5);
    assert!(metrics.cpu.psi.is_none());
    assert_eq!((metrics.memory.anon, metrics.memory.workingset_refault), (6, 7));
    assert!(metrics.pids.is_none() && metrics.io.is_none() && metrics.memory_events.is_none());
}

#[test]
fn e9_what_cannot_be_read_is_an_error_and_what_is_gone_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c");
    fixture::tree(&path, &[("memory.stat", "anon lots\n")]);
    let error = cgroup(&path).stats().unwrap_err();
    assert!(matches!(error, CgroupError::Parse { .. }), "{error}");
    assert_eq!(error.to_string(), format!("{}/memory.stat is not understood: \"lots\"", path.display()));
    fs::remove_file(path.join("memory.stat")).unwrap();
    fs::create_dir(path.join("memory.stat")).unwrap();
    let error = cgroup(&path).stats().unwrap_err();
    assert!(matches!(error, CgroupError::Read { .. }), "{error}");
    fs::remove_dir_all(&path).unwrap();
    assert!(matches!(cgroup(&path).stats(), Err(CgroupError::Gone { .. })));
}
