//! What containerd dials: a socket for each containerd namespace, because containerd 1.6 does not say in its calls which
//! namespace they are for.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gam_protos::services;
use gam_protos::task::Task;
use gam_task::record;
use tokio::net::UnixListener;

use crate::bootstrap;
use crate::group::Group;
use crate::manager::Manager;
use crate::serve::observer::Observed;
use crate::server::Server;
use crate::service::task::TaskService;

/// The sockets of a manager.
pub struct Sockets {
    group: Group,
    /// The containerd whose namespaces these are.
    containerd: String,
    open: Mutex<BTreeMap<Arc<str>, Socket>>,
}

struct Socket {
    path: PathBuf,
    server: Arc<Server>,
}

/// Why a namespace cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The path cannot be made.
    #[error(transparent)]
    Path(#[from] bootstrap::BootstrapError),
    /// The kernel refused.
    #[error("cannot listen on {path}: {source}")]
    Listen {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Sockets {
    /// No socket yet.
    #[must_use]
    pub fn new(group: Group, containerd: String) -> Self {
        Self { group, containerd, open: Mutex::default() }
    }

    fn open_sockets(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Socket>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves a containerd namespace from now on, and answers its address.
    ///
    /// # Errors
    /// [`SocketError`] if it cannot be listened on.
    pub fn open(
        &self,
        manager: &Arc<Manager>,
        namespace: &Arc<str>,
        socket_dir: Option<&str>,
    ) -> Result<String, SocketError> {
        let mut open = self.open_sockets();
        if let Some(socket) = open.get(namespace) {
            return Ok(address(&socket.path));
        }
        let path = bootstrap::socket_path(&self.containerd, &self.group.socket_key(namespace), socket_dir)?;
        let listener = listen(&path).map_err(|source| SocketError::Listen { path: path.clone(), source })?;
        let task: Arc<dyn Task + Send + Sync> =
            Arc::new(TaskService::new(Arc::clone(manager), Arc::clone(namespace)));
        let observer = Arc::new(Observed(Arc::clone(manager)));
        let server = Server::start(listener, services::task(&task), observer, Arc::clone(&manager.calls));
        let answer = address(&path);
        open.insert(Arc::clone(namespace), Socket { path, server: Arc::new(server) });
        self.list(&open);
        Ok(answer)
    }

    /// Writes down which sockets there are, for whoever cleans up after a manager that was killed.
    fn list(&self, open: &BTreeMap<Arc<str>, Socket>) {
        let lines: String = open.values().map(|socket| format!("{}\n", socket.path.display())).collect();
        let file = self.group.sockets_file();
        if let Err(error) = record::replace(&file, lines.as_bytes(), 0o600) {
            tracing::warn!(path = %file.display(), %error, "the list of sockets is not written");
        }
    }

    /// The address of a namespace that is served.
    #[must_use]
    pub fn address(&self, namespace: &str) -> Option<String> {
        self.open_sockets().get(namespace).map(|socket| address(&socket.path))
    }

    /// Listens no more, lets what is at work end for as long as `patience`, and closes every connection.
    pub async fn close(&self, patience: Duration) {
        let sockets = std::mem::take(&mut *self.open_sockets());
        for socket in sockets.values() {
            let _ = fs::remove_file(&socket.path);
        }
        for socket in sockets.into_values() {
            socket.server.stop(patience).await;
        }
    }
}

fn address(path: &Path) -> String {
    format!("unix://{}", path.display())
}

/// Listens on a path whose directory is made if it is missing. A file that is there already is of a manager that died
/// (D8): the group's lock keeps two managers from one path.
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}
