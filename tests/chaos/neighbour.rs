//! A tenant whose containers live as they should, to the byte, and what its calls take.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use containerd_client::types::v1::Status;
use gam_tests::case::{Builder, Container};
use gam_tests::daemon::Daemon;
use gam_tests::suite::Test;

/// What the neighbour's calls took.
#[derive(Default)]
pub(crate) struct Times {
    pub(crate) lives: Vec<Duration>,
    pub(crate) longest: Option<(Duration, &'static str)>,
}

impl Times {
    fn call<T>(&mut self, name: &'static str, call: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let answer = call();
        let took = begin.elapsed();
        if self.longest.is_none_or(|(longest, _)| took > longest) {
            self.longest = Some((took, name));
        }
        answer
    }

    pub(crate) fn median(&self) -> Duration {
        let mut all = self.lives.clone();
        all.sort_unstable();
        all[all.len() / 2]
    }
}

/// A pod of the neighbour, apart or not: with a manager of its own.
pub(crate) struct Pod {
    pub(crate) sandbox: Container,
    apart: bool,
}

impl Pod {
    pub(crate) fn run(t: &Test, daemon: &Arc<Daemon>, apart: bool) -> Self {
        let builder = t.container_of(daemon).sandbox("good");
        Self { sandbox: grouped(builder, apart).run(), apart }
    }

    /// A container of it that answers what it is told.
    fn container(&self, t: &Test, daemon: &Arc<Daemon>) -> Builder {
        let builder = t.container_of(daemon).in_pod("good", &self.sandbox.id);
        grouped(builder, self.apart).stdin().sh("cat; exit 7")
    }
}

fn grouped(builder: Builder, apart: bool) -> Builder {
    if !apart {
        return builder;
    }
    builder.change(|spec| spec.annotate("io.containerd.runc.v2.group", "apart"))
}

/// A complete life, in which everything is as it should be to the byte.
fn live(builder: Builder, killed: bool, times: &mut Times) {
    let begin = Instant::now();
    let mut container = times.call("Create", || builder.create());
    times.call("Start", || container.start());
    let sent: Vec<u8> = (0..40_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    container.io.input().write(&sent);
    times.call("output", || container.io.out().expect_bytes(sent.len()));
    let exec = times.call("Exec", || container.exec("echo out; echo err >&2; exit 3").run());
    let (exit, out) = times.call("exec's Wait and Delete", || exec.finish());
    assert_eq!((exit.status, out.as_str()), (3, "out\n"));
    let (client, namespace, id) = (container.client(), container.namespace.clone(), container.id.clone());
    assert_eq!(times.call("State", || container.status()), Status::Running);
    assert!(times.call("Pids", || container.pids()).contains(&container.pid));
    assert!(times.call("Stats", || client.metrics(&namespace, &id)).unwrap().is_some());
    if killed {
        times.call("Kill", || container.kill(9));
    } else {
        container.io.input().close();
        times.call("CloseIO", || client.close_stdin(&namespace, &id, "")).unwrap();
    }
    let exit = times.call("Wait", || container.wait());
    assert_eq!(exit.status, if killed { 137 } else { 7 });
    let deleted = times.call("Delete", || container.delete());
    assert_eq!((deleted.pid, deleted.exit), (container.pid, exit));
    times.lives.push(begin.elapsed());
    assert!(container.io.out().to_end() == sent, "what came back is not what was sent");
    container.check_gone();
}

/// Lives one after the other until it is over, in two pods at once: that of the manager in question, and that of another.
pub(crate) fn neighbours(
    t: &Test,
    daemon: &Arc<Daemon>,
    pods: &[Pod; 2],
    over: impl Fn(usize) -> bool + Sync,
) -> [Times; 2] {
    let lives = |pod: &Pod| {
        let mut times = Times::default();
        let mut number = 0;
        while !over(number) {
            live(pod.container(t, daemon), number % 2 == 0, &mut times);
            number += 1;
        }
        times
    };
    thread::scope(|scope| {
        let lives = &lives;
        pods.each_ref().map(|pod| scope.spawn(move || lives(pod))).map(|times| times.join().unwrap())
    })
}
