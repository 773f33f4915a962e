//! What v1's files become.

use std::collections::BTreeMap;

use gam_protos::any::unpack;
use gam_protos::cgroups_v1::Metrics;

use super::super::Cgroup;
use super::fixture;

/// Every controller of a v1 machine; each number occurs once.
const FILES: [(&str, &str); 51] = [
    ("pids/cgroup.procs", "4242\n"),
    ("pids/pids.current", "11\n"),
    ("pids/pids.max", "12\n"),
    (
        "cpu,cpuacct/cpu.stat",
        "nr_periods 21\nnr_throttled 22\nthrottled_time 23\nnr_bursts 29\nburst_time 29\n",
    ),
    ("cpu,cpuacct/cpuacct.usage", "24\n"),
    ("cpu,cpuacct/cpuacct.stat", "user 25\nsystem 26\n"),
    ("cpu,cpuacct/cpuacct.usage_percpu", "27 28 \n"),
    (
        "memory/memory.stat",
        "cache 101\nrss 102\nrss_huge 103\nshmem 190\nmapped_file 104\ndirty 105\nwriteback 106\n\
         workingset_refault_anon 191\nworkingset_refault_file 192\nswap 193\nswapcached 194\npgpgin 107\npgpgout 108\n\
         pgfault 109\npgmajfault 110\ninactive_anon 111\nactive_anon 112\ninactive_file 113\nactive_file 114\n\
         unevictable 115\nhierarchical_memory_limit 116\nhierarchical_memsw_limit 117\ntotal_cache 118\ntotal_rss 119\n\
         total_rss_huge 120\ntotal_shmem 195\ntotal_mapped_file 121\ntotal_dirty 122\ntotal_writeback 123\n\
         total_swap 196\ntotal_pgpgin 124\ntotal_pgpgout 125\ntotal_pgfault 126\ntotal_pgmajfault 127\n\
         total_inactive_anon 128\ntotal_active_anon 129\ntotal_inactive_file 130\ntotal_active_file 131\n\
         total_unevictable 132\n",
    ),
    ("memory/memory.usage_in_bytes", "201\n"),
    ("memory/memory.limit_in_bytes", "202\n"),
    ("memory/memory.max_usage_in_bytes", "203\n"),
    ("memory/memory.failcnt", "204\n"),
    ("memory/memory.memsw.usage_in_bytes", "211\n"),
    ("memory/memory.memsw.limit_in_bytes", "9223372036854771712\n"),
    ("memory/memory.memsw.max_usage_in_bytes", "213\n"),
    ("memory/memory.memsw.failcnt", "214\n"),
    ("memory/memory.kmem.usage_in_bytes", "221\n"),
    ("memory/memory.kmem.limit_in_bytes", "222\n"),
    ("memory/memory.kmem.max_usage_in_bytes", "223\n"),
    ("memory/memory.kmem.failcnt", "224\n"),
    ("memory/memory.kmem.tcp.usage_in_bytes", "231\n"),
    ("memory/memory.kmem.tcp.limit_in_bytes", "232\n"),
    ("memory/memory.kmem.tcp.max_usage_in_bytes", "233\n"),
    ("memory/memory.kmem.tcp.failcnt", "234\n"),
    ("memory/memory.oom_control", "oom_kill_disable 1\nunder_oom 1\noom_kill 243\n"),
    ("blkio/blkio.io_service_bytes_recursive", "8:0 Read 301\n8:0 Write 302\n8:0 Total 603\nTotal 603\n"),
    ("blkio/blkio.throttle.io_service_bytes", "8:0 Read 390\nTotal 390\n"),
    ("blkio/blkio.bfq.io_serviced_recursive", "Total 0\n"),
    ("blkio/blkio.throttle.io_serviced_recursive", "8:0 Read 303\nTotal 303\n"),
    ("blkio/blkio.throttle.io_serviced", "8:0 Read 391\nTotal 391\n"),
    ("blkio/blkio.io_queued_recursive", "8:0 Sync 304\n"),
    ("blkio/blkio.bfq.io_service_time_recursive", "8:0 Async 305\n"),
    ("blkio/blkio.io_wait_time_recursive", "8:0 Read 306\n"),
    ("blkio/blkio.io_merged_recursive", "8:0 Discard 307\n"),
    ("blkio/blkio.time_recursive", "8:16 308\n"),
    ("blkio/blkio.sectors_recursive", "8:16 309\n"),
    ("hugetlb/hugetlb.2MB.usage_in_bytes", "401\n"),
    ("hugetlb/hugetlb.2MB.max_usage_in_bytes", "402\n"),
    ("hugetlb/hugetlb.2MB.limit_in_bytes", "409\n"),
    ("hugetlb/hugetlb.2MB.failcnt", "403\n"),
    ("hugetlb/hugetlb.2MB.rsvd.usage_in_bytes", "408\n"),
    ("hugetlb/hugetlb.1GB.usage_in_bytes", "404\n"),
    ("hugetlb/hugetlb.1GB.max_usage_in_bytes", "405\n"),
    ("hugetlb/hugetlb.1GB.failcnt", "406\n"),
    ("rdma/rdma.current", "mlx4_0 hca_handle=61 hca_object=62\n"),
    ("rdma/rdma.max", "mlx4_0 hca_handle=max hca_object=64\n"),
    ("freezer/freezer.state", "THAWED\n"),
    ("freezer/cgroup.procs", "4242\n"),
    ("systemd/cgroup.procs", "4242\n"),
    ("cpuset/cpuset.cpus", "0-1\n"),
    ("devices/devices.list", "a *:* rwm\n"),
];

const EXPECTED: &str = "hugetlb {usage: 404 max: 405 failcnt: 406 pagesize: \"1GB\"} \
    hugetlb {usage: 401 max: 402 failcnt: 403 pagesize: \"2MB\"} pids {current: 11 limit: 12} \
    cpu {usage {total: 24 kernel: 260000000 user: 250000000 per_cpu: 27 per_cpu: 28} \
    throttling {periods: 21 throttled_periods: 22 throttled_time: 23}} \
    memory {cache: 101 rss: 102 rss_huge: 103 mapped_file: 104 dirty: 105 writeback: 106 pg_pg_in: 107 pg_pg_out: 108 \
    pg_fault: 109 pg_maj_fault: 110 inactive_anon: 111 active_anon: 112 inactive_file: 113 active_file: 114 \
    unevictable: 115 hierarchical_memory_limit: 116 hierarchical_swap_limit: 117 total_cache: 118 total_rss: 119 \
    total_rss_huge: 120 total_mapped_file: 121 total_dirty: 122 total_writeback: 123 total_pg_pg_in: 124 \
    total_pg_pg_out: 125 total_pg_fault: 126 total_pg_maj_fault: 127 total_inactive_anon: 128 total_active_anon: 129 \
    total_inactive_file: 130 total_active_file: 131 total_unevictable: 132 \
    usage {limit: 202 usage: 201 max: 203 failcnt: 204} \
    swap {limit: 9223372036854771712 usage: 211 max: 213 failcnt: 214} \
    kernel {limit: 222 usage: 221 max: 223 failcnt: 224} kernel_tcp {limit: 232 usage: 231 max: 233 failcnt: 234}} \
    blkio {io_service_bytes_recursive {op: \"Read\" major: 8 minor: 0 value: 301} \
    io_service_bytes_recursive {op: \"Write\" major: 8 minor: 0 value: 302} \
    io_service_bytes_recursive {op: \"Total\" major: 8 minor: 0 value: 603} \
    io_serviced_recursive {op: \"Read\" major: 8 minor: 0 value: 303} \
    io_queued_recursive {op: \"Sync\" major: 8 minor: 0 value: 304} \
    io_service_time_recursive {op: \"Async\" major: 8 minor: 0 value: 305} \
    io_wait_time_recursive {op: \"Read\" major: 8 minor: 0 value: 306} \
    io_merged_recursive {op: \"Discard\" major: 8 minor: 0 value: 307} \
    io_time_recursive {op: \"\" major: 8 minor: 16 value: 308} \
    sectors_recursive {op: \"\" major: 8 minor: 16 value: 309}} \
    rdma {current {device: \"mlx4_0\" hca_handles: 61 hca_objects: 62} \
    limit {device: \"mlx4_0\" hca_handles: 4294967295 hca_objects: 64}} \
    memory_oom_control {oom_kill_disable: 1 under_oom: 1 oom_kill: 243}";

#[test]
fn e10_every_field_of_v1_is_told() {
    let directory = tempfile::tempdir().unwrap();
    fixture::tree(directory.path(), &FILES);
    let at = |name: &str| directory.path().join(name);
    let mut paths: BTreeMap<_, _> =
        ["pids", "memory", "blkio", "hugetlb", "rdma", "freezer", "cpuset", "devices"]
            .map(|name| (name.to_owned(), at(name)))
            .into();
    paths.insert("cpu".into(), at("cpu,cpuacct"));
    paths.insert("cpuacct".into(), at("cpu,cpuacct"));
    paths.insert("name=systemd".into(), at("systemd"));
    let any = Cgroup::from_paths(paths).unwrap().stats().unwrap();
    assert_eq!(any.type_url, "io.containerd.cgroups.v1.Metrics");
    let mut metrics: Metrics = unpack(&any).unwrap().unwrap();
    let mut entries = 0;
    let blkio = metrics.blkio.as_mut().unwrap();
    for list in [
        &mut blkio.io_service_bytes_recursive,
        &mut blkio.io_serviced_recursive,
        &mut blkio.io_queued_recursive,
        &mut blkio.io_service_time_recursive,
        &mut blkio.io_wait_time_recursive,
        &mut blkio.io_merged_recursive,
        &mut blkio.io_time_recursive,
        &mut blkio.sectors_recursive,
    ] {
        assert!(!list.is_empty());
        for entry in list {
            entries += 1;
            // Whether there is such a device depends on the machine.
            entry.device.clear();
        }
    }
    assert_eq!(entries, 10);
    let mut told = fixture::fields(&metrics);
    told.retain(|field| !field.ends_with(".device=\"\""));
    let blkio = |path: &&str| !path.starts_with("blkio.");
    let unset: Vec<_> = fixture::unset(&told).into_iter().filter(blkio).collect();
    // There is no file for the states of processes; the shim knows nothing of networks.
    assert_eq!(unset, ["network", "cgroup_stats"]);
    told.retain(|field| field != "network=[]" && field != "cgroup_stats=None");
    let mut expected = fixture::expected(EXPECTED);
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
}

#[test]
fn no_limit_of_processes_is_told_as_containerd_does_on_v1() {
    let directory = tempfile::tempdir().unwrap();
    fixture::tree(directory.path(), &[("pids.current", "3\n"), ("pids.max", "max\n")]);
    let paths = BTreeMap::from([("pids".to_owned(), directory.path().to_owned())]);
    let metrics: Metrics = unpack(&Cgroup::from_paths(paths).unwrap().stats().unwrap()).unwrap().unwrap();
    assert_eq!((metrics.pids.current, metrics.pids.limit), (3, 0));
}
