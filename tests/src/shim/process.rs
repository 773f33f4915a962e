//! Processes, told apart from later ones with the same pid.

use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

/// A process that was seen alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Proc {
    /// Its pid.
    pub pid: u32,
    /// Its start, in clock ticks since boot.
    since: u64,
}

/// State and start time, from /proc/PID/stat.
fn stat(pid: u32) -> Option<(char, u64, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    Some((state, fields.nth(17)?.parse().ok()?, parent))
}

impl Proc {
    /// The process that has `pid` now.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        (pid != 0).then(|| stat(pid)).flatten().map(|(_, since, _)| Self { pid, since })
    }

    /// Whether it still runs. A zombie does not.
    #[must_use]
    pub fn alive(self) -> bool {
        stat(self.pid).is_some_and(|(state, since, _)| since == self.since && !matches!(state, 'Z' | 'X'))
    }

    /// Kills it.
    pub fn kill(self) {
        if self.alive() {
            let _ = signal::kill(Pid::from_raw(self.pid as i32), Signal::SIGKILL);
        }
    }

    /// How many descriptors it has open.
    #[must_use]
    pub fn descriptors(self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid)).map_or(0, Iterator::count)
    }
}

/// The processes whose parent is `parent`: pid and whether it is a zombie.
#[must_use]
pub fn children(parent: u32) -> Vec<(u32, bool)> {
    let Ok(list) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = list.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| stat(pid).map(|found| (pid, found)))
        .filter(|(_, (_, _, ppid))| *ppid == parent)
        .map(|(pid, (state, ..))| (pid, state == 'Z'))
        .collect()
}

/// Every process in whose command line or directory `path` occurs.
#[must_use]
pub fn mentioning(path: &Path) -> Vec<(u32, String)> {
    let Ok(list) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = list.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let wanted = path.to_string_lossy().into_owned();
    pids.filter(|pid| *pid != std::process::id())
        .filter_map(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let directory = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            (line.contains(&wanted) || directory.starts_with(path)).then_some((pid, line))
        })
        .collect()
}

/// What a command left.
#[derive(Debug)]
pub struct Answer {
    /// How it ended.
    pub status: ExitStatus,
    /// Stdout, and stderr if both were read together.
    pub output: Vec<u8>,
    /// Stderr, if it was read apart.
    pub errors: Vec<u8>,
    /// How long it took until both were closed.
    pub took: Duration,
}

impl Answer {
    /// All it wrote, as text.
    #[must_use]
    pub fn text(&self) -> String {
        [&self.output, &self.errors].map(|bytes| String::from_utf8_lossy(bytes)).concat()
    }
}

/// How a command's output is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// Stdout and stderr as one, as containerd reads `start`.
    Together,
    /// Each for itself, as containerd reads `delete`.
    Apart,
}

fn collect(read: OwnedFd) -> mpsc::Receiver<Vec<u8>> {
    let (done, output) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = std::fs::File::from(read).read_to_end(&mut bytes);
        let _ = done.send(bytes);
    });
    output
}

/// Runs a command as containerd does: what it writes is read until nobody holds stdout or stderr any more.
///
/// # Errors
/// Where it cannot be run, or is not done within `limit`; it is killed then.
pub fn run(mut command: Command, streams: Streams, limit: Duration) -> io::Result<Answer> {
    let since = Instant::now();
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let (output, write) = pipe()?;
    let (errors, write_errors) = match streams {
        Streams::Together => (None, write.try_clone()?),
        Streams::Apart => pipe().map(|(read, write)| (Some(read), write))?,
    };
    command.stdout(Stdio::from(write)).stderr(Stdio::from(write_errors));
    let mut child = command.spawn()?;
    // The command holds the ends of the pipes.
    drop(command);
    let output = collect(output);
    let errors = errors.map(collect);
    let left = || limit.saturating_sub(since.elapsed());
    let read = output.recv_timeout(left()).and_then(|output| {
        let errors = errors.map_or(Ok(Vec::new()), |errors| errors.recv_timeout(left()))?;
        Ok((output, errors))
    });
    let Ok((output, errors)) = read else {
        let running = child.try_wait()?;
        let _ = child.kill();
        let _ = child.wait();
        let text = format!("stdout or stderr is still open after {limit:?}; the command itself: {running:?}");
        return Err(io::Error::new(io::ErrorKind::TimedOut, text));
    };
    Ok(Answer { status: child.wait()?, output, errors, took: since.elapsed() })
}
