//! Three pods in one manager, shown, and compared with containerd's own shim under the same load; everything is removed.

use std::sync::Arc;
use std::thread;

use gam_tests::case::{Builder, Container};
use gam_tests::cost::Cost;
use gam_tests::daemon::{Daemon, Settings};
use gam_tests::scrape;
use gam_tests::target::{Containerd, Shim};

const TENANT: &str = "demo";

/// Three pods of two containers each, their sandboxes among them.
fn pods(daemon: &Arc<Daemon>) -> Vec<(String, Container)> {
    let script = "echo hello from $(hostname); while :; do sleep 1; done";
    let mut all = Vec::new();
    for pod in ["web", "api", "queue"] {
        let sandbox = format!("{pod}-sandbox");
        let build = |id: &str| {
            Builder::new(daemon, "k8s.io", id).sh(script).change(|spec| spec.json["hostname"] = pod.into())
        };
        all.push((pod.to_owned(), build(&sandbox).sandbox(TENANT).run()));
        let id = format!("{pod}-main");
        all.push((pod.to_owned(), build(&id).in_pod(TENANT, &sandbox).run()));
    }
    all
}

fn end(containers: Vec<(String, Container)>) {
    thread::scope(|scope| {
        for (_, container) in containers {
            scope.spawn(move || container.end());
        }
    });
}

fn start(shim: Shim) -> Arc<Daemon> {
    let mut settings = Settings::new();
    settings.shim = shim;
    settings.containerd = Containerd::from_env();
    Daemon::start(settings)
}

fn main() {
    println!("Starting a private containerd and three pods of two containers each, all served by gam ...\n");
    let daemon = start(Shim::Gam);
    let containers = pods(&daemon);
    println!("{:<16} {:<8} {:>8}  {:<8} {:>8}", "CONTAINER", "POD", "PID", "STATE", "MANAGER");
    for (pod, container) in &containers {
        let state = format!("{:?}", container.status());
        println!(
            "{:<16} {:<8} {:>8}  {:<8} {:>8}",
            container.id,
            pod,
            container.pid,
            state,
            container.shim()
        );
    }
    let (pod, container) = &containers[1];
    container.io.out().expect("hello from");
    let script = "echo \"$(hostname): $(ps | wc -l) lines of ps, pid 1 is $(cat /proc/1/comm)\"";
    let (exit, out) = container.exec(script).run().finish();
    println!("\nexec in {} of pod {pod}, exit status {}: {}", container.id, exit.status, out.trim());

    println!("\nWhat the shims cost for these six containers:");
    let cost = Cost::of(&daemon);
    println!("  gam              {cost}");
    let go = start(Shim::Go);
    let same = pods(&go);
    println!("  containerd's own {}", Cost::of(&go));
    end(same);
    drop(go);

    for socket in scrape::sockets(&daemon.dir.join("run")) {
        println!("\nFrom {} (GET /metrics):", socket.display());
        match scrape::get(&socket, "/metrics") {
            Ok(text) => {
                let lines = text.lines().filter(|line| line.starts_with("gam_") && !line.contains("_bucket"));
                lines.take(20).for_each(|line| println!("  {line}"));
            }
            Err(error) => println!("  {error}"),
        }
    }

    println!("\nRemoving everything ...");
    end(containers);
    let left = daemon.shutdown();
    if left.is_empty() {
        println!("Nothing is left: no process, mount, cgroup, socket or directory.");
    } else {
        println!("Left behind:\n  {}", left.join("\n  "));
        std::process::exit(1);
    }
}
