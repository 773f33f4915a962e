//! A container to be: what it is asked for, and its making.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};

use containerd_client::services::v1::container::Runtime;
use containerd_client::services::v1::{Container as Object, CreateTaskRequest};
use containerd_client::types::Mount;
use gam_protos::runc_options::Options;
use prost_types::Any;
use protobuf::Message;

use super::{Container, Stdio};
use crate::client::Answer;
use crate::daemon::Daemon;
use crate::events::{Event, Kind};
use crate::spec::{Spec, sh};
use crate::target;

/// A container to be.
pub struct Builder {
    /// The daemon that is to have it.
    pub daemon: Arc<Daemon>,
    namespace: String,
    /// Its id.
    pub id: String,
    streams: [bool; 3],
    terminal: bool,
    options: Options,
    uris: Option<[String; 3]>,
    input: Option<String>,
    rootfs: Vec<Mount>,
    raw: Option<Vec<u8>>,
    /// Its spec, to be changed at will.
    pub spec: Spec,
}

impl Builder {
    /// A container that sleeps, with stdout and stderr.
    #[must_use]
    pub fn new(daemon: &Arc<Daemon>, namespace: &str, id: &str) -> Self {
        let spec = Spec::new(&sh("sleep 1000"), &daemon.cgroup(namespace, id));
        let mut options = Options::new();
        options.root = daemon.runc_root().display().to_string();
        options.binary_name = target::runtime().unwrap_or_default();
        let rootfs = Mount {
            r#type: "bind".into(),
            source: daemon.dir.join("rootfs").display().to_string(),
            options: vec!["rbind".into(), "rw".into()],
            ..Default::default()
        };
        Self {
            daemon: daemon.clone(),
            namespace: namespace.into(),
            id: id.into(),
            streams: [false, true, true],
            terminal: false,
            options,
            uris: None,
            input: None,
            rootfs: vec![rootfs],
            raw: None,
            spec,
        }
    }

    /// With a shell script as init.
    #[must_use]
    pub fn sh(mut self, script: &str) -> Self {
        self.spec.args(&sh(script));
        self
    }

    /// With these words as init.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.spec.args(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>());
        self
    }

    /// With a change of the spec.
    #[must_use]
    pub fn change(mut self, change: impl FnOnce(&mut Spec)) -> Self {
        change(&mut self.spec);
        self
    }

    /// With a change of runc's options.
    #[must_use]
    pub fn options(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        self
    }

    /// With a change of what is mounted as its root file system.
    #[must_use]
    pub fn rootfs(mut self, change: impl FnOnce(&mut Vec<Mount>)) -> Self {
        change(&mut self.rootfs);
        self
    }

    /// With stdin too.
    #[must_use]
    pub fn stdin(mut self) -> Self {
        self.streams[0] = true;
        self
    }

    /// With these streams: stdin, stdout, stderr.
    #[must_use]
    pub fn streams(mut self, streams: [bool; 3]) -> Self {
        self.streams = streams;
        self
    }

    /// With these words for stdin, stdout and stderr, and no FIFOs.
    #[must_use]
    pub fn uris(mut self, uris: [&str; 3]) -> Self {
        self.uris = Some(uris.map(str::to_owned));
        self.streams = [false; 3];
        self
    }

    /// With the caller's FIFO as stdin.
    #[must_use]
    pub fn stdin_at(mut self, path: &Path) -> Self {
        self.input = Some(path.display().to_string());
        self
    }

    /// With these bytes for a spec.
    #[must_use]
    pub fn raw_spec(mut self, bytes: &[u8]) -> Self {
        self.raw = Some(bytes.to_vec());
        self
    }

    /// With a terminal, and stdin.
    #[must_use]
    pub fn terminal(mut self) -> Self {
        self.terminal = true;
        self.spec.terminal();
        self.streams = [true, true, false];
        self
    }

    /// As the pod's sandbox container, with CRI's annotations.
    #[must_use]
    pub fn sandbox(mut self, tenant: &str) -> Self {
        let id = self.id.clone();
        self.spec.annotate("io.kubernetes.cri.container-type", "sandbox");
        self.spec.annotate("io.kubernetes.cri.sandbox-id", &id);
        self.spec.annotate("io.kubernetes.cri.sandbox-namespace", tenant);
        self
    }

    /// As a container of the pod whose sandbox is `sandbox`, with CRI's annotations.
    #[must_use]
    pub fn in_pod(mut self, tenant: &str, sandbox: &str) -> Self {
        self.spec.annotate("io.kubernetes.cri.container-type", "container");
        self.spec.annotate("io.kubernetes.cri.sandbox-id", sandbox);
        self.spec.annotate("io.kubernetes.cri.sandbox-namespace", tenant);
        self
    }

    /// Makes the container object, and asks for its task; the refusal where it is refused, with nothing left.
    ///
    /// # Errors
    /// What containerd answers to Create.
    ///
    /// # Panics
    /// Where the object cannot be made.
    pub fn try_create(self) -> Answer<Container> {
        let Self { daemon, namespace, id, streams, terminal, options, uris, input, rootfs, raw, spec } = self;
        let options = Any {
            type_url: "containerd.runc.v1.Options".into(),
            value: options.write_to_bytes().expect("options are encoded"),
        };
        let runtime = daemon.settings.shim.runtime().to_owned();
        let object = Object {
            id: id.clone(),
            runtime: Some(Runtime { name: runtime, options: Some(options.clone()) }),
            spec: Some(raw.map_or_else(|| spec.any(), |value| Any { value, ..spec.any() })),
            ..Default::default()
        };
        daemon.client().create_container(&namespace, object).expect("making the container object");
        let mut io = Stdio::make(&daemon, &format!("{namespace}-{id}"), streams);
        if let Some(uris) = uris {
            io.paths = uris;
        }
        if let Some(input) = input {
            io.paths[0] = input;
        }
        let message = CreateTaskRequest {
            container_id: id.clone(),
            rootfs,
            stdin: io.paths[0].clone(),
            stdout: io.paths[1].clone(),
            stderr: io.paths[2].clone(),
            terminal,
            options: Some(options),
            ..Default::default()
        };
        let cgroup = daemon.cgroup(&namespace, &id);
        let mut container = Container {
            daemon,
            namespace,
            id,
            io,
            pid: 0,
            cgroup,
            removed: AtomicBool::new(false),
            unseen: AtomicBool::new(false),
            execs: AtomicU32::new(0),
        };
        container.pid = container.client().create(&container.namespace, message)?;
        container.daemon.note_socket(&container.namespace, &container.id);
        Ok(container)
    }

    /// Creates it.
    ///
    /// # Panics
    /// Where it is refused.
    #[must_use]
    pub fn create(self) -> Container {
        let id = self.id.clone();
        let daemon = self.daemon.clone();
        self.try_create().unwrap_or_else(|error| panic!("creating {id}: {error}\n{}", daemon.log_tail(15)))
    }

    /// Creates and starts it.
    ///
    /// # Panics
    /// Where either is refused.
    #[must_use]
    pub fn run(self) -> Container {
        let container = self.create();
        container.start();
        container
    }

    /// The same, and waits until its start is published: for tests that end the daemon next, with which an event that is on
    /// its way goes.
    ///
    /// # Panics
    /// As [`Self::run`].
    #[must_use]
    pub fn run_told(self) -> Container {
        let container = self.run();
        let told = |events: &[Event]| events.iter().any(|event| event.kind == Kind::Start);
        container.until_events("started", told);
        container
    }
}
