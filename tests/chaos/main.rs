//! One tenant does everything wrong, and its neighbour in the same manager does not notice: rows K4 and K5, all at once.
//!
//! `make e2e` runs it, alone: it uses all of the machine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bad_tenant;
mod neighbour;
mod troubles;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gam_tests::daemon::{Daemon, Settings};
use gam_tests::suite::{Test, main_of};
use gam_tests::{poll, processes};

use crate::bad_tenant::BadTenant;
use crate::neighbour::{Pod, neighbours};
use crate::troubles::TROUBLES;

gam_tests::tests![k5_a_tenant_that_does_everything_wrong_hurts_nobody];

fn main() {
    main_of(tests(), &[], Duration::from_secs(180), Vec::new)
}

/// How long it goes on.
const RUN: Duration = Duration::from_secs(25);
/// Commands of the runtime that hang meanwhile.
const STUCK: usize = 10;
/// No call of the neighbour takes longer.
const LONGEST: Duration = Duration::from_secs(5);
/// How much longer the neighbour's lives take, in the middle, than under another manager meanwhile, or on an idle machine.
const THAN_APART: u32 = 2;
const THAN_IDLE: u32 = 4;
/// The manager's own memory, in KiB, and its threads.
const MEMORY: u64 = 32 << 10;
const THREADS: usize = 12;

/// What the manager has at most.
#[derive(Debug, Default)]
struct Peak {
    memory: u64,
    threads: usize,
    descriptors: usize,
}

fn watch(manager: u32, over: &AtomicBool) -> Peak {
    let mut peak = Peak::default();
    while !over.load(Ordering::SeqCst) {
        peak.memory = peak.memory.max(processes::anonymous(manager).unwrap_or_default());
        peak.threads = peak.threads.max(processes::threads(manager));
        peak.descriptors = peak.descriptors.max(processes::descriptors(manager).len());
        thread::sleep(Duration::from_millis(100));
    }
    peak
}

fn zombies(manager: u32) -> BTreeSet<u32> {
    processes::children(manager).into_iter().filter(|pid| processes::state(*pid) == Some('Z')).collect()
}

fn k5_a_tenant_that_does_everything_wrong_hurts_nobody(t: &Test) {
    let daemon = Daemon::start(Settings::new().grouping("node"));
    let bad = BadTenant::new(t, &daemon);
    let manager = bad.sandbox.shim();
    // The second has a manager of its own: it tells what the machine is capable of meanwhile.
    let pods = [false, true].map(|apart| Pod::run(t, &daemon, apart));
    assert!(t.on_go() || (pods[0].sandbox.shim() == manager && pods[1].sandbox.shim() != manager));
    let [idle, _] = neighbours(t, &daemon, &pods, |number| number == 4);
    let descriptors = processes::descriptors(manager).len();
    let over = AtomicBool::new(false);
    let ([times, apart], peak, stuck) = thread::scope(|scope| {
        let (bad, over) = (&bad, &over);
        let watched = scope.spawn(move || watch(manager, over));
        let stuck = (0..STUCK).map(|number| scope.spawn(move || bad.get_stuck(number)));
        let troubles = TROUBLES.iter().map(|trouble| scope.spawn(|| bad.work(*trouble)));
        let work: Vec<_> = stuck.chain(troubles).collect();
        let begin = Instant::now();
        // Whatever comes of it, the trouble has to end.
        let times =
            catch_unwind(AssertUnwindSafe(|| neighbours(t, &daemon, &pods, |_| begin.elapsed() > RUN)));
        let stuck = bad.stuck();
        bad.ends();
        over.store(true, Ordering::SeqCst);
        poll::holds("all trouble has ended", || {
            bad.release();
            work.iter().all(thread::ScopedJoinHandle::is_finished)
        });
        (times.unwrap_or_else(|panic| resume_unwind(panic)), watched.join().unwrap(), stuck)
    });
    let counts = bad.counts();
    println!(
        "{} lives, {:?} in the middle ({:?} when idle, {:?} under another manager), the longest call {:?}, beside {stuck} \
         commands that hung and {counts:?}; {peak:?}",
        times.lives.len(),
        times.median(),
        idle.median(),
        apart.median(),
        times.longest,
    );
    for (name, least, _) in TROUBLES {
        assert!(counts.get(name) >= Some(least), "too little of {name}: {counts:?}");
    }
    assert!(stuck >= STUCK / 2, "{stuck} commands hung");
    assert!(times.lives.len() > 8, "{} lives", times.lives.len());
    assert!(times.longest.is_some_and(|(longest, _)| longest < poll::slow(LONGEST)), "{:?}", times.longest);
    let most = (apart.median() * THAN_APART).max(idle.median() * THAN_IDLE);
    assert!(times.median() < most, "{:?}, more than {most:?}", times.median());
    if !t.on_go() {
        assert!(peak.memory < MEMORY && peak.threads <= THREADS, "{peak:?}");
        let before = zombies(manager);
        thread::sleep(Duration::from_secs(2));
        assert_eq!(zombies(manager).intersection(&before).count(), 0, "zombies stay");
        poll::holds("no descriptor stays", || processes::descriptors(manager).len() <= descriptors + 2);
    }
    for after in neighbours(t, &daemon, &pods, |number| number == 1) {
        assert_eq!(after.lives.len(), 1);
    }
    bad.sandbox.end();
    pods.into_iter().for_each(|pod| pod.sandbox.end());
    let left = daemon.shutdown();
    assert!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
}
