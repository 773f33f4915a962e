//! The operator's commands: `gam ls`, `gam stacks`, `gam gc`, ...

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use gam_tests::case::Container;
use gam_tests::daemon::{Daemon, Settings};
use gam_tests::operator::{asked, command, gam};
use gam_tests::prometheus::check_metrics;
use gam_tests::suite::Test;
use gam_tests::{cgroup, leftovers, poll, processes};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::wrapper::Wrapper;

gam_tests::tests![
    ls_and_inspect_show_two_tenants,
    top_shows_who_is_busy,
    j9_stacks_name_what_a_request_waits_for,
    a_manager_that_hangs_is_shown_and_others_are,
    log_level_is_changed_in_one_group_only,
    events_are_followed_from_managers_that_come,
    events_of_a_manager_that_is_slow_come_later,
    metrics_of_two_managers_are_one_text,
    metrics_and_configuration_are_printed,
    gc_removes_what_a_killed_manager_left,
];

/// What no command may show: a word of a container's arguments.
const SECRET: &str = "hunter2";

/// Two sandboxes of two tenants, so two managers.
fn two_tenants(t: &Test, daemon: &Arc<Daemon>) -> [Container; 2] {
    let script = format!("password={SECRET}; sleep 1000");
    ["payments", "search"].map(|tenant| t.container_of(daemon).sh(&script).sandbox(tenant).run())
}

/// The rows of a list whose `name` is `value`.
fn rows<'v>(list: &'v Value, name: &str, value: &str) -> Vec<&'v Value> {
    list.as_array().unwrap().iter().filter(|row| row[name] == value).collect()
}

fn ls_and_inspect_show_two_tenants(t: &Test) {
    if t.on_go() {
        return;
    }
    let daemon = Daemon::start(Settings::new());
    let empty = asked(&daemon, &["ls", "--json"]);
    assert_eq!(
        (empty["managers"].clone(), empty["containers"].clone()),
        (Value::Array(vec![]), Value::Array(vec![]))
    );
    let containers = two_tenants(t, &daemon);
    let exec = containers[0].exec("sleep 1000").run();
    let all = asked(&daemon, &["ls", "--json"]);
    assert_eq!(all["managers"].as_array().unwrap().len(), 2);
    for (container, tenant) in containers.iter().zip(["e2e/payments", "e2e/search"]) {
        let row = rows(&all["containers"], "id", &container.id)[0];
        assert_eq!((row["tenant"].as_str(), row["state"].as_str()), (Some(tenant), Some("running")));
        assert_eq!(row["pid"], container.pid);
        assert_eq!(row["manager"], container.shim());
        assert!(row["memory"].as_u64().unwrap() > 0 && row["pids"].as_u64().unwrap() >= 1, "{row}");
        let manager = all["managers"].as_array().unwrap().iter().find(|row| row["pid"] == container.shim());
        let manager = manager.unwrap();
        assert_eq!((manager["state"].as_str(), manager["containers"].as_u64()), (Some("running"), Some(1)));
        assert!(
            manager["rss"].as_u64().unwrap() > 0 && manager["group"].as_str().unwrap().contains(&tenant[4..])
        );
    }
    for filter in [["--tenant", "search"], ["--group", "search"], ["--tenant", "e2e/search"]] {
        let one = gam(&daemon, &["ls", "-q", filter[0], filter[1]]);
        assert_eq!(
            (one.code, one.out.as_str()),
            (0, format!("{}\n", containers[1].id).as_str()),
            "{filter:?}"
        );
    }
    let table = gam(&daemon, &["ls"]).out;
    assert!(table.starts_with("CONTAINER") && table.contains(&containers[0].id), "{table}");
    // The whole id, its beginning where that is of one only, and with the namespace.
    let id = containers[0].id.as_str();
    for name in [id.to_owned(), format!("e2e/{id}")] {
        let found = asked(&daemon, &["inspect", "--json", &name]);
        assert_eq!(found["container"], format!("e2e/{id}"));
        assert_eq!(found["execs"][0]["id"], exec.id);
        assert_eq!(found["record"]["streams"]["stdout"], containers[0].io.paths[1]);
        assert_eq!(found["bundle"], daemon.bundle("e2e", id).display().to_string());
    }
    let text = gam(&daemon, &["inspect", id]);
    assert!(text.code == 0 && text.out.contains("status: running") && !text.out.contains(SECRET), "{text:?}");
    assert!(!gam(&daemon, &["dump"]).out.contains(SECRET));
    let tenant = |name| gam(&daemon, &["inspect", "--json", "--group", name, id]);
    assert_eq!(tenant("payments").json()["container"], format!("e2e/{id}"));
    let elsewhere = tenant("search");
    assert!(elsewhere.code == 1 && elsewhere.err.contains("no container"), "{elsewhere:?}");
    let vague = gam(&daemon, &["inspect", &id[..id.len() - 1]]);
    assert!(vague.code == 1 && vague.err.starts_with("gam: ") && vague.err.contains("any of"), "{vague:?}");
    let unknown = gam(&daemon, &["inspect", "nobody"]);
    assert!(unknown.code == 1 && unknown.err.contains("no container"), "{unknown:?}");
    assert_eq!(gam(&daemon, &["ls", "--group", "nobody"]).code, 1);
    assert_eq!(gam(&daemon, &["list"]).code, 2);
    let _ = exec.try_kill(9);
    exec.finish();
    containers.into_iter().for_each(Container::end);
}

fn top_shows_who_is_busy(t: &Test) {
    if t.on_go() {
        return;
    }
    let daemon = Daemon::start(Settings::new().grouping("node"));
    let idle = t.container_of(&daemon).run();
    let busy = t.container_of(&daemon).sh("while :; do :; done").run();
    let output = gam(&daemon, &["top", "--json", "-n", "2", "--interval", "0.5"]);
    let frames: Vec<Value> = output.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((output.code, frames.len()), (0, 2), "{output:?}");
    for frame in &frames {
        assert_eq!(frame["containers"][0]["id"], busy.id, "the busiest first");
        let percent = |id: &str| rows(&frame["containers"], "id", id)[0]["cpu_percent"].as_f64().unwrap();
        assert!(percent(&busy.id) > percent(&idle.id), "{frame}");
        assert_eq!(frame["managers"][0]["containers"], 2);
    }
    let once = gam(&daemon, &["top", "--once"]);
    assert!(once.code == 0 && once.out.contains(&busy.id) && !once.out.contains('\u{1b}'), "{once:?}");
    assert_eq!(gam(&daemon, &["top", "--interval", "never"]).code, 2);
    idle.end();
    busy.end();
}

/// Lets go of what waits for a file, also where the test fails.
struct Release<'p>(&'p Path);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        let _ = fs::write(self.0, "");
    }
}

fn j9_stacks_name_what_a_request_waits_for(t: &Test) {
    if t.on_go() {
        return;
    }
    let daemon = Daemon::start(Settings::new());
    let go = daemon.dir.join("go");
    let hang = format!("[ $COMMAND = delete ] && while [ ! -e {} ]; do sleep 0.05; done", go.display());
    let runtime = Wrapper::new(&daemon, "hangs", &hang);
    let container = t.container_of(&daemon).options(|options| options.binary_name = runtime.binary()).run();
    let wait = container.wait_aside();
    let waits = |method: &'static str, text: &'static str| {
        let name = format!("e2e/{}", container.id);
        poll::until(&format!("a {method} waits for {text}"), || {
            let stacks = asked(&daemon, &["stacks", "--json"]);
            let mut found = stacks.as_array().unwrap().iter();
            found
                .find(|row| row["method"] == method && row["container"] == name && row["waits_for"] == text)
                .cloned()
        })
    };
    waits("Wait", "its end");
    container.kill(9);
    wait.join().unwrap().unwrap();
    let deleted = thread::scope(|scope| {
        let deleting = scope.spawn(|| container.try_delete());
        let release = Release(&go);
        let (row, pid) = poll::until("the runtime's process is told", || {
            let row = waits("Delete", "the runtime's delete");
            let pid = u32::try_from(row["pid"].as_u64()?).unwrap();
            Some((row, pid))
        });
        assert!(processes::command(pid).contains("hangs.runc"), "{row}");
        assert_eq!(row["manager"], daemon.shims()[0]);
        thread::sleep(Duration::from_millis(50));
        let again = waits("Delete", "the runtime's delete");
        assert!(
            again["age_ms"].as_u64() > row["age_ms"].as_u64() && again["waits_ms"].as_u64() > Some(0),
            "{again}"
        );
        let table = gam(&daemon, &["stacks", "-w"]).out;
        assert!(table.contains("the runtime's delete") && !table.contains("Wait "), "{table}");
        let inspected = asked(&daemon, &["inspect", "--json", &container.id]);
        assert_eq!(inspected["being_deleted"], true);
        // The dump says the same, and is what the signal writes.
        let dump = asked(&daemon, &["dump"])[0].clone();
        assert_eq!(rows(&dump["requests"], "method", "Delete")[0]["waits_for"], "the runtime's delete");
        let file = Path::new(dump["directory"].as_str().unwrap()).join("dump");
        kill(Pid::from_raw(i32::try_from(daemon.shims()[0]).unwrap()), Signal::SIGUSR1).unwrap();
        let written: Value =
            poll::until("the dump is written", || serde_json::from_slice(&fs::read(&file).ok()?).ok());
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&written), keys(&dump));
        for key in ["expected", "kept", "publisher", "containers"] {
            assert!(!dump[key].is_null(), "{key}");
        }
        drop(release);
        deleting.join().unwrap()
    });
    deleted.unwrap();
    let of_it = |row: &Value| row["container"] == format!("e2e/{}", container.id);
    poll::holds("nothing is at work", || {
        !asked(&daemon, &["stacks", "--json"]).as_array().unwrap().iter().any(of_it)
    });
    container.check_gone();
}

fn a_manager_that_hangs_is_shown_and_others_are(t: &Test) {
    if t.on_go() {
        return;
    }
    let daemon = Daemon::start(Settings::new());
    let containers = two_tenants(t, &daemon);
    let hung = Stopped::new(containers[0].shim());
    let begin = Instant::now();
    let output = gam(&daemon, &["ls", "--json"]);
    let took = begin.elapsed();
    assert!(took < poll::slow(Duration::from_secs(4)), "it took {took:?}");
    assert!(output.code == 1 && output.err.contains("payments"), "{output:?}");
    let all = output.json();
    let states: Vec<_> = all["managers"].as_array().unwrap().iter().map(|row| row["state"].clone()).collect();
    assert!(states.contains(&"silent".into()) && states.contains(&"running".into()), "{states:?}");
    assert_eq!(rows(&all["containers"], "id", &containers[1].id).len(), 1);
    let top = gam(&daemon, &["top", "--once", "--json"]);
    assert!(top.code == 1 && top.out.contains("\"silent\"") && top.err.contains("payments"), "{top:?}");
    // It says nothing of itself, and is found by its group all the same.
    for (words, pid) in [
        (&["stacks", "--json"][..], "manager"),
        (&["stacks", "--json", "--group", "payments"], "manager"),
        (&["dump", "--json", "--group", "payments"], "pid"),
    ] {
        let output = gam(&daemon, words);
        let list = output.json();
        let silent = rows(&list, "state", "silent");
        assert_eq!((output.code, silent.len()), (1, 1), "{words:?}: {output:?}");
        assert_eq!(silent[0][pid], containers[0].shim());
        assert_eq!(silent[0]["group"], "namespace e2e payments");
        assert!(silent[0]["error"].as_str().unwrap().contains("answer"), "{list}");
    }
    let other = asked(&daemon, &["stacks", "--json", "--group", "search"]);
    assert!(rows(&other, "state", "silent").is_empty(), "{other}");
    drop(hung);
    for words in [["ls", "--json"], ["stacks", "--json"], ["dump", "--json"]] {
        assert!(!asked(&daemon, &words).to_string().contains("silent"), "{words:?}");
    }
    containers.into_iter().for_each(Container::end);
}

/// A manager all of whose threads have stopped, until this goes.
struct Stopped(Pid);

impl Stopped {
    fn new(pid: u32) -> Self {
        let stopped = Self(Pid::from_raw(i32::try_from(pid).unwrap()));
        kill(stopped.0, Signal::SIGSTOP).unwrap();
        poll::holds("every thread of it has stopped", || {
            let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
            let status =
                |thread: fs::DirEntry| fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            threads.map(status).all(|status| status.contains("State:\tT"))
        });
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

fn log_level_is_changed_in_one_group_only(t: &Test) {
    if t.on_go() {
        return;
    }
    let daemon = Daemon::start(Settings { level: "info", ..Settings::new() });
    let containers = two_tenants(t, &daemon);
    let levels = |words: &[&str]| {
        let mut all = vec!["log-level", "--json"];
        all.extend(words);
        let rows = asked(&daemon, &all);
        let level = |container: &Container| {
            let mut found = rows.as_array().unwrap().iter().filter(|row| row["manager"] == container.shim());
            found.next().map(|row| row["level"].as_str().unwrap().to_owned())
        };
        containers.each_ref().map(level)
    };
    let both = |a: &str, b: &str| [Some(a.to_owned()), Some(b.to_owned())];
    assert_eq!(levels(&[]), both("info", "info"));
    assert_eq!(levels(&["debug", "--group", "search"]), [None, Some("debug".to_owned())]);
    assert_eq!(levels(&[]), both("info", "debug"));
    assert_eq!(levels(&["warn"]), both("warn", "warn"));
    assert_eq!(gam(&daemon, &["log-level", "loud"]).code, 2);
    assert_eq!(gam(&daemon, &["log-level", "debug", "--group", "nobody"]).code, 1);
    assert_eq!(levels(&[]), both("warn", "warn"));
    containers.into_iter().for_each(Container::end);
}

fn events_are_followed_from_managers_that_come(t: &Test) {
    if t.on_go() {
        return;
    }
    let daemon = Daemon::start(Settings::new());
    let mut follower = command(&daemon, &["events", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let first = t.container_of(&daemon).run();
    // The follower looks for managers now and then.
    poll::holds("the manager is followed", || {
        processes::descriptors(follower.id())
            .iter()
            .any(|(_, path)| path.display().to_string().starts_with("socket:"))
    });
    thread::sleep(Duration::from_millis(500));
    let second = t.container_of(&daemon).sh("exit 7").run();
    let id = second.id.clone();
    second.finish();
    let wanted = ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"];
    let mut seen = Vec::new();
    for line in lines {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if event["container"] == id {
            assert_eq!(event["namespace"], "e2e");
            if event["topic"] == "/tasks/exit" {
                assert_eq!(event["exit_status"], 7);
            }
            seen.push(event["topic"].as_str().unwrap().to_owned());
        }
        if seen.last().is_some_and(|topic| topic == "/tasks/delete") {
            break;
        }
    }
    assert_eq!(seen, wanted);
    follower.kill().unwrap();
    follower.wait().unwrap();
    first.end();
}

fn events_of_a_manager_that_is_slow_come_later(t: &Test) {
    if t.on_go() {
        return;
    }
    let daemon = Daemon::start(Settings::new());
    let container = t.container_of(&daemon).sandbox("payments").run();
    for words in [&["events", "--json", "--group", "payments"][..], &["events", "--json"]] {
        let hung = Stopped::new(container.shim());
        let mut follower = command(&daemon, words);
        let mut follower = Killed(follower.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let mut complaints = BufReader::new(follower.0.stderr.take().unwrap()).lines();
        let complaining = thread::spawn(move || complaints.next());
        poll::holds("it complains", || complaining.is_finished());
        let complaint = complaining.join().unwrap().unwrap().unwrap();
        assert!(complaint.contains("does not answer"), "{words:?}: {complaint}");
        drop(hung);
        let mut lines = BufReader::new(follower.0.stdout.take().unwrap()).lines();
        let reading = thread::spawn(move || lines.next());
        poll::holds("an event is told", || {
            container.exec("true").run().finish();
            reading.is_finished()
        });
        let line = reading.join().unwrap().unwrap().unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["container"], container.id, "{words:?}");
    }
    container.end();
}

/// A process that is killed when this goes.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn metrics_of_two_managers_are_one_text(t: &Test) {
    if t.on_go() {
        return;
    }
    let daemon = Daemon::start(Settings::new());
    let containers = two_tenants(t, &daemon);
    let text = gam(&daemon, &["metrics"]);
    assert_eq!(text.code, 0, "{text:?}");
    check_metrics(&text.out);
    let count = |text: &str, begin: &str| text.lines().filter(|line| line.starts_with(begin)).count();
    assert_eq!(count(&text.out, "# TYPE gam_tasks "), 1);
    for tenant in ["payments", "search"] {
        let series = format!("gam_tasks{{group=\"namespace e2e {tenant}\",group_id=\"");
        assert!(count(&text.out, &series) > 0, "{series}: {text:?}");
    }
    let one = gam(&daemon, &["metrics", "--group", "search"]);
    assert_eq!((one.code, count(&one.out, "gam_tasks{state=\"running\"} 1")), (0, 1), "{one:?}");
    check_metrics(&one.out);
    let hung = Stopped::new(containers[0].shim());
    let part = gam(&daemon, &["metrics"]);
    assert!(part.code == 1 && part.err.contains("payments"), "{part:?}");
    assert!(part.out.contains("group=\"namespace e2e search\""), "{part:?}");
    check_metrics(&part.out);
    drop(hung);
    containers.into_iter().for_each(Container::end);
}

fn metrics_and_configuration_are_printed(t: &Test) {
    if t.on_go() {
        return;
    }
    let daemon = Daemon::start(Settings::new());
    let container = t.container_of(&daemon).run();
    let text = gam(&daemon, &["metrics"]);
    assert!(text.code == 0 && text.out.contains("# TYPE gam_requests_total counter"), "{text:?}");
    let values = asked(&daemon, &["metrics", "--json"]);
    assert_eq!(values[0]["metrics"]["gam_tasks{state=\"running\"}"], 1.0);
    assert_eq!(asked(&daemon, &["config", "check", "--json"])["linger"], "1s");
    let bad = daemon.dir.join("bad.toml");
    fs::write(&bad, "grouping = \"pod\"\nlingers = 3\n").unwrap();
    let refused = gam(&daemon, &["config", "check", bad.to_str().unwrap()]);
    assert!(
        refused.code == 1 && refused.err.contains("line 2") && refused.err.contains("bad.toml"),
        "{refused:?}"
    );
    container.end();
}

fn gc_removes_what_a_killed_manager_left(t: &Test) {
    if t.on_go() {
        return;
    }
    let daemon = Daemon::start(Settings::new());
    let containers = two_tenants(t, &daemon);
    let state = daemon.dir.join("state").display().to_string();
    let collect = |words: &[&str]| {
        let mut all = vec!["gc", "--json", "--state", &state];
        all.extend(words);
        let output = gam(&daemon, &all);
        let found = output.json();
        let of = |list: &str, kind: &str| rows(&found[list], "kind", kind).len();
        (
            output.code,
            [of("findings", "container"), of("findings", "socket"), of("findings", "group")],
            of("young", "container"),
        )
    };
    let now = ["--older-than", "0"];
    assert_eq!(collect(&now), (0, [0; 3], 0), "both managers live");
    daemon.kill_9();
    let (dead, alive) = (&containers[0], &containers[1]);
    let record = || fs::read(daemon.bundle("e2e", &dead.id).join("gam.json")).unwrap();
    let before = record();
    processes::kill_9(dead.shim());
    poll::holds("the manager's process is gone", || daemon.shims().len() == 1);
    assert_eq!(collect(&["--older-than", "1h"]), (0, [0; 3], 1), "containerd may be about to see to it");
    assert_eq!(collect(&now), (1, [1, 1, 1], 0));
    assert_eq!(record(), before, "nothing is changed");
    assert!(processes::lives(dead.pid) && !cgroup::directories(&dead.cgroup).is_empty());
    assert_eq!(collect(&["--older-than", "0", "--fix"]), (0, [1, 1, 1], 0));
    poll::holds("init is killed", || !processes::lives(dead.pid));
    assert!(cgroup::directories(&dead.cgroup).is_empty());
    assert!(leftovers::mounts(&daemon.bundle("e2e", &dead.id)).is_empty());
    assert!(!daemon.runc_root().join("e2e").join(&dead.id).exists());
    assert_eq!(fs::read_dir(daemon.dir.join("run")).unwrap().count(), 1, "the other's directory is left");
    assert_eq!(collect(&now), (0, [0; 3], 0));
    assert!(processes::lives(alive.pid), "the other tenant's container lives");
    // containerd finds a container that has ended, and goes on with the other.
    daemon.launch();
    let look = || leftovers::of_container(&daemon.dir, "e2e", &dead.id, &dead.cgroup);
    poll::holds("containerd removes its bundle", || look().is_empty());
    assert!(dead.client().get("e2e", &dead.id, "").is_err(), "its task has gone");
    let [_, alive] = containers;
    alive.end();
}
