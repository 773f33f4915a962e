//! What is remembered of a container that has been deleted.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use gam_task::exit::Exit;
use gam_task::record::StreamNames;

use crate::server::ConnectionId;

/// How long it is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);

/// The answers that are given again.
#[derive(Debug)]
pub struct Tombstone {
    /// Init's pid.
    pub pid: u32,
    /// How it ended.
    pub exit: Exit,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Its streams.
    pub streams: StreamNames,
    /// The connection that deleted it.
    pub connection: ConnectionId,
    since: Instant,
}

impl Tombstone {
    /// Remembers from now on.
    #[must_use]
    pub fn new(
        pid: u32,
        exit: Exit,
        bundle: PathBuf,
        streams: StreamNames,
        connection: ConnectionId,
    ) -> Self {
        Self { pid, exit, bundle, streams, connection, since: Instant::now() }
    }

    /// Whether it need not be remembered any more.
    #[must_use]
    pub fn is_old(&self) -> bool {
        self.since.elapsed() > REMEMBERED
    }
}
