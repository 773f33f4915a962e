//! What happened to a container, in the words of containerd's task events.

use std::sync::Arc;
use std::time::SystemTime;

use crate::exit::Exit;
use crate::id::Key;
use crate::mount::Mount;

/// One event of one container. Events of one container are published in the order they are handed over.
#[derive(Clone, Debug)]
pub struct Event {
    /// Whose event it is.
    pub container: Key,
    /// When it happened.
    pub at: SystemTime,
    /// What happened.
    pub what: What,
}

/// What happened. Field for field these are `containerd.events.Task*`.
#[derive(Clone, Debug)]
pub enum What {
    /// `/tasks/create`
    Created(Box<Created>),
    /// `/tasks/start`
    Started {
        /// Init's pid.
        pid: u32,
    },
    /// `/tasks/oom`
    Oom,
    /// `/tasks/exit` of init (`exec_id` is none) or of an exec.
    Exited {
        /// The exec that ended; none for init.
        exec_id: Option<Arc<str>>,
        /// The pid it had.
        pid: u32,
        /// How it ended.
        exit: Exit,
    },
    /// `/tasks/delete`
    Deleted {
        /// The pid init had.
        pid: u32,
        /// How it ended.
        exit: Exit,
    },
    /// `/tasks/exec-added`
    ExecAdded {
        /// The exec's id.
        exec_id: Arc<str>,
    },
    /// `/tasks/exec-started`
    ExecStarted {
        /// The exec's id.
        exec_id: Arc<str>,
        /// Its pid.
        pid: u32,
    },
    /// `/tasks/paused`
    Paused,
    /// `/tasks/resumed`
    Resumed,
    /// `/tasks/checkpointed`
    Checkpointed {
        /// Where the checkpoint was written.
        path: String,
    },
}

/// The fields of `containerd.events.TaskCreate`.
#[derive(Clone, Debug)]
pub struct Created {
    /// The bundle's directory.
    pub bundle: String,
    /// What was mounted as the root file system.
    pub rootfs: Vec<Mount>,
    /// The URI of stdin, as requested.
    pub stdin: String,
    /// The URI of stdout, as requested.
    pub stdout: String,
    /// The URI of stderr, as requested.
    pub stderr: String,
    /// Whether a terminal was asked for.
    pub terminal: bool,
    /// The checkpoint restored from; empty if none.
    pub checkpoint: String,
    /// Init's pid; 0 for a restore that has not started.
    pub pid: u32,
}

/// Takes events. Never blocks, never fails: what cannot be delivered is the sink's to count.
pub trait EventSink: Send + Sync + 'static {
    /// Hands over one event.
    fn publish(&self, event: Event);
}
