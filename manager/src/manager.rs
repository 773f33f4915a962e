//! What a manager holds, and the few things that concern more than one of its containers.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use gam_task::container::{Container, ContainerError, Host, Status};
use gam_task::doing;
use gam_task::exit::Exit;
use gam_task::id::Key;
use gam_task::record;
use gam_task::state::Refusal;

use crate::config::TaskApi;
use crate::containerd::Known;
use crate::containers::{Containers, Slot, Tombstone};
use crate::control::Answer;
use crate::feed::Feed;
use crate::group::Group;
use crate::kept;
use crate::leases::Leases;
use crate::logs::Logs;
use crate::metrics::Metrics;
use crate::options::Named;
use crate::publisher::Publisher;
use crate::serve::sockets::Sockets;
use crate::server::{Calls, ConnectionId};

/// How long a container that is to be destroyed may be in a state in which it cannot be.
const TRANSITION: Duration = Duration::from_secs(60);

/// A manager at work.
pub struct Manager {
    /// Which group it serves.
    pub group: Group,
    /// Its containers.
    pub containers: Arc<Containers>,
    /// The containers that it has been told to expect.
    pub leases: Leases,
    /// What they share.
    pub host: Arc<Host>,
    /// Where their lines go.
    pub logs: Logs,
    /// What it listens on.
    pub sockets: Sockets,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// When it started.
    pub started: SystemTime,
    /// Tells its events to containerd and to operators.
    pub feed: Arc<Feed>,
    /// The requests that are at work.
    pub calls: Arc<Calls>,
    /// Takes events to containerd.
    pub publisher: Arc<Publisher>,
    /// What is known of the containerd that it serves.
    pub containerd: Arc<Known>,
    /// Which Task service containerd is told to call.
    pub task_api: TaskApi,
    /// The options of containers whose own do not name them.
    pub runtime: Named,
    /// Whether Shutdown has come when no container was there.
    pub shut: AtomicBool,
}

impl Manager {
    /// A container is about to be created: its lines go to its bundle's log, and its bundle says where it is served.
    pub fn welcome(&self, key: &Key, bundle: &Path) {
        self.shut.store(false, Ordering::SeqCst);
        self.logs.add(key, bundle);
        if let Some(address) = self.sockets.address(&key.namespace) {
            missing(&bundle.join("address"), address.as_bytes(), 0o644);
        }
        if let Ok(binary) = std::env::current_exe() {
            missing(&bundle.join("shim-binary-path"), in_place(&binary), 0o600);
        }
    }

    /// No `start` has announced a container of a pod that is about to be made, so no `delete` will be run for it: the one of its
    /// sandbox will look for its record.
    pub fn expect_record(&self, key: &Key, sandbox: &str) {
        if *sandbox == *key.id {
            return;
        }
        if let Err(error) = kept::expect(&self.host.group, key, sandbox) {
            tracing::warn!(container = %key, %error, "its sandbox's delete will not look for its record");
        }
    }

    /// Such a container has been made: its record is kept, whatever becomes of its bundle.
    pub fn keep_record(&self, container: &Container) {
        let Some(sandbox) = container.sandbox().filter(|sandbox| *sandbox != &*container.key().id) else {
            return;
        };
        if let Err(error) = kept::keep(&self.host.group, container.key(), sandbox, container.bundle()) {
            tracing::warn!(container = %container.key(), %error, "its record is in its bundle alone");
        }
    }

    /// A container has been deleted: its record is of no use any more.
    pub fn forget_record(&self, container: &Container) {
        if let Some(sandbox) = container.sandbox() {
            kept::forget(&self.host.group, container.key(), sandbox);
        }
    }

    /// A container has left, or never came to be.
    pub fn farewell(&self, key: &Key) {
        self.logs.remove(key);
    }

    /// Deletes a container, and remembers the answer for whoever asks again.
    ///
    /// # Errors
    /// Those of [`Container::delete`].
    pub async fn delete(
        &self,
        container: &Arc<Container>,
        connection: ConnectionId,
    ) -> Result<(u32, Exit), ContainerError> {
        let (pid, exit) = container.delete().await?;
        self.forget_record(container);
        let streams = container.report(None)?.streams;
        let tombstone = Tombstone::new(pid, exit, container.bundle().to_path_buf(), streams, connection);
        // As long as the id is taken, its log is this container's.
        self.farewell(container.key());
        self.containers.bury(container, tombstone);
        Ok((pid, exit))
    }

    /// Deletes a container whatever its state, as containerd's `delete` command wants it, if it is the one whose init was
    /// recorded as `pid`.
    ///
    /// # Errors
    /// Those of [`Container::delete`].
    pub async fn destroy(&self, key: &Key, pid: u32) -> Result<Answer, ContainerError> {
        match self.containers.slot(key) {
            Some(Slot::Live(container)) if container.pid() != pid => Ok(Answer::Another),
            Some(Slot::Creating(_)) if pid != 0 => Ok(Answer::Another),
            Some(Slot::Deleted(tombstone)) => {
                Ok(Answer::Deleted { pid: tombstone.pid, exit: tombstone.exit })
            }
            Some(Slot::Creating(creation)) => {
                creation.abandon();
                let _step = doing::step("its creation to be undone");
                creation.ended().await;
                Ok(Answer::Unknown)
            }
            Some(Slot::Live(container)) => {
                let since = Instant::now();
                loop {
                    let ended = self.end(&container).await;
                    let deleted = match ended {
                        Ok(()) => self.delete(&container, 0).await,
                        Err(error) => Err(error),
                    };
                    match deleted {
                        // It is being started, say, and will soon be something that can be ended.
                        Err(ContainerError::Refused(_)) if since.elapsed() < TRANSITION => {
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                        other => return other.map(|(pid, exit)| Answer::Deleted { pid, exit }),
                    }
                }
            }
            None => {
                let _ = self.leases.end(key);
                Ok(Answer::Unknown)
            }
        }
    }

    /// Kills a container that lives and waits for its end.
    async fn end(&self, container: &Arc<Container>) -> Result<(), ContainerError> {
        if matches!(container.status(), Status::Stopped | Status::Created) {
            return Ok(());
        }
        match container.kill(9, false).await {
            Ok(()) | Err(ContainerError::Refused(Refusal::Finished)) => {}
            Err(error) => return Err(error),
        }
        container.wait(None).await.map(drop)
    }

    /// Nobody needs to know of an id any more (D3: any number of times; with containers there it means nothing else).
    pub fn shutdown(&self, key: &Key) {
        self.containers.forget(key);
        let _ = self.leases.end(key);
        if self.containers.members() == 0 {
            self.shut.store(true, Ordering::SeqCst);
        }
    }
}

/// Where a binary is found: the kernel marks one that has been replaced since (H10), and containerd would look for the
/// mark as a part of the name, find nothing, and give up the container.
fn in_place(binary: &Path) -> &[u8] {
    let path = binary.as_os_str().as_bytes();
    path.strip_suffix(b" (deleted)").unwrap_or(path)
}

/// Writes a file of a bundle unless it is there: containerd, or `start`, has written it then.
fn missing(path: &Path, content: &[u8], mode: u32) {
    if !path.exists()
        && let Err(error) = record::replace(path, content, mode)
    {
        tracing::warn!(path = %path.display(), %error, "a bundle lacks a file that a restart of containerd reads");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h10_a_binary_that_was_replaced_is_named_by_its_place() {
        assert_eq!(in_place(Path::new("/usr/bin/gam (deleted)")), b"/usr/bin/gam");
        assert_eq!(in_place(Path::new("/usr/bin/gam")), b"/usr/bin/gam");
    }
}
