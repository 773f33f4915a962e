//! Cgroups and the OOM monitor on the kernel's own hierarchies: v1 where the memory controller is on v1, else v2. On a
//! hybrid machine what needs no controller is also tested on its empty v2 hierarchy.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gam_protos::any::unpack;
use gam_protos::{cgroups_v1, cgroups_v2};
use gam_task::cgroup::{self, Cgroup, CgroupError, OomMonitor, OomWatch};
use gam_task::process::{Child, Command};
use gam_task::reaper::Reaper;
use gam_task::telemetry::Silent;
use protobuf::well_known_types::any::Any;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::sleep;

/// The reaper and the descriptors are the whole process's.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
static NAMES: AtomicUsize = AtomicUsize::new(0);
const TOP: &str = "/sys/fs/cgroup";
const LONG: Duration = Duration::from_secs(60);

struct Bench {
    reaper: Arc<Reaper>,
    _turn: MutexGuard<'static, ()>,
}

async fn bench() -> Bench {
    let turn = ONE_AT_A_TIME.lock().await;
    Bench { reaper: Reaper::new(Arc::new(Silent)).unwrap(), _turn: turn }
}

impl Bench {
    /// A shell that puts itself into the directories and goes on with `script`.
    fn run(&self, directories: &[PathBuf], script: &str) -> Child {
        let mut text = "set -e; ".to_owned();
        for directory in directories {
            text += &format!("echo $$ > {}/cgroup.procs; ", directory.display());
        }
        text += &format!("set +e; {script}");
        self.reaper.spawn(Command::new("/bin/sh").args(["-c", &text]).keep_env("PATH")).unwrap()
    }
}

/// A cgroup that is removed at the end of the test.
struct Group {
    paths: BTreeMap<String, PathBuf>,
    cgroup: Cgroup,
}

fn machine_is_v2() -> bool {
    Path::new(TOP).join("cgroup.controllers").exists()
}

fn name() -> String {
    format!("gam-test-{}-{}", std::process::id(), NAMES.fetch_add(1, Ordering::SeqCst))
}

impl Group {
    fn new() -> Self {
        let name = name();
        let paths: BTreeMap<String, PathBuf> = if machine_is_v2() {
            let _ = fs::write(Path::new(TOP).join("cgroup.subtree_control"), "+memory +pids +cpu +io");
            BTreeMap::from([(String::new(), Path::new(TOP).join(name))])
        } else {
            ["memory", "pids", "cpu", "cpuacct", "freezer", "blkio"]
                .map(|controller| (controller.to_owned(), Path::new(TOP).join(controller).join(&name)))
                .into()
        };
        Self::at(paths)
    }

    /// On a v2 hierarchy, which may have no controllers; none if the machine has no such hierarchy.
    fn unified() -> Option<Self> {
        let top = if machine_is_v2() { TOP.to_owned() } else { format!("{TOP}/unified") };
        let exists = Path::new(&top).join("cgroup.procs").exists();
        exists.then(|| Self::at(BTreeMap::from([(String::new(), Path::new(&top).join(name()))])))
    }

    fn at(paths: BTreeMap<String, PathBuf>) -> Self {
        for path in paths.values() {
            fs::create_dir(path).unwrap();
        }
        let cgroup = Cgroup::from_paths(paths.clone()).unwrap();
        Self { paths, cgroup }
    }

    fn all(&self) -> Vec<PathBuf> {
        self.paths.values().cloned().collect()
    }

    fn memory(&self) -> &Path {
        self.paths.get("memory").or_else(|| self.paths.get("")).unwrap()
    }

    /// Limits memory to 16 MiB, without swap.
    fn limit(&self, directory: &Path) {
        let files = if self.cgroup.is_v2() {
            ["memory.max", "memory.swap.max"]
        } else {
            ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
        };
        fs::write(directory.join(files[0]), "16777216").unwrap();
        let _ = fs::write(directory.join(files[1]), if self.cgroup.is_v2() { "0" } else { "16777216" });
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.cgroup.kill_all();
        let end = Instant::now() + Duration::from_secs(20);
        for path in self.paths.values() {
            for sub in [path.join("sub/deeper"), path.join("sub"), path.clone()] {
                while sub.exists() && fs::remove_dir(&sub).is_err() && Instant::now() < end {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }
}

/// A watch and what it has told.
fn watch(monitor: &Arc<OomMonitor>, cgroup: &Cgroup) -> (OomWatch, Arc<AtomicU64>) {
    let told = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&told);
    let watch = monitor.watch(cgroup, move |kills| {
        count.fetch_add(kills, Ordering::SeqCst);
    });
    (watch.unwrap(), told)
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Runs out of memory.
const GREEDY: &str = "exec tail /dev/zero";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e1_an_oom_kill_is_told_once_and_an_old_one_never() {
    let bench = bench().await;
    let group = Group::new();
    group.limit(group.memory());
    let monitor = OomMonitor::new().unwrap();
    let (first, told) = watch(&monitor, &group.cgroup);
    assert_eq!(monitor.watched(), 1);
    let status = bench.run(&group.all(), GREEDY).wait().await.unwrap();
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    until("the kill is told", || told.load(Ordering::SeqCst) == 1).await;
    assert!(!first.is_blind());
    // E6: a watch that begins now does not know of it.
    let (second, told_second) = watch(&monitor, &group.cgroup);
    let status = bench.run(&group.all(), GREEDY).wait().await.unwrap();
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    until("it is told to both", || told_second.load(Ordering::SeqCst) == 1).await;
    until("it is told to both", || told.load(Ordering::SeqCst) == 2).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!((first.finish(), second.finish()), (0, 0));
    assert_eq!((told.load(Ordering::SeqCst), told_second.load(Ordering::SeqCst)), (2, 1));
    assert_eq!(monitor.watched(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e3_a_last_look_knows_of_the_kill_that_ended_the_container() {
    let bench = bench().await;
    let group = Group::new();
    group.limit(group.memory());
    let monitor = OomMonitor::new().unwrap();
    for _ in 0..8 {
        let (watch, told) = watch(&monitor, &group.cgroup);
        bench.run(&group.all(), GREEDY).wait().await.unwrap();
        let last = watch.finish();
        let before = told.load(Ordering::SeqCst);
        assert_eq!(last + before, 1);
        sleep(Duration::from_millis(30)).await;
        assert_eq!(told.load(Ordering::SeqCst), before, "nothing is told after the last look");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e6_kills_in_sub_cgroups_are_the_containers() {
    let bench = bench().await;
    let group = Group::new();
    let sub = group.memory().join("sub");
    group.limit(group.memory());
    let monitor = OomMonitor::new().unwrap();
    let (watch, told) = watch(&monitor, &group.cgroup);
    if group.cgroup.is_v2() {
        fs::write(group.memory().join("cgroup.subtree_control"), "+memory").unwrap();
    }
    fs::create_dir(&sub).unwrap();
    bench.run(std::slice::from_ref(&sub), GREEDY).wait().await.unwrap();
    until("the kill is told", || told.load(Ordering::SeqCst) == 1).await;
    fs::remove_dir(&sub).unwrap();
    // A new one of the same name counts from zero.
    fs::create_dir(&sub).unwrap();
    bench.run(&[sub], GREEDY).wait().await.unwrap();
    until("the next one too", || told.load(Ordering::SeqCst) == 2).await;
    assert_eq!(watch.finish(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e7_being_out_of_memory_without_a_kill_is_not_told() {
    let bench = bench().await;
    let group = Group::new();
    if group.cgroup.is_v2() {
        println!("skipped: only v1 can be kept from killing");
        return;
    }
    group.limit(group.memory());
    fs::write(group.memory().join("memory.oom_control"), "1").unwrap();
    let monitor = OomMonitor::new().unwrap();
    let (watch, told) = watch(&monitor, &group.cgroup);
    let mut child = bench.run(&group.all(), GREEDY);
    let control = group.memory().join("memory.oom_control");
    until("it is out of memory", || fs::read_to_string(&control).unwrap().contains("under_oom 1")).await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(told.load(Ordering::SeqCst), 0);
    child.kill(libc::SIGKILL).unwrap();
    child.wait().await.unwrap();
    assert_eq!(watch.finish(), 0);
    assert_eq!(told.load(Ordering::SeqCst), 0);
}

fn inotify_watches() -> usize {
    let lines = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let files = fs::read_dir("/proc/self/fdinfo").unwrap();
    files.map(|file| lines(file.unwrap().path()).matches("inotify wd:").count()).sum()
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e5_nothing_is_left_of_watches_whose_cgroups_come_and_go() {
    let _bench = bench().await;
    let monitor = OomMonitor::new().unwrap();
    let (watches, open) = (inotify_watches(), descriptors());
    for round in 0..200 {
        let group = Group::new();
        let (watch, told) = watch(&monitor, &group.cgroup);
        assert_eq!(monitor.watched(), 1);
        if round % 2 == 0 {
            assert!(group.cgroup.remove(LONG).await, "a watch does not keep a cgroup");
            assert!(!group.cgroup.exists());
            assert!(watch.is_blind());
            assert_eq!(watch.finish(), 0);
        } else {
            drop(watch);
        }
        assert_eq!((monitor.watched(), told.load(Ordering::SeqCst)), (0, 0));
        assert!(inotify_watches() <= watches);
    }
    // The runtimes of tests that wait for their turn come and go with a few; a leak would be one or more a round.
    until("descriptors are closed", || descriptors() < open + 50).await;
    let files =
        fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
    assert_eq!(files.filter(|file| file.to_string_lossy().contains("gam-test-")).count(), 0);
    let gone = Group::new();
    assert!(gone.cgroup.remove(LONG).await);
    assert!(matches!(monitor.watch(&gone.cgroup, |_| {}), Err(CgroupError::Gone { .. })));
    assert_eq!(monitor.watched(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_one_watch_does_not_end_the_others() {
    let bench = bench().await;
    let (bad, good) = (Group::new(), Group::new());
    let monitor = OomMonitor::new().unwrap();
    let _bad = monitor.watch(&bad.cgroup, |_| panic!("as it is meant to")).unwrap();
    let (_good, told) = watch(&monitor, &good.cgroup);
    for group in [&bad, &good] {
        group.limit(group.memory());
        bench.run(&group.all(), GREEDY).wait().await.unwrap();
    }
    until("the good one is told", || told.load(Ordering::SeqCst) == 1).await;
}

/// A v2 cgroup with `subs` in it, for which the memory controller is enabled, removed at the end.
struct Nest(PathBuf, Vec<PathBuf>);

impl Nest {
    fn new(above: &[String], subs: &[&str]) -> Self {
        let mut path = PathBuf::from(TOP);
        for name in above {
            fs::write(path.join("cgroup.subtree_control"), "+memory +pids").unwrap();
            path.push(name);
            let _ = fs::create_dir(&path);
        }
        fs::write(path.join("cgroup.subtree_control"), "+memory +pids").unwrap();
        let subs: Vec<PathBuf> = subs.iter().map(|name| path.join(name)).collect();
        subs.iter().for_each(|sub| fs::create_dir(sub).unwrap());
        Self(path, subs)
    }

    fn cgroup(&self, sub: usize) -> Cgroup {
        Cgroup::from_paths(BTreeMap::from([(String::new(), self.1[sub].clone())])).unwrap()
    }
}

impl Drop for Nest {
    fn drop(&mut self) {
        for path in self.1.iter().chain([&self.0]) {
            let _ = fs::remove_dir(path);
        }
        // Only where another test does not use it.
        let _ = self.0.parent().filter(|above| *above != Path::new(TOP)).map(fs::remove_dir);
    }
}

/// Limits a v2 cgroup to 16 MiB.
fn limit_v2(directory: &Path) {
    fs::write(directory.join("memory.max"), "16777216").unwrap();
    let _ = fs::write(directory.join("memory.swap.max"), "0");
}

#[tokio::test]
async fn e4_a_kill_in_a_scope_that_is_gone_is_known_from_the_pod() {
    let bench = bench().await;
    if !machine_is_v2() {
        println!("skipped: on v1 the pod has no count of its containers");
        return;
    }
    let pod = Nest::new(&["kubepods".into(), format!("pod{}", name())], &["a", "b"]);
    pod.1.iter().for_each(|sub| limit_v2(sub));
    let monitor = OomMonitor::new().unwrap();
    let (a, told_a) = watch(&monitor, &pod.cgroup(0));
    let (b, told_b) = watch(&monitor, &pod.cgroup(1));
    // This is the only thread: without an await the monitor sees nothing of what happens now.
    for sub in &pod.1 {
        let child = bench.run(std::slice::from_ref(sub), GREEDY);
        let end = Instant::now() + LONG;
        while gam_task::sys::proc::stat(child.pid()).unwrap().state != 'Z' {
            assert!(Instant::now() < end);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    while fs::remove_dir(&pod.1[0]).is_err() {
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(told_a.load(Ordering::SeqCst), 0);
    assert!(a.is_blind());
    assert_eq!(a.finish(), 1, "b's kill is not a's");
    assert_eq!(b.finish() + told_b.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e6_kills_in_the_scope_around_a_sub_cgroup_are_the_containers() {
    let bench = bench().await;
    if !machine_is_v2() {
        println!("skipped: only systemd on v2 makes such scopes");
        return;
    }
    let scope = Nest::new(&[format!("{}.scope", name())], &["container", "other"]);
    limit_v2(&scope.0);
    let monitor = OomMonitor::new().unwrap();
    let (watch, told) = watch(&monitor, &scope.cgroup(0));
    bench.run(&scope.1[1..], GREEDY).wait().await.unwrap();
    until("the kill is told", || told.load(Ordering::SeqCst) == 1).await;
    assert_eq!(watch.finish(), 0);
}

fn number(directory: &Path, file: &str) -> u64 {
    fs::read_to_string(directory.join(file)).unwrap().trim().parse().unwrap()
}

/// Whether the numbers of memory have come; the others are right at once.
fn v2_is_told(group: &Group, any: &Any) -> bool {
    let stats: cgroups_v2::Metrics = unpack(any).unwrap().unwrap();
    assert_eq!((stats.pids.current, stats.pids.limit), (2, 77));
    assert_eq!((stats.memory.usage_limit, stats.memory.swap_limit), (16_777_216, 0));
    assert!(stats.cpu.usage_usec > 0);
    assert_eq!(stats.memory_events.as_ref().unwrap().oom_kill, 0);
    assert_eq!(stats.memory.psi.is_some(), group.memory().join("memory.pressure").exists());
    stats.memory.usage > 0 && stats.memory.pgfault > 0 && stats.memory.anon > 0
}

/// The same on v1.
fn v1_is_told(group: &Group, any: &Any) -> bool {
    let stats: cgroups_v1::Metrics = unpack(any).unwrap().unwrap();
    assert_eq!((stats.pids.current, stats.pids.limit), (2, 77));
    assert_eq!(stats.memory.usage.limit, 16_777_216);
    assert_eq!(stats.memory.hierarchical_memory_limit, 16_777_216);
    assert!(stats.memory.usage.usage > 0 && stats.memory.usage.max >= stats.memory.usage.usage);
    assert!(stats.memory.kernel.is_some() && stats.memory.kernel_tcp.is_some());
    let total = number(&group.paths["cpuacct"], "cpuacct.usage");
    assert!(stats.cpu.usage.total > 0 && stats.cpu.usage.total <= total);
    assert!(stats.cpu.usage.per_cpu.iter().sum::<u64>() <= total);
    assert!(stats.blkio.is_some() && stats.memory_oom_control.is_some());
    stats.memory.total_pg_fault > 0 && stats.memory.total_rss > 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e10_stats_are_those_of_the_kernels_files() {
    let bench = bench().await;
    let group = Group::new();
    group.limit(group.memory());
    let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 1000 & wait";
    let mut child = bench.run(&group.all(), script);
    let pids = group.paths.get("pids").unwrap_or(group.paths.values().next().unwrap()).clone();
    fs::write(pids.join("pids.max"), "77").unwrap();
    until("both processes are there", || number(&pids, "pids.current") == 2).await;
    // The kernel brings memory's numbers up to date every other second.
    let mut told = false;
    let end = Instant::now() + LONG;
    while !told {
        assert!(Instant::now() < end, "the numbers of memory stay at zero");
        sleep(Duration::from_millis(20)).await;
        let any = group.cgroup.stats().unwrap();
        told = if group.cgroup.is_v2() { v2_is_told(&group, &any) } else { v1_is_told(&group, &any) };
    }
    group.cgroup.kill_all().unwrap();
    child.wait().await.unwrap();
    assert!(group.cgroup.remove(LONG).await);
    assert!(matches!(group.cgroup.stats(), Err(CgroupError::Gone { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e9_stats_while_the_cgroup_goes_are_right_or_gone() {
    let _bench = bench().await;
    for round in 0..40_u32 {
        let group = Group::new();
        let cgroup = group.cgroup.clone();
        let asking = std::thread::spawn(move || {
            loop {
                match cgroup.stats() {
                    Ok(_) => {}
                    Err(CgroupError::Gone { .. }) => return,
                    Err(other) => panic!("{other}"),
                }
            }
        });
        sleep(Duration::from_micros(u64::from(round) * 100)).await;
        assert!(group.cgroup.remove(LONG).await);
        asking.join().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_is_found_with_its_descendants_and_all_are_killed() {
    let bench = bench().await;
    for group in [Some(Group::new()), Group::unified()].into_iter().flatten() {
        let mut child = bench.run(&group.all(), "sleep 1000 & sleep 1000 & wait");
        until("three are there", || group.cgroup.processes().unwrap().len() == 3).await;
        let found = Cgroup::of_process(child.pid());
        if group.paths.len() > 1 || machine_is_v2() {
            assert_eq!(found.unwrap().to_paths(), group.paths);
        }
        for path in group.all() {
            fs::create_dir_all(path.join("sub/deeper")).unwrap();
        }
        let deeper: Vec<_> = group.all().iter().map(|path| path.join("sub/deeper")).collect();
        let mut other = bench.run(&deeper, "exec sleep 1000");
        until("four are there", || group.cgroup.processes().unwrap().len() == 4).await;
        assert!(group.cgroup.processes().unwrap().contains(&other.pid()));
        assert!(!group.cgroup.remove(Duration::from_millis(50)).await, "it is in use");
        group.cgroup.kill_all().unwrap();
        assert_eq!(child.wait().await.unwrap().signal(), Some(libc::SIGKILL));
        assert_eq!(other.wait().await.unwrap().signal(), Some(libc::SIGKILL));
        assert!(group.cgroup.remove(LONG).await);
        assert!(!group.cgroup.exists());
        assert!(group.cgroup.remove(Duration::ZERO).await, "what is gone is removed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_forks_faster_than_it_is_killed_is_killed() {
    let bench = bench().await;
    for group in [Some(Group::new()), Group::unified()].into_iter().flatten() {
        if let Some(pids) = group.paths.get("pids") {
            fs::write(pids.join("pids.max"), "300").unwrap();
        }
        let bomb =
            "f() { n=0; while [ $n -lt 100 ]; do n=$((n+1)); sleep 0.05 & done; wait; f; }; f & f & wait";
        let mut child = bench.run(&group.all(), bomb);
        until("many are there", || group.cgroup.processes().unwrap().len() > 50).await;
        group.cgroup.kill_all().unwrap();
        child.wait().await.unwrap();
        until("none is left", || group.cgroup.processes().unwrap().is_empty()).await;
        assert!(group.cgroup.remove(LONG).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_what_is_frozen_is_killed_and_thawed() {
    let bench = bench().await;
    for group in [Some(Group::new()), Group::unified()].into_iter().flatten() {
        let mut child = bench.run(&group.all(), "exec sleep 1000");
        until("it is there", || group.cgroup.processes().unwrap().len() == 1).await;
        let frozen = || {
            let state = group.paths.get("freezer").map(|path| path.join("freezer.state"));
            match state {
                Some(state) => fs::read_to_string(state).unwrap() == "FROZEN\n",
                None => {
                    let events = group.paths.values().next().unwrap().join("cgroup.events");
                    fs::read_to_string(events).unwrap().contains("frozen 1")
                }
            }
        };
        group.cgroup.freeze().unwrap();
        until("it is frozen", frozen).await;
        group.cgroup.thaw().unwrap();
        until("it is thawed", || !frozen()).await;
        group.cgroup.freeze().unwrap();
        until("it is frozen again", frozen).await;
        group.cgroup.kill_all().unwrap();
        assert_eq!(child.wait().await.unwrap().signal(), Some(libc::SIGKILL));
        assert!(group.cgroup.remove(LONG).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d13_a_cgroup_is_removed_when_its_last_process_has_died() {
    let bench = bench().await;
    let group = Group::new();
    let mut child = bench.run(&group.all(), "exec sleep 0.4");
    until("it is there", || !group.cgroup.processes().unwrap().is_empty()).await;
    let (removed, status) = tokio::join!(group.cgroup.remove(LONG), child.wait());
    assert!(removed && status.unwrap().success());
    assert!(!group.cgroup.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e13_a_process_is_put_into_a_cgroup_that_is_there() {
    let bench = bench().await;
    let group = Group::new();
    let mut child = bench.run(&[], "exec sleep 1000");
    let name = group.memory().file_name().unwrap().to_str().unwrap().to_owned();
    cgroup::join(&name, child.pid()).unwrap();
    assert_eq!(Cgroup::of_process(child.pid()).unwrap(), group.cgroup);
    assert!(matches!(cgroup::join("/gam-none", child.pid()), Err(CgroupError::Gone { .. })));
    child.kill(libc::SIGKILL).unwrap();
    child.wait().await.unwrap();
}
