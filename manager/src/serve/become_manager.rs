//! What a process does to become a manager, and how it tells the `start` that waits for it.

use std::fs::File;
use std::io::Write as _;

use gam_task::sys::{daemon, inherit};

use super::ServeError;
use crate::start::{READY, READY_FD};

/// The `start` that waits.
pub(super) struct Starter(Option<File>);

impl Starter {
    /// Takes the descriptor on which it waits; none if a person started this manager.
    pub(super) fn take() -> Self {
        Self(daemon::passed(READY_FD).ok().map(File::from))
    }

    /// Tells it that the manager serves.
    pub(super) fn ready(&mut self) {
        self.tell(READY);
    }

    /// Tells it why the manager does not serve.
    pub(super) fn failed(&mut self, error: &ServeError) {
        if self.0.is_none() {
            eprintln!("gam manager: {error}");
        }
        self.tell(&error.to_string());
    }

    fn tell(&mut self, text: &str) {
        if let Some(mut file) = self.0.take() {
            let _ = file.write_all(text.as_bytes());
        }
    }
}

/// Leaves what it inherited behind, and takes what it needs: no session, directory, descriptor or mask of its starter; as
/// many files as it may have open; no huge pages; and one point likelier to be killed for lack of memory (E13).
pub(super) fn settle() -> Result<(), ServeError> {
    daemon::close_on_exec_all().map_err(ServeError::kernel("keep descriptors to itself"))?;
    daemon::settle().map_err(ServeError::kernel("leave its directory"))?;
    daemon::null_stdio().map_err(ServeError::kernel("leave its standard streams"))?;
    daemon::ignore_sigpipe().map_err(ServeError::kernel("ignore SIGPIPE"))?;
    // A panic is caught and answered; a backtrace would cost 35 MiB that never come back.
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    // These three are wishes: the manager serves without them.
    if let Err(error) = inherit::raise_nofile() {
        tracing::warn!(%error, "the limit of open files is not raised");
    }
    if let Err(error) = inherit::disable_huge_pages() {
        tracing::debug!(%error, "huge pages are not disabled");
    }
    if let Err(error) = inherit::raise_oom_score_adj() {
        tracing::debug!(%error, "oom_score_adj is not raised");
    }
    Ok(())
}
