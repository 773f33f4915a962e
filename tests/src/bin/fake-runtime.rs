//! An OCI runtime that misbehaves on demand.
//!
//! It takes runc's command line. A "container" is a plain process of this machine, orphaned so that it falls to the
//! caller's subreaper: it waits on a FIFO until `start` and then runs busybox with the arguments of config.json. What goes
//! wrong is told by `control.json` in `--root` or its parent: a list of rules, each for one command and, if it names one,
//! one container. Every call is written down in `calls.jsonl` beside it.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, SystemTime};

use gam_tests::shim::fake::Rule;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::{Value, json};

type Outcome<T> = Result<T, String>;

/// Options that are followed by a value.
const VALUED: [&str; 19] = [
    "root",
    "log",
    "log-format",
    "criu",
    "rootless",
    "bundle",
    "b",
    "pid-file",
    "console-socket",
    "process",
    "p",
    "preserve-fds",
    "format",
    "f",
    "resources",
    "r",
    "image-path",
    "work-path",
    "parent-path",
];

struct Call {
    options: HashMap<String, String>,
    command: String,
    arguments: Vec<String>,
}

impl Call {
    fn parse(arguments: impl Iterator<Item = String>) -> Self {
        let mut call = Self { options: HashMap::new(), command: String::new(), arguments: Vec::new() };
        let mut arguments = arguments.peekable();
        while let Some(word) = arguments.next() {
            if let Some(option) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) {
                let option = option.trim_start_matches('-');
                if let Some((name, value)) = option.split_once('=') {
                    call.options.insert(name.to_owned(), value.to_owned());
                } else if VALUED.contains(&option) || (option == "pidfd-socket") {
                    let value = arguments.next().unwrap_or_default();
                    call.options.insert(option.to_owned(), value);
                } else {
                    call.options.insert(option.to_owned(), String::new());
                }
            } else if call.command.is_empty() {
                call.command = word;
            } else {
                call.arguments.push(word);
            }
        }
        call
    }

    fn option(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.options.get(*name)).map(String::as_str)
    }

    fn root(&self) -> PathBuf {
        self.option(&["root"]).map_or_else(|| PathBuf::from("/run/fake-runtime"), PathBuf::from)
    }

    fn id(&self) -> &str {
        self.arguments.first().map_or("", String::as_str)
    }

    fn container(&self) -> PathBuf {
        self.root().join(self.id())
    }

    /// Where control.json and calls.jsonl lie.
    fn desk(&self) -> PathBuf {
        let root = self.root();
        match root.parent() {
            Some(parent) if !root.join("control.json").exists() => parent.to_owned(),
            _ => root,
        }
    }

    fn rule(&self) -> Rule {
        let text = fs::read(self.desk().join("control.json")).unwrap_or_default();
        let rules: Vec<Rule> = serde_json::from_slice(&text).unwrap_or_default();
        let fits = |rule: &Rule| rule.command == self.command && (rule.id.is_empty() || rule.id == self.id());
        rules.into_iter().find(fits).unwrap_or_default()
    }

    fn note(&self, end: bool) {
        let suspicious = |name: &String| name == "NOTIFY_SOCKET" || name.starts_with("LISTEN_");
        let environment: Vec<String> = std::env::vars().map(|(name, _)| name).filter(suspicious).collect();
        let score = fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
        let options: Vec<&String> = self.options.keys().collect();
        let line = json!({
            "command": self.command, "id": self.id(), "arguments": self.arguments, "options": options, "end": end,
            "pid": std::process::id(), "environment": environment, "oom_score_adj": score.trim(), "at": at as u64,
        });
        let file = OpenOptions::new().create(true).append(true).open(self.desk().join("calls.jsonl"));
        if let Ok(mut file) = file {
            let _ = file.write_all(format!("{line}\n").as_bytes());
        }
    }

    /// Says it as runc does: as JSON in the log, as text on stderr.
    fn complain(&self, text: &str) {
        if let Some(log) = self.option(&["log"]) {
            let line = json!({"level": "error", "msg": text, "time": "2024-01-01T00:00:00Z"});
            if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(log) {
                let _ = file.write_all(format!("{line}\n").as_bytes());
            }
        }
        let _ = writeln!(io::stderr(), "{text}");
    }
}

fn pause(millis: u64) {
    if millis > 0 {
        std::thread::sleep(Duration::from_millis(millis));
    }
}

fn said<T>(what: &str, result: io::Result<T>) -> Outcome<T> {
    result.map_err(|error| format!("{what}: {error}"))
}

/// Pid and start time of a container's init, if it was created.
fn init(container: &Path) -> Option<(i32, String)> {
    let text = fs::read_to_string(container.join("init.pid")).ok()?;
    let (pid, since) = text.split_once(' ')?;
    Some((pid.parse().ok()?, since.to_owned()))
}

/// State and start time of a process.
fn stat(pid: i32) -> Option<(char, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.to_owned()))
}

fn alive(container: &Path) -> Option<i32> {
    let (pid, since) = init(container)?;
    let (state, now) = stat(pid)?;
    (now == since && !matches!(state, 'Z' | 'X')).then_some(pid)
}

fn status(container: &Path) -> &'static str {
    match alive(container) {
        None => "stopped",
        Some(_) if container.join("paused").exists() => "paused",
        Some(_) if container.join("start").exists() => "created",
        Some(_) => "running",
    }
}

/// Starts busybox as an orphan to be; answers its pid.
fn spawn(role: &str, container: &Path, arguments: &Value) -> Outcome<u32> {
    let arguments = arguments.as_array().cloned().unwrap_or_default();
    let arguments = arguments.iter().map(|argument| argument.as_str().unwrap_or_default().to_owned());
    let mut command = Command::new("/proc/self/exe");
    command.arg(role).arg(container).args(arguments);
    let pid = said("cannot spawn", command.spawn()).map(|child| child.id())?;
    join_cgroups(container, pid);
    Ok(pid)
}

/// Hierarchies in which a container gets a cgroup of its own, as runc would make it.
const HIERARCHIES: [&str; 10] =
    ["memory", "pids", "freezer", "devices", "cpu", "cpuacct", "blkio", "systemd", "cpuset", "unified"];

fn cgroups(container: &Path) -> Vec<PathBuf> {
    let Ok(path) = fs::read_to_string(container.join("cgroup")) else { return Vec::new() };
    let path = path.trim_start_matches('/');
    if path.is_empty() || path.contains("..") {
        return Vec::new();
    }
    HIERARCHIES.iter().map(|name| Path::new("/sys/fs/cgroup").join(name).join(path)).collect()
}

/// Puts a process into the container's cgroups, as far as this machine has them.
fn join_cgroups(container: &Path, pid: u32) {
    for cgroup in cgroups(container).iter().filter(|cgroup| cgroup.parent().is_some_and(Path::exists)) {
        let _ = fs::create_dir_all(cgroup);
        for name in ["cpuset.cpus", "cpuset.mems"] {
            if let (true, Some(parent)) = (cgroup.join(name).exists(), cgroup.parent()) {
                let _ = fs::read(parent.join(name)).and_then(|value| fs::write(cgroup.join(name), value));
            }
        }
        let _ = fs::write(cgroup.join("cgroup.procs"), pid.to_string());
    }
}

/// Removes the cgroups once they are empty, and tries for a while.
fn remove_cgroups(container: &Path) {
    for cgroup in cgroups(container) {
        for _ in 0..50 {
            match fs::remove_dir(&cgroup) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => pause(10),
                _ => break,
            }
        }
    }
}

fn note_pid(call: &Call, pid: u32) -> Outcome<()> {
    match call.option(&["pid-file"]) {
        Some(path) => said("pid file", fs::write(path, pid.to_string())),
        None => Ok(()),
    }
}

fn create(call: &Call, rule: &Rule) -> Outcome<()> {
    let bundle = PathBuf::from(call.option(&["bundle", "b"]).unwrap_or("."));
    let config = said("config.json", fs::read(bundle.join("config.json")))?;
    let config: Value = serde_json::from_slice(&config).map_err(|error| format!("config.json: {error}"))?;
    let container = call.container();
    if container.exists() {
        return Err("container with given ID already exists".into());
    }
    said("state", fs::create_dir_all(&container))?;
    said("bundle", fs::write(container.join("bundle"), bundle.as_os_str().as_encoded_bytes()))?;
    let cgroup = config["linux"]["cgroupsPath"].as_str().unwrap_or_default();
    said("cgroup", fs::write(container.join("cgroup"), cgroup))?;
    let fifo = container.join("start");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600))
        .map_err(|e| format!("fifo: {e}"))?;
    let pid = spawn("__init", &container, &config["process"]["args"])?;
    let since = stat(pid as i32).map(|(_, since)| since).unwrap_or_default();
    said("init.pid", fs::write(container.join("init.pid"), format!("{pid} {since}")))?;
    if rule.die {
        let _ = signal::kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
    }
    pause(rule.middle_ms);
    if let Some(text) = rule.fail_late.as_deref() {
        return Err(text.to_owned());
    }
    note_pid(call, pid)
}

fn start(call: &Call, rule: &Rule) -> Outcome<()> {
    let container = existing(call)?;
    let fifo = container.join("start");
    loop {
        if alive(&container).is_none() || !fifo.exists() {
            return Err(format!("cannot start a container that has {}", status(&container)));
        }
        match OpenOptions::new().write(true).custom_flags(nix::libc::O_NONBLOCK).open(&fifo) {
            Ok(mut file) => {
                said("start", file.write_all(b"0"))?;
                break;
            }
            Err(_) => pause(2),
        }
    }
    said("start", fs::remove_file(&fifo))?;
    if let (true, Some(pid)) = (rule.die, alive(&container)) {
        let _ = signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    pause(rule.middle_ms);
    Ok(())
}

fn exec(call: &Call, rule: &Rule) -> Outcome<()> {
    let container = existing(call)?;
    if matches!(status(&container), "stopped" | "paused") {
        return Err(format!("cannot exec in a {} container", status(&container)));
    }
    let process = call.option(&["process", "p"]).ok_or("no --process")?;
    let process: Value =
        serde_json::from_slice(&said("process", fs::read(process))?).map_err(|e| e.to_string())?;
    let pid = spawn("__exec", &container, &process["args"])?;
    if rule.die {
        let _ = signal::kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
    }
    pause(rule.middle_ms);
    note_pid(call, pid)
}

fn existing(call: &Call) -> Outcome<PathBuf> {
    let container = call.container();
    if call.id().is_empty() || !container.exists() {
        return Err("container does not exist".into());
    }
    Ok(container)
}

fn kill(call: &Call) -> Outcome<()> {
    let container = existing(call)?;
    let wanted = call.arguments.get(1).map_or("15", String::as_str);
    let Some(pid) = alive(&container) else {
        return if call.options.contains_key("all") { Ok(()) } else { Err("container not running".into()) };
    };
    let number: i32 = wanted.parse().map_err(|_| format!("unknown signal {wanted:?}"))?;
    raw_kill(pid, number)
}

/// Any number, real-time signals included, which the typed call does not take.
fn raw_kill(pid: i32, number: i32) -> Outcome<()> {
    let mut command = Command::new("/bin/busybox");
    command.args(["kill", &format!("-{number}"), &pid.to_string()]).stdin(Stdio::null());
    let output = said("kill", command.output())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn delete(call: &Call) -> Outcome<()> {
    let force = call.option(&["force", "f"]).is_some();
    let container = match existing(call) {
        Err(_) if force => return Ok(()),
        other => other?,
    };
    if let Some(pid) = alive(&container) {
        if !force {
            return Err(format!("cannot delete container that is not stopped: {}", status(&container)));
        }
        let _ = signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
        for _ in 0..100 {
            if alive(&container).is_none() {
                break;
            }
            pause(10);
        }
    }
    remove_cgroups(&container);
    said("delete", fs::remove_dir_all(&container))
}

fn freeze(call: &Call, on: bool) -> Outcome<()> {
    let container = existing(call)?;
    let marker = container.join("paused");
    let pid = alive(&container).ok_or("container not running")?;
    if marker.exists() == on {
        return Err(format!("container is {}", status(&container)));
    }
    let signal = if on { Signal::SIGSTOP } else { Signal::SIGCONT };
    signal::kill(Pid::from_raw(pid), signal).map_err(|error| error.to_string())?;
    if on { said("pause", fs::write(marker, "")) } else { said("resume", fs::remove_file(marker)) }
}

fn print_state(call: &Call) -> Outcome<()> {
    let container = existing(call)?;
    let bundle = fs::read_to_string(container.join("bundle")).unwrap_or_default();
    let pid = alive(&container).unwrap_or(0);
    println!(
        "{}",
        json!({"ociVersion": "1.0.2", "id": call.id(), "pid": pid, "status": status(&container), "bundle": bundle})
    );
    Ok(())
}

fn run(call: &Call, rule: &Rule) -> Outcome<()> {
    if rule.stderr > 0 {
        let noise = [b'x'; 4096];
        let mut left = rule.stderr;
        while left > 0 {
            let part = left.min(noise.len());
            said("stderr", io::stderr().write_all(&noise[..part]))?;
            left -= part;
        }
    }
    if rule.hang {
        loop {
            pause(60_000);
        }
    }
    if let Some(text) = rule.fail.as_deref() {
        return Err(text.to_owned());
    }
    if rule.ignore {
        return Ok(());
    }
    match call.command.as_str() {
        "create" => create(call, rule),
        "start" => start(call, rule),
        "exec" => exec(call, rule),
        "kill" => kill(call),
        "delete" => delete(call),
        "pause" => freeze(call, true),
        "resume" => freeze(call, false),
        "state" => print_state(call),
        "ps" => {
            let pids: Vec<i32> = alive(&existing(call)?).into_iter().collect();
            println!("{}", json!(pids));
            Ok(())
        }
        "update" => existing(call).map(drop),
        "events" => {
            println!("{}", json!({"type": "stats", "id": call.id(), "data": {}}));
            Ok(())
        }
        "list" => {
            println!("[]");
            Ok(())
        }
        "features" => {
            println!("{}", json!({"ociVersionMin": "1.0.0", "ociVersionMax": "1.0.2"}));
            Ok(())
        }
        "checkpoint" | "restore" => Err("not supported".into()),
        _ if call.options.contains_key("version") || call.options.contains_key("v") => {
            println!("runc version 1.1.5\nspec: 1.0.2-dev");
            Ok(())
        }
        other => Err(format!("unknown command {other:?}")),
    }
}

/// The process of a container: a session of its own, then, once told, busybox.
fn contained(arguments: &[String]) -> Outcome<()> {
    let _ = nix::unistd::setsid();
    let (role, container, command) = match arguments {
        [role, container, command @ ..] => (role, Path::new(container), command),
        _ => return Err("no role".into()),
    };
    if role == "__init" {
        let mut told = [0];
        let mut fifo = said("start", File::open(container.join("start")))?;
        said("start", fifo.read_exact(&mut told))?;
    }
    let busybox = Command::new("/bin/busybox").args(command).env_clear().env("PATH", "/bin").exec();
    Err(format!("busybox: {busybox}"))
}

/// Tries to connect to a socket; for tests that do so as another user.
fn connect(path: &str) -> Outcome<()> {
    let mut stream = said("connect", std::os::unix::net::UnixStream::connect(path))?;
    said("timeout", stream.set_read_timeout(Some(Duration::from_secs(5))))?;
    // An empty request to an unknown service: who is served gets an answer.
    said("write", stream.write_all(&[0, 0, 0, 0, 0, 0, 0, 1, 1, 0]))?;
    let mut header = [0; 10];
    said("read", stream.read_exact(&mut header))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.first().map(String::as_str) {
        Some("__init" | "__exec") => contained(&arguments),
        Some("__connect") => connect(arguments.get(1).map_or("", String::as_str)),
        _ => {
            let call = Call::parse(arguments.into_iter());
            let rule = call.rule();
            call.note(false);
            pause(rule.before_ms);
            let outcome = run(&call, &rule);
            pause(rule.after_ms);
            call.note(true);
            if let Err(text) = &outcome {
                call.complain(text);
            }
            return if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
    };
    if let Err(text) = outcome {
        let _ = writeln!(io::stderr(), "{text}");
        return ExitCode::from(127);
    }
    ExitCode::SUCCESS
}
