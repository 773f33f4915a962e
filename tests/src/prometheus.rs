//! A private Prometheus: its own directory and address, the shipped configuration with another target and a shorter interval.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::poll::{self, LONG};
use crate::scrape;
use crate::target::workspace;

/// A series of an answer: its labels, its samples by time in seconds.
#[derive(Clone, Debug)]
pub struct Series {
    /// The labels.
    pub labels: serde_json::Map<String, Value>,
    /// The samples.
    pub samples: Vec<(f64, f64)>,
}

/// A running Prometheus. It ends, and its directory goes, when this is dropped.
pub struct Prometheus {
    dir: TempDir,
    address: SocketAddr,
    child: Child,
}

/// Has promtool check metrics, of which it must have nothing to say.
///
/// # Panics
/// If it has.
pub fn check_metrics(text: &str) {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starting promtool: tests/install installs it");
    child.stdin.take().expect("its input").write_all(text.as_bytes()).expect("its input");
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

/// An address on loopback that no other test takes: its host is made of this process's number and of how many were asked for.
///
/// # Panics
/// Where nothing can be bound there.
#[must_use]
pub fn free_address() -> SocketAddr {
    static ASKED: AtomicU8 = AtomicU8::new(0);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let nth = ASKED.fetch_add(1, Ordering::Relaxed) % 64;
    let listener = TcpListener::bind((Ipv4Addr::new(127, 64 + nth, high, low.max(1)), 0));
    listener.and_then(|listener| listener.local_addr()).expect("an address on loopback")
}

impl Prometheus {
    /// Starts one that reads `target` every second, and waits until it has.
    ///
    /// # Panics
    /// Where it does not.
    #[must_use]
    pub fn start(target: SocketAddr) -> Self {
        let dir = tempfile::Builder::new().prefix("gam-prometheus.").tempdir().expect("a directory");
        let shipped = workspace().join("deploy/prometheus");
        let text = fs::read_to_string(shipped.join("scrape.yaml")).expect("the shipped configuration");
        let changed =
            text.replace("127.0.0.1:9464", &target.to_string()).replace("_interval: 15s", "_interval: 1s");
        assert_ne!(text, changed, "the shipped configuration has the usual address and interval");
        fs::write(dir.path().join("scrape.yaml"), changed).expect("the configuration");
        fs::copy(shipped.join("rules.yaml"), dir.path().join("rules.yaml")).expect("the rules");
        let address = free_address();
        let log = File::create(dir.path().join("log")).expect("a log file");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", dir.path().join("scrape.yaml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log file twice"))
            .stderr(log)
            .spawn()
            .expect("starting prometheus: tests/install installs it");
        let prometheus = Self { dir, address, child };
        let has_read = || prometheus.query("up == 1").is_ok_and(|answer| !answer.is_empty()).then_some(());
        poll::within(LONG, has_read)
            .unwrap_or_else(|| panic!("Prometheus has not read {target}; its log:\n{}", prometheus.log()));
        prometheus
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn api(&self, path: &str) -> Result<Value, String> {
        let text =
            scrape::get_at(self.address, &format!("/api/v1/{path}")).map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        if answer["status"] == "success" { Ok(answer["data"].clone()) } else { Err(text) }
    }

    /// What an expression is now.
    ///
    /// # Errors
    /// What Prometheus says against it.
    pub fn query(&self, expression: &str) -> Result<Vec<Series>, String> {
        let answer = self.api(&format!("query?query={}", encoded(expression)))?;
        Ok(series(&answer))
    }

    /// What an expression was in the last `span`, second by second.
    ///
    /// # Errors
    /// What Prometheus says against it.
    pub fn range(&self, expression: &str, span: Duration) -> Result<Vec<Series>, String> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let (end, start) = (now.as_secs(), now.saturating_sub(span).as_secs());
        let query = encoded(expression);
        let answer = self.api(&format!("query_range?query={query}&start={start}&end={end}&step=1"))?;
        Ok(series(&answer))
    }

    /// The names and expressions of the alerts that it has.
    ///
    /// # Errors
    /// Where it does not tell.
    pub fn alerts(&self) -> Result<Vec<(String, String)>, String> {
        let answer = self.api("rules")?;
        let rules = list(&answer["groups"]).flat_map(|group| list(&group["rules"]));
        Ok(rules.map(|rule| (text(&rule["name"]), text(&rule["query"]))).collect())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The series of a vector or a matrix.
fn series(data: &Value) -> Vec<Series> {
    let sample = |pair: &Value| Some((pair[0].as_f64()?, pair[1].as_str()?.parse().ok()?));
    let of = |one: &Value| Series {
        labels: one["metric"].as_object().cloned().unwrap_or_default(),
        samples: list(&one["values"]).chain(one.get("value")).filter_map(sample).collect(),
    };
    list(&data["result"]).map(of).collect()
}

/// An expression as a part of a URL.
fn encoded(expression: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    expression.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_understood() {
        let vector = serde_json::json!({"result": [{"metric": {"a": "b"}, "value": [1.5, "NaN"]}]});
        let found = series(&vector);
        assert!(found[0].samples[0].0 == 1.5 && found[0].samples[0].1.is_nan());
        let matrix = serde_json::json!({"result": [{"metric": {}, "values": [[1, "2"], [2, "+Inf"]]}]});
        assert_eq!(series(&matrix)[0].samples, [(1.0, 2.0), (2.0, f64::INFINITY)]);
        assert_eq!(encoded("a{b=\"c\"}[5s]"), "a%7Bb%3D%22c%22%7D%5B5s%5D");
    }
}
