use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::process::Command;
use std::time::{Duration, Instant, UNIX_EPOCH};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;
use tracing::subscriber::with_default;

use super::*;

fn key(id: &str) -> Key {
    Key::new("k8s.io", id).unwrap()
}

/// A bundle whose log is read as containerd reads it.
struct Bundle {
    dir: TempDir,
    reader: File,
}

impl Bundle {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        mkfifo(&dir.path().join("log"), Mode::S_IRWXU).unwrap();
        let flags = OFlag::O_NONBLOCK.bits();
        let reader = OpenOptions::new().read(true).custom_flags(flags).open(dir.path().join("log")).unwrap();
        Self { dir, reader }
    }

    /// What has been written since the last call.
    fn text(&mut self) -> String {
        let mut bytes = Vec::new();
        let mut buffer = [0; 65536];
        while let Ok(n @ 1..) = self.reader.read(&mut buffer) {
            bytes.extend_from_slice(&buffer[..n]);
        }
        String::from_utf8(bytes).unwrap()
    }
}

/// Sinks whose file is in a directory of its own.
fn logs(debug: bool) -> (TempDir, Logs, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    (dir, Logs::new(path.clone(), debug), path)
}

fn logging(logs: &Logs, f: impl FnOnce()) {
    with_default(tracing_subscriber::registry().with(logs.clone()), f);
}

#[test]
fn c14_each_container_writes_to_its_own_bundle() {
    let (_dir, logs, file) = logs(false);
    let (mut a, mut b) = (Bundle::new(), Bundle::new());
    logs.add(&key("a"), a.dir.path());
    logs.add(&key("b"), b.dir.path());
    logging(&logs, || {
        tracing::info!(container = %key("b"), pid = 7, "by field");
        let outer = tracing::info_span!("call", container = %key("a"), exec = "e 1").entered();
        tracing::warn!("by span");
        tracing::warn!(container = %key("b"), "the event wins");
        drop(outer);
        let late = tracing::info_span!("late", container = tracing::field::Empty);
        late.record("container", key("a").to_string());
        late.in_scope(|| tracing::error!("recorded later"));
    });
    let (a, b) = (a.text(), b.text());
    let ends: Vec<&str> = a.lines().map(|line| line.split_once("Z\" ").unwrap().1).collect();
    assert_eq!(
        ends,
        [
            "level=warning msg=\"by span\" container=k8s.io/a exec=\"e 1\"",
            "level=error msg=\"recorded later\" container=k8s.io/a"
        ]
    );
    assert_eq!(b.lines().count(), 2, "{b}");
    assert!(b.contains("level=info msg=\"by field\" container=k8s.io/b pid=7\n"), "{b}");
    assert!(b.contains("msg=\"the event wins\" container=k8s.io/b exec=\"e 1\"\n"), "{b}");
    assert!(!file.exists());
    assert_eq!(logs.dropped(), 0);
}

#[test]
fn c14_what_belongs_to_no_container_goes_to_a_live_bundle_else_to_the_groups_file() {
    let (_dir, logs, file) = logs(false);
    let mut a = Bundle::new();
    logging(&logs, || {
        logs.add(&key("a"), a.dir.path());
        tracing::info!("common");
        tracing::info!(container = %key("gone"), "of one that is gone");
        logs.remove(&key("a"));
        tracing::info!(container = %key("a"), "after");
    });
    assert_eq!(a.text().lines().count(), 2);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.lines().count() == 1 && text.contains("msg=after container=k8s.io/a"), "{text}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn c15_a_full_fifo_blocks_nobody_and_what_it_does_not_take_is_counted() {
    let (_dir, logs, file) = logs(false);
    let mut a = Bundle::new();
    logs.add(&key("a"), a.dir.path());
    let began = Instant::now();
    logging(&logs, || {
        for n in 0..2000 {
            tracing::info!(container = %key("a"), n, "a line of some length that will fill the pipe in the end");
        }
        assert!(logs.dropped() > 0);
        let dropped = logs.dropped();
        tracing::info!("a line of no container, {}", "longer than what is left".repeat(20));
        assert_eq!(logs.dropped(), dropped, "it went to the file");
    });
    assert!(began.elapsed() < Duration::from_secs(20));
    assert!(fs::read_to_string(&file).unwrap().contains("a line of no container"));
    let text = a.text();
    assert!(text.ends_with('\n') && text.lines().all(|line| line.starts_with("time=\"")), "no line is torn");
    assert_eq!(text.lines().count() as u64 + logs.dropped(), 2000);
}

#[test]
fn the_level_can_be_changed_while_lines_are_written() {
    let (_dir, logs, _) = logs(false);
    let mut a = Bundle::new();
    logs.add(&key("a"), a.dir.path());
    let say = |text: &str| tracing::debug!(container = %key("a"), "{text}");
    logging(&logs, || {
        say("too early");
        logs.set_level(LevelFilter::DEBUG);
        assert_eq!(logs.level(), LevelFilter::DEBUG);
        say("wanted");
        logs.set_level(level_named("error").unwrap());
        say("too late");
        tracing::warn!(container = %key("a"), "a warning");
    });
    let text = a.text();
    assert!(text.lines().count() == 1 && text.contains("msg=wanted"), "{text}");
    assert!(level_named("loud").is_none());
}

#[test]
fn lines_wait_for_a_containerd_that_comes_back() {
    let (_dir, logs, _) = logs(false);
    let mut a = Bundle::new();
    logs.add(&key("a"), a.dir.path());
    a.reader = File::open("/dev/null").unwrap();
    logging(&logs, || tracing::info!(container = %key("a"), "while away"));
    let path = a.dir.path().join("log");
    a.reader = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).unwrap();
    assert!(a.text().contains("while away"));
    assert_eq!(logs.dropped(), 0);
}

#[test]
fn only_a_fifo_is_taken_for_a_log() {
    let (_dir, logs, file) = logs(false);
    let dir = tempfile::tempdir().unwrap();
    let (regular, link, none) = (dir.path().join("r"), dir.path().join("l"), dir.path().join("n"));
    for path in [&regular, &link, &none] {
        fs::create_dir(path).unwrap();
    }
    fs::write(regular.join("log"), "").unwrap();
    let mut real = Bundle::new();
    std::os::unix::fs::symlink(real.dir.path().join("log"), link.join("log")).unwrap();
    for bundle in [&regular, &link, &none] {
        logs.add(&key("a"), bundle);
        logging(&logs, || tracing::info!(container = %key("a"), "x"));
    }
    assert_eq!(fs::metadata(regular.join("log")).unwrap().len(), 0);
    assert_eq!(real.text(), "");
    assert!(!none.join("log").exists(), "D10: nothing is made in a bundle");
    assert_eq!(fs::read_to_string(file).unwrap().lines().count(), 3);
}

#[test]
fn h9_debug_lines_are_written_only_when_asked_for_and_frames_never() {
    for (debug, expected) in [(false, vec!["info", "warning"]), (true, vec!["debug", "info", "warning"])] {
        let (_dir, logs, file) = logs(debug);
        logging(&logs, || {
            tracing::trace!("never");
            tracing::debug!("d");
            tracing::info!("i");
            tracing::debug!(target: "h2::codec", "frame");
            tracing::info!(target: "ttrpc::asynchronous", "call");
            tracing::info!(target: "hyper", "call");
            tracing::warn!(target: "ttrpc::asynchronous", "trouble");
        });
        let text = fs::read_to_string(file).unwrap();
        let levels: Vec<&str> = text
            .lines()
            .map(|line| line.split_once("level=").unwrap().1.split(' ').next().unwrap())
            .collect();
        assert_eq!(levels, expected);
    }
}

#[test]
fn the_groups_file_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let line = [b'x'; 4096];
    let mut file = BoundedFile::new(path.clone());
    for _ in 0..300 {
        assert!(file.write(&line));
    }
    drop(file);
    let mut file = BoundedFile::new(path.clone());
    for _ in 0..300 {
        assert!(file.write(&line), "it goes on where another left off");
    }
    let sizes: Vec<u64> =
        ["log", "log.1"].map(|name| fs::metadata(dir.path().join(name)).unwrap().len()).into();
    assert!(sizes.iter().all(|size| *size <= file::MAX_SIZE), "{sizes:?}");
    assert_eq!(sizes[1], file::MAX_SIZE);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    drop(dir);
    assert!(!BoundedFile::new(path).write(&line), "a directory that is gone is not made again");
}

#[test]
fn a_long_line_is_cut_at_what_a_pipe_takes_in_one_piece() {
    let (_dir, logs, file) = logs(false);
    for pad in 0..4 {
        logging(&logs, || tracing::info!("{}{}", "x".repeat(pad), "é".repeat(4000)));
    }
    for line in fs::read_to_string(file).unwrap().split_inclusive('\n') {
        assert!(line.len() <= line::MAX_LINE && line.len() > line::MAX_LINE - 4 && line.ends_with("...\n"));
    }
}

#[test]
fn a_value_cannot_forge_a_line() {
    let (_dir, logs, file) = logs(false);
    logging(&logs, || tracing::info!(name = "a\nlevel=error \"q\"", empty = "", "first\nsecond"));
    let text = fs::read_to_string(file).unwrap();
    assert!(text.ends_with("msg=\"first\\nsecond\" name=\"a\\nlevel=error \\\"q\\\"\" empty=\n"), "{text}");
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn times_are_those_of_date() {
    for seconds in
        [0_u64, 951_782_400, 951_868_799, 1_709_164_800, 1_735_689_599, 4_107_542_399, 4_107_542_400]
    {
        let output = Command::new("date")
            .args(["-u", "+%Y-%m-%dT%H:%M:%S.%NZ", "-d", &format!("@{seconds}")])
            .output();
        let expected = String::from_utf8(output.unwrap().stdout).unwrap();
        assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), expected.trim_end());
    }
}
