//! One container of a test: made, started, looked at, ended, and checked to have left nothing.

mod builder;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use containerd_client::types::v1::{Process, Status};

pub use builder::Builder;

use crate::client::{Answer, Client, Deleted, Exit};
use crate::daemon::Daemon;
use crate::events::{Event, assert_order};
use crate::exec::ExecBuilder;
use crate::poll::{self, LONG};
use crate::stdio::{Reader, Writer, fifo};
use crate::{cgroup, leftovers, processes};

/// The FIFOs of a process and the client's ends of them.
pub struct Stdio {
    /// The paths, stdin, stdout, stderr; empty where there is none.
    pub paths: [String; 3],
    /// The client's end of stdin.
    pub stdin: Option<Writer>,
    /// What comes from stdout.
    pub stdout: Option<Reader>,
    /// What comes from stderr.
    pub stderr: Option<Reader>,
}

impl Stdio {
    /// Makes FIFOs for the streams that are asked for, and opens the client's ends.
    #[must_use]
    pub(crate) fn make(daemon: &Daemon, name: &str, streams: [bool; 3]) -> Self {
        let path = |at: usize, suffix: &str| -> Option<PathBuf> {
            streams[at].then(|| {
                let path = daemon.dir.join("io").join(format!("{name}-{suffix}"));
                fifo(&path);
                path
            })
        };
        let (input, output, error) = (path(0, "in"), path(1, "out"), path(2, "err"));
        let text =
            |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        Self {
            paths: [text(&input), text(&output), text(&error)],
            stdin: input.map(|path| Writer::open(&path)),
            stdout: output.map(|path| Reader::open(&path)),
            stderr: error.map(|path| Reader::open(&path)),
        }
    }

    /// What comes from stdout.
    ///
    /// # Panics
    /// Where it was not asked for.
    #[must_use]
    pub fn out(&self) -> &Reader {
        self.stdout.as_ref().expect("stdout was asked for")
    }

    /// What comes from stderr.
    ///
    /// # Panics
    /// Where it was not asked for.
    #[must_use]
    pub fn err(&self) -> &Reader {
        self.stderr.as_ref().expect("stderr was asked for")
    }

    /// The client's end of stdin.
    ///
    /// # Panics
    /// Where it was not asked for.
    #[must_use]
    pub fn input(&mut self) -> &mut Writer {
        self.stdin.as_mut().expect("stdin was asked for")
    }
}

impl Drop for Stdio {
    fn drop(&mut self) {
        for path in self.paths.iter().filter(|path| !path.is_empty()) {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A container with a task.
pub struct Container {
    /// The daemon that has it.
    pub daemon: Arc<Daemon>,
    /// containerd's namespace.
    pub namespace: String,
    /// Its id.
    pub id: String,
    /// Its streams.
    pub io: Stdio,
    /// Init's pid.
    pub pid: u32,
    /// Its cgroup.
    pub cgroup: String,
    removed: AtomicBool,
    /// Its exit was published while nobody had subscribed.
    unseen: AtomicBool,
    execs: AtomicU32,
}

impl Container {
    /// The daemon's client.
    #[must_use]
    pub fn client(&self) -> Client {
        self.daemon.client()
    }

    /// Starts init.
    ///
    /// # Panics
    /// Where it is refused.
    pub fn start(&self) {
        let pid = self.try_start().unwrap_or_else(|error| panic!("starting {}: {error}", self.id));
        assert_eq!(pid, self.pid, "Start and Create answer the same pid");
    }

    /// Asks to start init.
    ///
    /// # Errors
    /// What containerd answers.
    pub fn try_start(&self) -> Answer<u32> {
        self.client().start(&self.namespace, &self.id, "")
    }

    /// Waits for init's end.
    ///
    /// # Panics
    /// Where Wait fails.
    pub fn wait(&self) -> Exit {
        self.client()
            .wait(&self.namespace, &self.id, "")
            .unwrap_or_else(|error| panic!("waiting for {}: {error}", self.id))
    }

    /// Waits for init's end on another thread, from now.
    #[must_use]
    pub fn wait_aside(&self) -> thread::JoinHandle<Answer<Exit>> {
        let (client, namespace, id) = (self.client(), self.namespace.clone(), self.id.clone());
        thread::spawn(move || client.wait(&namespace, &id, ""))
    }

    /// Signals init.
    ///
    /// # Panics
    /// Where it is refused.
    pub fn kill(&self, signal: u32) {
        self.try_kill(signal).unwrap_or_else(|error| panic!("killing {}: {error}", self.id));
    }

    /// Asks to signal init.
    ///
    /// # Errors
    /// What containerd answers.
    pub fn try_kill(&self, signal: u32) -> Answer<()> {
        self.client().kill(&self.namespace, &self.id, "", signal, false)
    }

    /// Kills everything in it.
    ///
    /// # Panics
    /// Where it is refused.
    pub fn kill_all(&self) {
        let client = self.client();
        client
            .kill(&self.namespace, &self.id, "", 9, true)
            .unwrap_or_else(|error| panic!("killing all of {}: {error}", self.id));
    }

    /// Deletes the task.
    ///
    /// # Panics
    /// Where it is refused.
    pub fn delete(&self) -> Deleted {
        self.try_delete().unwrap_or_else(|error| panic!("deleting {}: {error}", self.id))
    }

    /// Asks to delete the task.
    ///
    /// # Errors
    /// What containerd answers.
    pub fn try_delete(&self) -> Answer<Deleted> {
        self.client().delete(&self.namespace, &self.id)
    }

    /// What State says.
    ///
    /// # Panics
    /// Where it fails.
    #[must_use]
    pub fn state(&self) -> Process {
        self.client()
            .get(&self.namespace, &self.id, "")
            .unwrap_or_else(|error| panic!("the state of {}: {error}", self.id))
    }

    /// What State says the status is.
    #[must_use]
    pub fn status(&self) -> Status {
        self.state().status()
    }

    /// Waits for a status.
    ///
    /// # Panics
    /// Where it does not come.
    pub fn until_status(&self, status: Status) {
        poll::holds(&format!("{} is {status:?}", self.id), || self.status() == status);
    }

    /// The pids that Pids lists.
    ///
    /// # Panics
    /// Where it fails.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let answer = self.client().pids(&self.namespace, &self.id);
        let processes = answer.unwrap_or_else(|error| panic!("the pids of {}: {error}", self.id));
        processes.into_iter().map(|process| process.pid).collect()
    }

    /// An exec to be, with a shell script.
    #[must_use]
    pub fn exec(&self, script: &str) -> ExecBuilder<'_> {
        let number = self.execs.fetch_add(1, Ordering::Relaxed) + 1;
        ExecBuilder::new(self, &format!("exec-{number}"), script)
    }

    /// The process that serves this container's task: the parent of its init.
    ///
    /// # Panics
    /// Where init is gone.
    #[must_use]
    pub fn shim(&self) -> u32 {
        processes::parent(self.pid).expect("init is there")
    }

    /// Its events so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.daemon.events.of(&self.namespace, &self.id)
    }

    /// Waits for its events to satisfy `enough`.
    pub fn until_events(&self, what: &str, enough: impl Fn(&[Event]) -> bool) -> Vec<Event> {
        self.daemon.events.wait(&self.namespace, &self.id, what, enough)
    }

    /// The recorder may have missed its exit, which went to a daemon that had just been restarted; whoever says so has seen
    /// otherwise that it was published.
    pub fn exit_may_be_unseen(&self) {
        self.unseen.store(true, Ordering::Relaxed);
    }

    /// Waits for init, deletes the task, and checks the order of events and that nothing is left.
    ///
    /// # Panics
    /// Where any of it goes wrong.
    pub fn finish(self) -> Exit {
        let exit = self.wait();
        self.delete();
        self.check_gone();
        exit
    }

    /// Kills init, then [`Self::finish`].
    ///
    /// # Panics
    /// Where any of it goes wrong.
    pub fn end(self) {
        self.kill(9);
        self.finish();
    }

    /// Checks a container whose task is deleted: events in order, nothing left. Removes its object.
    ///
    /// # Panics
    /// Where something is left or out of order.
    pub fn check_gone(&self) {
        use crate::events::Kind;
        let events = self.until_events("complete", |events| {
            events.iter().any(|event| event.kind == Kind::Delete && event.exec.is_empty())
        });
        let seen = events.iter().any(|event| event.kind == Kind::Exit && event.exec.is_empty());
        if seen || !self.unseen.load(Ordering::Relaxed) {
            assert_order(&events);
        }
        let _ = self.client().delete_container(&self.namespace, &self.id);
        self.removed.store(true, Ordering::Relaxed);
        let look = || leftovers::of_container(&self.daemon.dir, &self.namespace, &self.id, &self.cgroup);
        poll::within(LONG, || look().is_empty().then_some(()));
        let left = look();
        assert!(left.is_empty(), "{} left behind:\n  {}", self.id, left.join("\n  "));
    }

    /// Removes it by any means.
    fn remove(&self) {
        if self.daemon.pid().is_none() {
            return;
        }
        let client = self.client();
        poll::within(Duration::from_secs(20), || {
            let Ok(state) = client.get(&self.namespace, &self.id, "") else { return Some(()) };
            match state.status() {
                Status::Paused => drop(client.resume(&self.namespace, &self.id)),
                Status::Stopped => {}
                _ => {
                    let _ = client.kill(&self.namespace, &self.id, "", 9, true);
                }
            }
            cgroup::pids(&self.cgroup).into_iter().for_each(processes::kill_9);
            client.delete(&self.namespace, &self.id).ok().map(drop)
        });
        let _ = client.delete_container(&self.namespace, &self.id);
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if !self.removed.load(Ordering::Relaxed) {
            self.remove();
        }
    }
}
