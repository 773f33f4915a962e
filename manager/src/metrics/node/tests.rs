use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use super::*;
use crate::metrics::{Bounds, Handle, serve};

/// A directory for groups.
struct Run(tempfile::TempDir);

impl Run {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn group(&self, name: &str) -> Group {
        let group = Group::at(name, &self.0.path().join(name.replace(' ', "-")));
        group.make().unwrap();
        group
    }

    /// A manager of the group `name` that serves the node at `address`.
    fn manager(&self, name: &str, address: Option<&Address>) -> Handle {
        let group = self.group(name);
        let metrics = Arc::new(Metrics::new(Bounds::default()).unwrap());
        let node = address.map(|address| (address.clone(), Node::new(&group, Arc::clone(&metrics)).unwrap()));
        serve(&group, metrics, node).unwrap()
    }

    fn node(&self, name: &str) -> Node {
        Node::new(&self.group(name), Arc::new(Metrics::new(Bounds::default()).unwrap())).unwrap()
    }
}

/// A loopback address that was free just now.
fn free() -> Address {
    Address::Tcp(std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}

/// What is served there, within a second and a half.
fn ask(address: &Address) -> Option<String> {
    let Address::Tcp(at) = address else { panic!() };
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(1500) {
        if let Ok(mut stream) = TcpStream::connect(at) {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            return Some(answer);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

fn groups_of(text: &str) -> Vec<String> {
    let line = |line: &str| {
        let rest = line.strip_prefix("gam_uptime_seconds{group=\"")?;
        Some(rest.split('"').next()?.to_owned())
    };
    text.lines().filter_map(line).collect()
}

#[test]
fn one_manager_answers_for_all_and_another_takes_over() {
    let run = Run::new();
    let address = free();
    let first = run.manager("namespace a", Some(&address));
    assert!(ask(&address).is_some());
    let second = run.manager("namespace b", Some(&address));
    let _third = run.manager("namespace c", None);
    let text = ask(&address).unwrap();
    assert_eq!(groups_of(&text), ["namespace a", "namespace b", "namespace c"], "{text}");
    assert_eq!(text.lines().filter(|line| *line == "# TYPE gam_uptime_seconds gauge").count(), 1);
    assert!(
        text.contains("\ngam_node_managers 3\n") && text.contains("\ngam_node_scrape_failures_total 0\n")
    );
    drop(first);
    let text = ask(&address).unwrap();
    assert_eq!(groups_of(&text), ["namespace b", "namespace c"], "{text}");
    drop(second);
    assert!(ask(&address).is_none());
    let left = fs::read_dir(run.0.path()).unwrap().flatten().any(|entry| entry.path().is_file());
    assert!(!left, "the lock has gone with its holder");
}

#[test]
fn of_managers_that_race_for_a_path_one_serves() {
    let run = Run::new();
    let path = run.0.path().join("node.sock");
    let address = Address::Unix(path.clone());
    let names: Vec<String> = (0..8).map(|number| format!("g{number}")).collect();
    let mut handles: Vec<Handle> = names.iter().map(|name| run.manager(name, Some(&address))).collect();
    for round in 0..3 {
        let since = Instant::now();
        let served = loop {
            let stream = std::os::unix::net::UnixStream::connect(&path);
            if let Ok(mut stream) = stream {
                stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                break groups_of(&answer).len();
            }
            assert!(since.elapsed() < Duration::from_secs(5), "nobody took over in round {round}");
            std::thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(served, handles.len());
        drop(handles.remove(0));
    }
}

#[test]
fn a_strangers_address_costs_no_manager_its_start() {
    let run = Run::new();
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp(stranger.local_addr().unwrap());
    let manager = run.manager("a", Some(&address));
    assert!(matches!(manager.address(), Address::Unix(path) if path.exists()));
    drop(stranger);
    assert_eq!(groups_of(&ask(&address).unwrap()), ["a"]);
}

#[test]
fn a_group_that_hangs_or_lies_or_is_dead_costs_only_itself() {
    let run = Run::new();
    let _good = run.manager("good", None);
    // One accepts and says nothing, one says what nobody understands, one is dead, one has no metrics, one is just beginning.
    let hangs = UnixListener::bind(run.group("hangs").metrics_socket()).unwrap();
    let lies = UnixListener::bind(run.group("lies").metrics_socket()).unwrap();
    drop(UnixListener::bind(run.group("dead").control_socket()).unwrap());
    drop(UnixListener::bind(run.group("dead").metrics_socket()).unwrap());
    let _off = UnixListener::bind(run.group("off").control_socket()).unwrap();
    run.group("begins");
    run.group("old.kept");
    let liar = std::thread::spawn(move || {
        let (mut stream, _) = lies.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nx one\n").unwrap();
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let node = run.node("own");
    let since = Instant::now();
    let text = runtime.block_on(node.scrape()).unwrap();
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    liar.join().unwrap();
    drop(hangs);
    assert_eq!(groups_of(&text), ["own", "good"]);
    for line in ["gam_node_scrape_failures_total 2", "gam_groups_dead 1", "gam_node_managers 2"] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_text_without_end_is_given_up() {
    let run = Run::new();
    let endless = UnixListener::bind(run.group("endless").metrics_socket()).unwrap();
    let writer = std::thread::spawn(move || {
        let (mut stream, _) = endless.accept().unwrap();
        let head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
        let mut written = stream.write_all(head).map(|()| 0_usize);
        while let Ok(count) = written {
            written = stream.write_all(&[b'x'; 4096]).map(|()| count + 4096);
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fetched = runtime.block_on(fetch(&run.0.path().join("endless")));
    assert!(fetched.is_err(), "{fetched:?}");
    drop(runtime);
    // It is closed, so the writer ends.
    writer.join().unwrap();
}
