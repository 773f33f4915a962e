//! A container of docker.

use std::path::PathBuf;
use std::process::Stdio;

use gam_tests::cgroup;
use gam_tests::events::{Event, Kind, assert_order};
use gam_tests::leftovers::{self, CGROUP};
use gam_tests::poll::{self, LONG};
use serde_json::Value;

use crate::engine::{Engine, NAMESPACE, Outcome, Running};

/// A container of docker, removed when it is dropped.
pub(crate) struct Container<'e> {
    engine: &'e Engine,
    /// docker's and containerd's id of it.
    pub(crate) id: String,
    gone: bool,
}

impl<'e> Container<'e> {
    /// The container of this id.
    pub(crate) fn new(engine: &'e Engine, id: String) -> Self {
        Self { engine, id, gone: false }
    }
}

impl Container<'_> {
    /// Runs the docker command line about it: its id takes the place of `@`.
    pub(crate) fn docker(&self, arguments: &[&str]) -> Outcome {
        self.begin(arguments).finish()
    }

    /// [`Self::docker`], which has to succeed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let outcome = self.docker(arguments);
        assert_eq!(outcome.status, 0, "docker {}: {outcome:?}", arguments.join(" "));
        outcome.stdout.trim().to_owned()
    }

    /// [`Self::docker`], begun.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Running {
        self.engine.begin(&self.about(arguments))
    }

    /// The arguments with the id in the place of `@`.
    pub(crate) fn about<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        arguments.iter().map(|one| if *one == "@" { &*self.id } else { one }).collect()
    }

    /// `docker exec` of a script.
    pub(crate) fn exec(&self, options: &[&str], script: &str) -> Outcome {
        let mut all = vec!["exec"];
        all.extend(options);
        all.extend(["@", "sh", "-c", script]);
        self.docker(&all)
    }

    /// What `docker inspect` says.
    pub(crate) fn inspect(&self) -> Value {
        let mut all: Value =
            serde_json::from_str(&self.ok(&["inspect", "--type", "container", "@"])).expect("JSON");
        all[0].take()
    }

    /// What `docker inspect` says of its state.
    pub(crate) fn state(&self) -> Value {
        self.inspect()["State"].take()
    }

    /// Waits until docker calls its state `status`; it.
    pub(crate) fn until(&self, status: &str) -> Value {
        poll::until(status, || Some(self.state()).filter(|state| state["Status"] == status))
    }

    /// The pid of its init.
    pub(crate) fn pid(&self) -> u32 {
        self.state()["Pid"].as_u64().and_then(|pid| pid.try_into().ok()).expect("a pid")
    }

    /// Its cgroup's path.
    pub(crate) fn cgroup(&self) -> String {
        format!("{CGROUP}/{}/{}", self.engine.daemon.name(), self.id)
    }

    /// A file of its cgroup.
    pub(crate) fn cgroup_file(&self, file: &str) -> String {
        cgroup::read(&self.cgroup(), file).unwrap_or_default().trim().to_owned()
    }

    /// Removes it; nothing of it is left, and every start had its exit, in order.
    pub(crate) fn end(mut self) {
        self.ok(&["rm", "--force", "@"]);
        self.gone = true;
        self.check_gone();
    }

    /// One that removed itself: nothing of it is left, and every start had its exit, in order.
    pub(crate) fn removed_itself(mut self) {
        poll::holds("it removes itself", || self.docker(&["inspect", "@"]).status != 0);
        self.gone = true;
        self.check_gone();
    }

    fn check_gone(&self) {
        let (dir, cgroup) = (&self.engine.daemon.dir, self.cgroup());
        // gam is given no root for runc where it is chosen by --runtime, and dockerd gives its own shim another.
        let roots = [PathBuf::from("/run/containerd/runc"), dir.join("exec/runtime-runc")];
        let look = || {
            let mut left = leftovers::of_container(dir, NAMESPACE, &self.id, &cgroup);
            let states = roots.iter().map(|root| root.join(NAMESPACE).join(&self.id));
            left.extend(states.filter(|path| path.exists()).map(|path| path.display().to_string()));
            left
        };
        poll::within(LONG, || look().is_empty().then_some(()));
        assert_eq!(look(), Vec::<String>::new(), "left of {}", self.id);
        // A container that was started again has one life after the other.
        let events = self.engine.daemon.events.wait(NAMESPACE, &self.id, "complete", |events| {
            let count =
                |kind| events.iter().filter(|event| event.kind == kind && event.exec.is_empty()).count();
            count(Kind::Create) > 0 && count(Kind::Create) == count(Kind::Delete)
        });
        let mut life: Vec<Event> = Vec::new();
        for event in events {
            let last = event.kind == Kind::Delete && event.exec.is_empty();
            life.push(event);
            if last {
                assert_order(&life);
                life.clear();
            }
        }
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if !self.gone {
            let mut command = self.engine.command(&["rm", "--force", &self.id]);
            let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}
