//! Reaping the children that nobody waits for.

use std::io;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::time::{MissedTickBehavior, interval};

use super::census::Census;
use super::claims::{claims, nudged};
use crate::sys::proc;
use crate::sys::wait::{self, Which};

/// How long a sweep waits after SIGCHLD, so that owners reap theirs first and one sweep serves many exits.
const SETTLE: Duration = Duration::from_millis(5);

/// How often the children are counted, and swept even if nothing was signalled.
const COUNT: Duration = Duration::from_secs(15);

/// Sweeps for ever.
pub(super) async fn run(mut ends: Signal, mut census: Census) {
    let mut ticks = interval(COUNT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let count = tokio::select! {
            _ = ends.recv() => false,
            () = nudged() => false,
            _ = ticks.tick() => true,
        };
        tokio::time::sleep(SETTLE).await;
        match sweep() {
            Ok(swept) => {
                census.swept(&swept.reaped);
                if count || swept.waiting > 0 || census.has_zombies() {
                    census.count();
                }
            }
            Err(error) => tracing::error!(%error, "cannot sweep orphans"),
        }
    }
}

/// What a sweep did.
#[derive(Debug, Default)]
struct Swept {
    /// The orphans that were reaped.
    reaped: Vec<i32>,
    /// How many others wait for a hold to be dropped.
    waiting: usize,
}

/// Reaps every orphan that may be reaped.
fn sweep() -> io::Result<Swept> {
    if !any_zombie()? {
        return Ok(Swept::default());
    }
    // The kernel shows the first zombie again and again, so they are found one by one. A child that is missing in the
    // list ended just now, and has signalled.
    let children = proc::children()?;
    let mut claims = claims();
    let mut reaped = Vec::new();
    for pid in children {
        if claims.owns(pid) || !matches!(wait::peek(Which::Pid(pid)), Ok(Some(_))) {
            continue;
        }
        if claims.may_reap(pid) {
            claims.reaped(pid);
            if let Ok(Some(_)) = wait::reap(Which::Pid(pid)) {
                reaped.push(pid);
            }
        }
    }
    Ok(Swept { reaped, waiting: claims.waiting() })
}

fn any_zombie() -> io::Result<bool> {
    match wait::peek(Which::Any) {
        Ok(first) => Ok(first.is_some()),
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(false),
        Err(error) => Err(error),
    }
}
