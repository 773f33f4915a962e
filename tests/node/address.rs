//! One address that whichever manager is there answers at.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use gam_tests::case::Container;
use gam_tests::events::Kind;
use gam_tests::poll;
use gam_tests::prometheus::{check_metrics, free_address};
use gam_tests::suite::Test;
use gam_tests::{processes, scrape};

use crate::{daemon, daemon_at};

gam_tests::tests![
    one_address_answers_for_every_group_and_is_taken_over,
    a_path_is_taken_over_too,
    a_stranger_at_the_address_keeps_no_pod_from_starting,
];

/// The groups that a text has samples of, sorted.
fn groups(text: &str) -> Vec<String> {
    let of =
        |line: &str| Some(line.strip_prefix("gam_uptime_seconds{group=\"")?.split('"').next()?.to_owned());
    let mut found: Vec<String> = text.lines().filter_map(of).collect();
    found.sort();
    found
}

/// The process that listens at an address, by the kernel's table of sockets.
fn listener_at(address: SocketAddr, of: &[u32]) -> u32 {
    let SocketAddr::V4(v4) = address else { panic!("{address} is not of IPv4") };
    let place = format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let inode = table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // 0A is LISTEN.
        (fields.get(1) == Some(&place.as_str()) && fields.get(3) == Some(&"0A")).then(|| fields[9].to_owned())
    });
    let socket = format!("socket:[{}]", inode.expect("somebody listens there"));
    let has = |pid: &&u32| {
        processes::descriptors(**pid).iter().any(|(_, to)| to.to_string_lossy() == socket.as_str())
    };
    *of.iter().find(has).expect("a manager listens there")
}

fn one_address_answers_for_every_group_and_is_taken_over(t: &Test) {
    let address = free_address();
    let daemon = daemon_at(address);
    let pods = ["red", "blue"].map(|tenant| t.container_of(&daemon).sandbox(tenant).run());
    let both = ["namespace e2e blue", "namespace e2e red"];
    let text = poll::until("both managers are told of", || {
        scrape::get_at(address, "/metrics").ok().filter(|text| groups(text) == both)
    });
    check_metrics(&text);
    for pod in &pods {
        let has = |line: &str, words: [&str; 3]| words.iter().all(|word| line.contains(word));
        let (tenant, id) = if pod.id == pods[0].id { ("red", &pod.id) } else { ("blue", &pod.id) };
        let group = format!("group=\"namespace e2e {tenant}\"");
        let label = format!("tenant=\"e2e/{tenant}\"");
        let tenants = ["gam_tenant_containers{", group.as_str(), label.as_str()];
        assert!(text.lines().any(|line| has(line, tenants) && line.ends_with(" 1")), "{text}");
        let container = format!("container=\"{id}\"");
        assert!(text.lines().any(|line| has(line, ["gam_container_pids{", &label, &container])), "{text}");
    }
    // The holder is killed: the other answers within a second, for itself.
    let holder = listener_at(address, &daemon.shims());
    let [red, blue] = pods;
    let (killed, other) = if red.shim() == holder { (red, blue) } else { (blue, red) };
    processes::kill_9(holder);
    let since = Instant::now();
    let text = poll::until("the other manager answers", || scrape::get_at(address, "/metrics").ok());
    let took = since.elapsed();
    println!("the address was taken over {took:?} after its holder was killed");
    assert!(took < poll::slow(Duration::from_secs(1)), "taken over only after {took:?}");
    assert_eq!(listener_at(address, &daemon.shims()), other.shim());
    assert_eq!(groups(&text).len(), 1, "{text}");
    killed.until_events("deleted", |events| events.iter().any(|event| event.kind == Kind::Delete));
    killed.check_gone();
    // The next manager of that group is told of again.
    let next = t.container_of(&daemon).sandbox("red").run();
    let again = t.container_of(&daemon).sandbox("blue").run();
    poll::holds("both are told of again", || {
        scrape::get_at(address, "/metrics").is_ok_and(|text| groups(&text) == both)
    });
    [next, again, other].into_iter().for_each(Container::end);
    poll::holds("nobody answers any more", || scrape::get_at(address, "/metrics").is_err());
}

fn a_path_is_taken_over_too(t: &Test) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("node.sock");
    let daemon = daemon(&path.display().to_string());
    let mut pods: Vec<Container> =
        ["a", "b", "c"].map(|tenant| t.container_of(&daemon).sandbox(tenant).run()).into();
    while !pods.is_empty() {
        poll::holds("one answers for all", || {
            scrape::get(&path, "/metrics").is_ok_and(|text| groups(&text).len() == pods.len())
        });
        pods.remove(0).end();
    }
    poll::holds("the path is free, and so is its lock", || {
        fs::read_dir(place.path()).unwrap().next().is_none()
    });
}

fn a_stranger_at_the_address_keeps_no_pod_from_starting(t: &Test) {
    let stranger = TcpListener::bind(free_address()).unwrap();
    let daemon = daemon_at(stranger.local_addr().unwrap());
    let pod = t.container_of(&daemon).sandbox("red").run();
    let group = scrape::sockets(&daemon.dir.join("run")).remove(0);
    assert_eq!(groups(&scrape::get(&group, "/metrics").unwrap()).len(), 0, "its own text has no groups");
    let log = group.with_file_name("log");
    let said = || fs::read_to_string(&log).unwrap_or_default().matches("cannot serve the metrics").count();
    poll::holds("it is said", || said() > 0);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(said(), 1, "and not again within a minute");
    pod.end();
}
