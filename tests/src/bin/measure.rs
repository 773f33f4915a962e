//! gam beside containerd's own shim, interleaved on one machine: `measure [ROUNDS] [PODS]`, 5 and 50 by default.
//!
//! Prints, for each: what the shims of PODS pods of one container cost, how long create and start, and kill, wait and
//! delete of one container take, and the run time of the shim's own `start` and `delete`; for the lives also bare runc.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use gam_tests::case::{Builder, Container};
use gam_tests::cost::Cost;
use gam_tests::daemon::{Daemon, Settings};
use gam_tests::spec::{Spec, sh};
use gam_tests::target::Shim;

const NAMESPACE: &str = "measure";

fn start(shim: Shim, grouping: &str) -> Arc<Daemon> {
    let mut settings = Settings::new();
    settings.shim = shim;
    settings.gam = "linger = \"10s\"\n".into();
    Daemon::start(settings.grouping(grouping))
}

fn pod(daemon: &Arc<Daemon>, number: usize) -> Builder {
    Builder::new(daemon, NAMESPACE, &format!("pod-{number}")).streams([false; 3]).sandbox("measure")
}

fn end(containers: Vec<Container>) {
    thread::scope(|scope| {
        let each = containers.len().div_ceil(4).max(1);
        let mut containers = containers.into_iter();
        loop {
            let part: Vec<_> = containers.by_ref().take(each).collect();
            if part.is_empty() {
                break;
            }
            scope.spawn(move || part.into_iter().for_each(Container::end));
        }
    });
}

/// The cost of `pods` pods.
fn cost(shim: Shim, grouping: &str, pods: usize) -> Cost {
    let daemon = start(shim, grouping);
    let containers: Vec<_> = (0..pods).map(|number| pod(&daemon, number).run()).collect();
    thread::sleep(Duration::from_secs(1));
    let cost = Cost::of(&daemon);
    end(containers);
    cost
}

#[derive(Default)]
struct Times {
    begin: Vec<Duration>,
    end: Vec<Duration>,
    start: Vec<Duration>,
    delete: Vec<Duration>,
}

/// One life through containerd, in a pod beside another that keeps a manager alive.
fn life(daemon: &Arc<Daemon>, times: &mut Times, number: usize) {
    let begin = Instant::now();
    let container = pod(daemon, 1000 + number).run();
    times.begin.push(begin.elapsed());
    let begin = Instant::now();
    container.kill(9);
    container.wait();
    container.delete();
    times.end.push(begin.elapsed());
    container.check_gone();
}

/// One life with runc alone.
fn bare(daemon: &Daemon, times: &mut Times, number: usize) {
    let id = format!("bare-{number}");
    let bundle = daemon.dir.join(&id);
    fs::create_dir(&bundle).expect("a bundle");
    let mut spec = Spec::new(&sh("sleep 1000"), &daemon.cgroup(NAMESPACE, &id));
    spec.json["root"]["path"] = daemon.dir.join("rootfs").display().to_string().into();
    fs::write(bundle.join("config.json"), spec.json.to_string()).expect("config.json");
    let root = daemon.runc_root();
    let runc = |args: &[&str]| {
        let status = Command::new("runc")
            .arg("--root")
            .arg(&root)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("runc runs");
        assert!(status.success(), "runc {args:?}: {status}");
    };
    let begin = Instant::now();
    runc(&["create", "--bundle", &bundle.display().to_string(), &id]);
    runc(&["start", &id]);
    times.begin.push(begin.elapsed());
    let begin = Instant::now();
    runc(&["kill", &id, "9"]);
    // Nobody waits for it here: runc deletes it when it is dead.
    while !Command::new("runc")
        .arg("--root")
        .arg(&root)
        .args(["delete", &id])
        .stderr(Stdio::null())
        .status()
        .expect("runc runs")
        .success()
    {
        thread::sleep(Duration::from_millis(1));
    }
    times.end.push(begin.elapsed());
    let _ = fs::remove_dir_all(bundle);
}

/// The shim's own `start` and `delete`, run as containerd does, for a container that is not created.
fn commands(daemon: &Daemon, times: &mut Times, number: usize) {
    let id = format!("command-{number}");
    let bundle = daemon.dir.join(&id);
    fs::create_dir(&bundle).expect("a bundle");
    let mut spec = Spec::new(&sh("sleep 1000"), &daemon.cgroup(NAMESPACE, &id));
    // Grouped with the pod that the caller keeps, in both shims.
    spec.annotate("io.kubernetes.cri.container-type", "container");
    spec.annotate("io.kubernetes.cri.sandbox-id", "pod-0");
    spec.annotate("io.kubernetes.cri.sandbox-namespace", "measure");
    fs::write(bundle.join("config.json"), spec.json.to_string()).expect("config.json");
    // What Go's `delete` reads; its Create would have written them.
    fs::write(bundle.join("runtime"), "runc").expect("the file runtime");
    let options = format!("{{\"root\":\"{}\"}}", daemon.runc_root().display());
    fs::write(bundle.join("options.json"), options).expect("options.json");
    let shim = daemon.dir.join("bin").join(daemon.settings.shim.binary_name());
    let run = |action: &str| {
        let begin = Instant::now();
        let output = Command::new(&shim)
            .args(["-namespace", NAMESPACE, "-address"])
            .arg(daemon.address())
            .args(["-publish-binary", "/usr/bin/containerd", "-id", &id, "-bundle"])
            .arg(&bundle)
            .arg(action)
            .current_dir(&bundle)
            .env_clear()
            .envs(daemon.environment())
            .env("TTRPC_ADDRESS", format!("{}.ttrpc", daemon.address().display()))
            .stdin(Stdio::null())
            .output()
            .expect("the shim runs");
        assert!(output.status.success(), "{action}: {}", String::from_utf8_lossy(&output.stderr));
        begin.elapsed()
    };
    times.start.push(run("start"));
    times.delete.push(run("delete"));
    let _ = fs::remove_dir_all(bundle);
}

fn median(times: &mut [Duration]) -> String {
    times.sort();
    times
        .get(times.len() / 2)
        .map_or_else(|| "-".into(), |one| format!("{:.1} ms", one.as_secs_f64() * 1000.0))
}

fn main() {
    let number = |at: usize, default| {
        std::env::args().nth(at).map_or(default, |text| text.parse().expect("measure [ROUNDS] [PODS]"))
    };
    let (rounds, pods) = (number(1, 5), number(2, 50));
    println!("{pods} pods of one container each:");
    for _ in 0..rounds.min(2) {
        println!("  gam, one manager     {}", cost(Shim::Gam, "namespace", pods));
        println!("  gam, grouping \"pod\" {}", cost(Shim::Gam, "pod", pods));
        println!("  go                   {}", cost(Shim::Go, "pod", pods));
    }
    let (gam, go) = (start(Shim::Gam, "namespace"), start(Shim::Go, "pod"));
    let kept = [pod(&gam, 0).run(), pod(&go, 0).run()];
    let (mut of_gam, mut of_go, mut of_runc) = (Times::default(), Times::default(), Times::default());
    for round in 0..rounds {
        for one in 0..10 {
            let number = round * 10 + one;
            life(&gam, &mut of_gam, number);
            life(&go, &mut of_go, number);
            bare(&gam, &mut of_runc, number);
            commands(&gam, &mut of_gam, number);
            commands(&go, &mut of_go, number);
        }
    }
    println!("\nmedians of {} lives, interleaved:", rounds * 10);
    println!(
        "{:<6} {:>16} {:>20} {:>12} {:>12}",
        "", "create + start", "kill + wait + delete", "`start`", "`delete`"
    );
    for (name, times) in [("gam", &mut of_gam), ("go", &mut of_go), ("runc", &mut of_runc)] {
        println!(
            "{name:<6} {:>16} {:>20} {:>12} {:>12}",
            median(&mut times.begin),
            median(&mut times.end),
            median(&mut times.start),
            median(&mut times.delete)
        );
    }
    kept.into_iter().for_each(Container::end);
    for daemon in [gam, go] {
        for one in daemon.shutdown() {
            println!("left behind: {one}");
        }
    }
}
