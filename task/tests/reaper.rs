//! The reaper against real processes. This binary is a subreaper, and its tests run one at a time: they share the
//! process's children.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gam_task::admission::Class;
use gam_task::exit::Exit;
use gam_task::process::{Command, Process};
use gam_task::reaper::{ExitSource, Hold, Reaper};
use gam_task::sys::{daemon, pipe, proc};
use gam_task::telemetry::{Stream, Telemetry};
use gam_task::tenant::{Quota, Tenant};
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::task::JoinSet;

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

#[derive(Default)]
struct Counts {
    orphans: AtomicUsize,
    zombies: AtomicUsize,
    oldest_ms: AtomicU64,
}

impl Telemetry for Counts {
    fn runtime_command(&self, _: Option<&Tenant>, _: &'static str, _: Duration, _: bool) {}
    fn queued(&self, _: Class, _: Duration) {}
    fn limited(&self, _: Quota) {}
    fn copied(&self, _: Stream, _: u64) {}
    fn dropped(&self, _: Stream, _: u64) {}
    fn orphan_reaped(&self) {
        self.orphans.fetch_add(1, Ordering::SeqCst);
    }
    fn zombies(&self, count: usize, oldest: Duration) {
        self.zombies.store(count, Ordering::SeqCst);
        self.oldest_ms.store(u64::try_from(oldest.as_millis()).unwrap(), Ordering::SeqCst);
    }
    fn oom_kills(&self, _: &Tenant, _: u64) {}
    fn cgroup_left(&self) {}
}

struct Bench {
    reaper: Arc<Reaper>,
    counts: Arc<Counts>,
    _turn: MutexGuard<'static, ()>,
}

async fn bench() -> Bench {
    let turn = ONE_AT_A_TIME.lock().await;
    let counts = Arc::new(Counts::default());
    daemon::close_on_exec_all().unwrap();
    let bench = Bench { reaper: Reaper::new(counts.clone()).unwrap(), counts, _turn: turn };
    for pid in proc::children().unwrap() {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
    }
    until("no child is left of the test before", || proc::children().unwrap().is_empty()).await;
    bench.counts.orphans.store(0, Ordering::SeqCst);
    bench
}

impl Bench {
    fn orphans(&self) -> usize {
        self.counts.orphans.load(Ordering::SeqCst)
    }

    async fn leave(&self, script: &str) -> i32 {
        leave(&self.reaper, script).await
    }
}

/// Runs a shell as a runtime command: it makes a process that runs `script`, prints its pid and leaves it. The process
/// begins once the shell has gone, which might reap it otherwise.
async fn leave(reaper: &Reaper, script: &str) -> i32 {
    let (read, write) = pipe::pipe().unwrap();
    let (gate, gone) = pipe::pipe().unwrap();
    let script = format!("(read line <&3; {script}) >/dev/null & echo $!");
    let mut child = reaper.spawn(sh(&script).stdout(write).fd(3, gate)).unwrap();
    assert!(child.wait().await.unwrap().success());
    drop(gone);
    text(read).trim().parse().unwrap()
}

fn sh(script: &str) -> Command {
    Command::new("/bin/sh").arg("-c").arg(script).env("PATH", "/usr/bin:/bin")
}

fn text(fd: OwnedFd) -> String {
    let mut text = String::new();
    fs::File::from(fd).read_to_string(&mut text).unwrap();
    text
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "gave up waiting: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn is_zombie(pid: i32) -> bool {
    proc::stat(pid).is_ok_and(|stat| stat.state == 'Z')
}

fn is_gone(pid: i32) -> bool {
    proc::stat(pid).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

#[tokio::test]
async fn a16_orphans_are_reaped_and_counted() {
    let bench = bench().await;
    let script = "i=0; while [ $i -lt 40 ]; do (sleep 0.1$i &) ; i=$((i+1)); done";
    let mut child = bench.reaper.spawn(sh(script)).unwrap();
    assert!(child.wait().await.unwrap().success());
    until("40 orphans", || bench.orphans() == 40).await;
    assert_eq!(proc::children().unwrap(), Vec::<i32>::new());
}

#[tokio::test]
async fn a11_a_hold_keeps_a_dead_process_until_it_is_adopted() {
    let bench = bench().await;
    let hold = bench.reaper.hold();
    let pid = bench.leave("exit 7").await;
    until("it has ended", || is_zombie(pid)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(is_zombie(pid), "it was reaped under a hold");
    let process = bench.reaper.adopt(pid, &hold).unwrap();
    drop(hold);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(process.wait().await.status, 7);
    assert!(is_gone(pid));
    assert_eq!(bench.orphans(), 0);
}

#[tokio::test]
async fn an_orphan_is_reaped_when_the_hold_is_dropped() {
    let bench = bench().await;
    let hold = bench.reaper.hold();
    let pid = bench.leave("exit 7").await;
    until("it is counted", || bench.counts.zombies.load(Ordering::SeqCst) == 1).await;
    let later = bench.reaper.hold();
    assert!(is_zombie(pid));
    drop(hold);
    until("it is gone", || is_gone(pid)).await;
    until("it is counted", || bench.orphans() == 1).await;
    drop(later);
}

#[tokio::test]
async fn a17_zombies_are_counted_with_their_age() {
    let bench = bench().await;
    let hold = bench.reaper.hold();
    let pid = bench.leave("exit 7").await;
    until("it is counted", || bench.counts.zombies.load(Ordering::SeqCst) == 1).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    bench.leave("exit 8").await;
    until("both are counted", || bench.counts.zombies.load(Ordering::SeqCst) == 2).await;
    assert!(bench.counts.oldest_ms.load(Ordering::SeqCst) >= 60);
    drop(hold);
    until("none is counted", || bench.counts.zombies.load(Ordering::SeqCst) == 0).await;
    assert!(is_gone(pid));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a9_no_exit_is_lost_under_load() {
    let bench = bench().await;
    let mut tasks: JoinSet<(u32, u32)> = JoinSet::new();
    for number in 0..200_u32 {
        let code = number % 250;
        let reaper = bench.reaper.clone();
        tasks.spawn(async move {
            tokio::time::sleep(Duration::from_millis(u64::from(number % 17))).await;
            let mut child = reaper.spawn(sh(&format!("(sleep 0.1 &); exit {code}"))).unwrap();
            (code, u32::try_from(child.wait().await.unwrap().code().unwrap()).unwrap())
        });
        let reaper = bench.reaper.clone();
        tasks.spawn(async move {
            let hold = reaper.hold();
            let pid = leave(&reaper, &format!("exit {code}")).await;
            let process = reaper.adopt(pid, &hold).unwrap();
            drop(hold);
            (code, process.wait().await.status)
        });
    }
    let mut done = 0;
    while let Some(ended) = tasks.join_next().await {
        let (expected, found) = ended.unwrap();
        assert_eq!(expected, found);
        done += 1;
    }
    assert_eq!(done, 400);
    until("the other 200 orphans", || bench.orphans() == 200).await;
    assert_eq!(proc::children().unwrap(), Vec::<i32>::new());
}

#[tokio::test]
async fn a10_every_waiter_gets_the_one_exit() {
    let bench = bench().await;
    let hold = bench.reaper.hold();
    let pid = bench.leave("exec sleep 100").await;
    let process = bench.reaper.adopt(pid, &hold).unwrap();
    assert_eq!(process.pid(), pid);
    assert_eq!(process.start_time(), proc::start_time(pid).unwrap());
    let again = bench.reaper.adopt(pid, &hold).unwrap_err();
    assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    drop(hold);
    assert!(tokio::time::timeout(Duration::from_millis(20), process.wait()).await.is_err());
    process.signal(0).unwrap();
    assert_eq!(process.signal(65).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    let mut waiters = JoinSet::new();
    for _ in 0..20 {
        let process = process.clone();
        waiters.spawn(async move { process.wait().await });
    }
    tokio::task::yield_now().await;
    process.signal(libc::SIGKILL).unwrap();
    let exits = waiters.join_all().await;
    assert_eq!(exits[0].status, Exit::KILLED);
    assert!(exits.iter().all(|exit| *exit == exits[0]));
    assert_eq!(process.wait().await, exits[0]);
    assert_eq!(process.exit(), Some(exits[0]));
    assert_eq!(process.signal(libc::SIGKILL).unwrap_err().raw_os_error(), Some(libc::ESRCH));
}

#[tokio::test]
async fn a10_an_exit_that_somebody_stole_is_unknown() {
    let bench = bench().await;
    let hold = bench.reaper.hold();
    let pid = bench.leave("exec sleep 100").await;
    let process = bench.reaper.adopt(pid, &hold).unwrap();
    process.signal(libc::SIGKILL).unwrap();
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).unwrap();
    assert_eq!(process.wait().await.status, Exit::UNKNOWN);
}

#[tokio::test]
async fn only_children_are_adopted() {
    let bench = bench().await;
    let hold = ExitSource::hold(&*bench.reaper);
    for (pid, kind) in [
        (1, io::ErrorKind::InvalidInput),
        (0, io::ErrorKind::InvalidInput),
        (-5, io::ErrorKind::InvalidInput),
    ] {
        assert_eq!(ExitSource::adopt(&*bench.reaper, pid, &hold).unwrap_err().kind(), kind, "{pid}");
    }
    let missing = bench.reaper.adopt(i32::MAX, &hold).unwrap_err();
    assert_eq!(missing.raw_os_error(), Some(libc::ESRCH));
}

#[tokio::test]
async fn real_time_signals_end_and_are_told() {
    let bench = bench().await;
    let mut child = bench.reaper.spawn(Command::new("/bin/sleep").arg("100")).unwrap();
    child.kill(40).unwrap();
    assert_eq!(child.wait().await.unwrap().signal(), Some(40));
    assert_eq!(child.wait().await.unwrap().signal(), Some(40));
    assert_eq!(child.kill(9).unwrap_err().raw_os_error(), Some(libc::ESRCH));
}

#[tokio::test]
async fn a_child_that_nobody_waits_for_is_reaped() {
    let bench = bench().await;
    let child = bench.reaper.spawn(sh("sleep 0.05")).unwrap();
    let pid = child.pid();
    drop(child);
    assert!(!is_gone(pid));
    until("it is gone", || is_gone(pid)).await;
    let child = bench.reaper.spawn(sh("exit 0")).unwrap();
    let pid = child.pid();
    until("it has ended", || is_zombie(pid)).await;
    drop(child);
    until("it is gone", || is_gone(pid)).await;
}

#[tokio::test]
async fn a_wait_may_be_given_up_and_taken_up() {
    let bench = bench().await;
    let mut child = bench.reaper.spawn(sh("sleep 0.1; exit 9")).unwrap();
    for _ in 0..3 {
        assert!(tokio::time::timeout(Duration::from_millis(5), child.wait()).await.is_err());
    }
    assert_eq!(child.wait().await.unwrap().code(), Some(9));
}

#[tokio::test]
async fn j11_the_environment_is_what_was_given() {
    let bench = bench().await;
    let (read, write) = pipe::pipe().unwrap();
    let command =
        Command::new("/usr/bin/env").env("B", "1").env("A", "two words").env("B", "3").stdout(write);
    assert!(bench.reaper.spawn(command).unwrap().wait().await.unwrap().success());
    assert_eq!(text(read), "A=two words\nB=3\n");
    for (name, value) in [("", "x"), ("A=B", "x"), ("A", "nul\0")] {
        let refused = bench.reaper.spawn(Command::new("/usr/bin/env").env(name, value)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }
}

fn descriptors(pid: i32) -> BTreeMap<i32, PathBuf> {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter_map(|entry| {
            let number = entry.file_name().to_str().unwrap().parse().unwrap();
            Some((number, fs::read_link(entry.path()).ok()?))
        })
        .collect()
}

/// The loader of a program that has just been executed still has its libraries open.
async fn has(pid: i32, expected: &BTreeMap<i32, PathBuf>) {
    for _ in 0..500 {
        if descriptors(pid) == *expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(descriptors(pid), *expected);
}

/// The other tests wait for their turn, but their runtimes open descriptors of other kinds meanwhile.
fn pipes_and_pidfds() -> usize {
    let links =
        fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    links
        .filter(|link| {
            ["pipe:", "anon_inode:[pidfd]"].iter().any(|kind| link.to_str().unwrap().starts_with(kind))
        })
        .count()
}

fn link(fd: &OwnedFd) -> PathBuf {
    fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap()
}

#[tokio::test]
async fn i6_a_child_has_the_descriptors_it_was_given() {
    let bench = bench().await;
    let null = PathBuf::from("/dev/null");
    let mut child = bench.reaper.spawn(Command::new("/bin/sleep").arg("100")).unwrap();
    has(child.pid(), &(0..3).map(|fd| (fd, null.clone())).collect()).await;
    child.kill(libc::SIGKILL).unwrap();
    child.wait().await.unwrap();

    // Two are exchanged and one keeps its number, the cases in which a plain dup2 goes wrong.
    let (a, b) = pipe::pipe().unwrap();
    let (c, d) = pipe::pipe().unwrap();
    let (a_at, b_at, c_at) = (a.as_raw_fd(), b.as_raw_fd(), c.as_raw_fd());
    let expected = BTreeMap::from([
        (0, null.clone()),
        (1, link(&d)),
        (2, null.clone()),
        (b_at, link(&a)),
        (a_at, link(&b)),
        (c_at, link(&c)),
    ]);
    let command = Command::new("/bin/sleep").arg("100").stdout(d).fd(b_at, a).fd(a_at, b).fd(c_at, c);
    let mut child = bench.reaper.spawn(command).unwrap();
    has(child.pid(), &expected).await;
    child.kill(libc::SIGKILL).unwrap();
    child.wait().await.unwrap();
}

#[tokio::test]
async fn a_child_starts_with_clean_signals_and_its_own_directory() {
    let bench = bench().await;
    let mut child =
        bench.reaper.spawn(Command::new("sleep").arg("100").cwd("/usr").new_session(true)).unwrap();
    let of = |what: &str| format!("/proc/{}/{what}", child.pid());
    let status = fs::read_to_string(of("status")).unwrap();
    for set in ["SigBlk", "SigIgn", "SigCgt"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000\n")), "{status}");
    }
    assert_eq!(fs::read_link(of("cwd")).unwrap(), PathBuf::from("/usr"));
    let session = rustix::process::getsid(rustix::process::Pid::from_raw(child.pid())).unwrap();
    assert_eq!(session.as_raw_nonzero().get(), child.pid());
    child.kill(libc::SIGTERM).unwrap();
    assert_eq!(child.wait().await.unwrap().signal(), Some(libc::SIGTERM));
}

#[tokio::test]
async fn a_group_is_killed_with_its_leader() {
    let bench = bench().await;
    let mut child = bench.reaper.spawn(sh("sleep 100 & sleep 100 & wait").new_session(true)).unwrap();
    until("its children run", || {
        let list = format!("/proc/{0}/task/{0}/children", child.pid());
        fs::read_to_string(list).unwrap().split_whitespace().count() == 2
    })
    .await;
    child.kill_group(libc::SIGKILL).unwrap();
    assert_eq!(child.wait().await.unwrap().signal(), Some(libc::SIGKILL));
    until("its children are reaped", || bench.orphans() == 2).await;
    assert_eq!(child.kill_group(libc::SIGKILL).unwrap_err().raw_os_error(), Some(libc::ESRCH));
}

#[tokio::test]
async fn what_cannot_be_executed_leaves_nothing() {
    let bench = bench().await;
    let before = pipes_and_pidfds();
    for command in [
        Command::new("/nonexistent/runc"),
        Command::new("no-such-program"),
        Command::new("/bin/true").cwd("/nonexistent"),
    ] {
        let (_read, write) = pipe::pipe().unwrap();
        let refused = bench.reaper.spawn(command.stdout(write)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
    }
    let denied = bench.reaper.spawn(Command::new("/etc/passwd")).unwrap_err();
    assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
    assert_eq!(pipes_and_pidfds(), before);
    until("no child is left", || proc::children().unwrap().is_empty()).await;
}

#[tokio::test]
async fn descriptors_are_given_back() {
    let bench = bench().await;
    bench.reaper.spawn(sh("exit 0")).unwrap().wait().await.unwrap();
    let before = pipes_and_pidfds();
    for _ in 0..20 {
        let (read, write) = pipe::pipe().unwrap();
        let hold = bench.reaper.hold();
        let pid = bench.leave("exit 3").await;
        let process = bench.reaper.adopt(pid, &hold).unwrap();
        process.wait().await;
        bench.reaper.spawn(sh("exit 0").stdin(read).stdout(write)).unwrap().wait().await.unwrap();
    }
    assert_eq!(pipes_and_pidfds(), before);
}

#[tokio::test]
async fn a_process_may_be_seen_to_end_elsewhere() {
    let (tell, exits) = watch::channel(None);
    let process = Arc::new(Process::reported(7, 99, exits, Box::new(|_| Ok(()))));
    assert_eq!((process.pid(), process.start_time(), process.exit()), (7, 99, None));
    assert!(process.pidfd().is_none());
    process.signal(9).unwrap();
    let waiter = tokio::spawn({
        let process = process.clone();
        async move { process.wait().await }
    });
    tell.send(Some(Exit::now(3))).unwrap();
    assert_eq!(waiter.await.unwrap().status, 3);
    let (tell, exits) = watch::channel(None);
    drop(tell);
    let lost = Process::reported(8, 99, exits, Box::new(|_| Ok(())));
    assert_eq!(lost.wait().await.status, Exit::UNKNOWN);
    drop(Hold::none());
}
