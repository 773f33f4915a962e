//! What gam changes of itself, and gives its children as it was.
//!
//! Three attributes of a process go to its children: the switch for transparent huge pages, `oom_score_adj` and the
//! limit of open files. gam changes all three of itself, and no runtime command and no container may see that
//! (BEHAVIOUR I5, E13).
//!
//! The first two are put back round a spawn ([`Lent`]): a child of posix_spawn takes them over at clone and exec, both of
//! which are over when posix_spawn answers. For that fraction of a millisecond gam itself has them too, which costs
//! nothing. Spawns overlap: the first puts back, the last takes away, and none waits for another's exec.
//!
//! The limit of open files cannot be lent: gam would get EMFILE meanwhile. It is set in the child with prlimit(2) as
//! soon as posix_spawn answers. The child is executing by then, so there is a race. It is of microseconds against the
//! start of a program, and what matters is what the container's process inherits from the runtime, which the runtime
//! forks milliseconds later. A Go program reads the limit when it starts and raises soft to hard if they differ; it
//! passes the first reading to its children. Here soft equals hard (see [`raise_nofile`]), so it finds nothing to raise
//! and nothing to put back, whichever comes first.

use std::fs;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use rustix::thread::disable_transparent_huge_pages;

const OOM_SCORE_ADJ: &str = "/proc/self/oom_score_adj";
const OOM_SCORE_ADJ_MAX: i32 = 1000;

/// What was changed, as it was before.
struct Changed {
    huge_pages: bool,
    oom_score_adj: Option<Score>,
    nofile: Option<Rlimit>,
    lent: usize,
}

#[derive(Clone, Copy)]
struct Score {
    before: i32,
    own: i32,
}

static CHANGED: Mutex<Changed> =
    Mutex::new(Changed { huge_pages: false, oom_score_adj: None, nofile: None, lent: 0 });

fn changed() -> MutexGuard<'static, Changed> {
    CHANGED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the kernel from backing gam's memory with huge pages (`PR_SET_THP_DISABLE`), which inflate it.
///
/// # Errors
/// What prctl(2) answers.
pub fn disable_huge_pages() -> io::Result<()> {
    let mut changed = changed();
    disable_transparent_huge_pages(true)?;
    changed.huge_pages = true;
    Ok(())
}

/// Makes gam one point likelier to be killed for lack of memory than the process that started it, and 1000 at most.
/// Answers the new value. A second call changes nothing.
///
/// # Errors
/// If `/proc/self/oom_score_adj` cannot be read, understood or written.
pub fn raise_oom_score_adj() -> io::Result<i32> {
    let mut changed = changed();
    if let Some(score) = changed.oom_score_adj {
        return Ok(score.own);
    }
    let text = fs::read_to_string(OOM_SCORE_ADJ)?;
    let before: i32 =
        text.trim().parse().map_err(|source| io::Error::new(io::ErrorKind::InvalidData, source))?;
    let own = before.saturating_add(1).min(OOM_SCORE_ADJ_MAX);
    fs::write(OOM_SCORE_ADJ, own.to_string())?;
    changed.oom_score_adj = Some(Score { before, own });
    Ok(own)
}

/// Raises the soft limit of open files to the hard one. Answers the limit as it was first, which children get.
///
/// # Errors
/// What setrlimit(2) answers.
pub fn raise_nofile() -> io::Result<Rlimit> {
    let mut changed = changed();
    if let Some(before) = changed.nofile {
        return Ok(before);
    }
    let before = getrlimit(Resource::Nofile);
    if before.current != before.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: before.maximum, maximum: before.maximum })?;
        changed.nofile = Some(before);
    }
    Ok(before)
}

/// While it lives, a child that is made inherits huge pages and `oom_score_adj` as they were before gam changed them.
#[derive(Debug)]
#[must_use]
pub(super) struct Lent(());

impl Lent {
    /// Puts back what children inherit. What fails is left as it is: a child with the wrong score is better than none.
    pub(super) fn lend() -> Self {
        let mut changed = changed();
        if changed.lent == 0 {
            changed.apply(false);
        }
        changed.lent = changed.lent.saturating_add(1);
        Self(())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut changed = changed();
        changed.lent = changed.lent.saturating_sub(1);
        if changed.lent == 0 {
            changed.apply(true);
        }
    }
}

impl Changed {
    /// Sets gam's own values, or those of its children.
    fn apply(&self, own: bool) {
        if self.huge_pages
            && let Err(error) = disable_transparent_huge_pages(own)
        {
            tracing::debug!(%error, own, "cannot switch huge pages");
        }
        if let Some(score) = self.oom_score_adj {
            let value = if own { score.own } else { score.before };
            if let Err(error) = fs::write(OOM_SCORE_ADJ, value.to_string()) {
                tracing::debug!(%error, value, "cannot write oom_score_adj");
            }
        }
    }
}

/// Gives a child that was just made the limit of open files that gam had at first.
pub(super) fn give_nofile(pid: i32) {
    let Some(before) = changed().nofile else { return };
    if let Some(child) = Pid::from_raw(pid)
        && let Err(error) = prlimit(Some(child), Resource::Nofile, before)
    {
        tracing::debug!(%error, pid, "cannot restore the limit of open files of a child");
    }
}
