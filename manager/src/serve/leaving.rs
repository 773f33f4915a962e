//! When a manager leaves, and how: nothing of its group is left, and nobody is told an address that dies.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::config::{Config, Grouping};
use crate::group::{Group, Lock};
use crate::manager::Manager;

/// How often a manager without containers looks whether it may leave.
const LOOK: Duration = Duration::from_millis(100);
/// How long requests at work may take to end.
const REQUESTS: Duration = Duration::from_secs(5);
/// How long the last events may take (F7).
const EVENTS: Duration = Duration::from_secs(5);

/// Waits until the manager may leave: it has had no container and expects none for as long as it lingers, or in a pod's
/// group Shutdown has come, and its events have been taken or have waited long enough. Gives the group's lock, under
/// which nobody can join.
pub(super) async fn wait(manager: &Arc<Manager>, config: &Config, group: &Group) -> Lock {
    let mut since = Instant::now();
    loop {
        if manager.containers.members() > 0 {
            manager.containers.left().await;
            since = Instant::now();
            continue;
        }
        tokio::time::sleep(LOOK).await;
        if is_idle(manager, config, since)
            && let Ok(Some(lock)) = Lock::try_take(group)
        {
            // Whoever had the lock until now may have joined.
            if is_idle(manager, config, since) {
                return lock;
            }
        }
        if manager.leases.live() > 0 {
            since = Instant::now();
        }
    }
}

fn is_idle(manager: &Manager, config: &Config, since: Instant) -> bool {
    if manager.containers.members() > 0 || manager.leases.live() > 0 {
        return false;
    }
    let at_once = config.grouping == Grouping::Pod && manager.shut.load(Ordering::SeqCst);
    let lingered = at_once || since.elapsed() >= config.linger;
    let delivered = manager.publisher.pending() == 0 || since.elapsed() >= config.events.patience;
    lingered && delivered
}

/// Leaves.
pub(super) async fn leave(manager: &Arc<Manager>, group: &Group, lock: &Lock) {
    tracing::info!(group = group.name, "leaving");
    manager.sockets.close(REQUESTS).await;
    manager.publisher.stop(EVENTS).await;
    group.remove(lock);
}

/// Ends because a signal says so (D18): requests at work end, events that wait are flushed. Containers live on; containerd
/// sees the connections close and cleans up.
pub(super) async fn stop(manager: &Arc<Manager>, group: &Group) {
    tracing::warn!(group = group.name, containers = manager.containers.members(), "stopping");
    // Nobody is told any more that this manager sees to a container: `delete`s that come now clean up themselves.
    let _ = std::fs::remove_file(group.control_socket());
    manager.sockets.close(Duration::from_secs(1)).await;
    // containerd tells of these ends itself when it sees the connections close.
    manager.publisher.stop_leaving_exits(EVENTS).await;
    if let Ok(Some(lock)) = Lock::try_take(group)
        && is_ours(group)
    {
        group.remove(&lock);
    }
}

/// Whether the group's directory is still this manager's, and not that of one that was started meanwhile.
fn is_ours(group: &Group) -> bool {
    std::fs::read_to_string(group.pid_file()).is_ok_and(|text| text.trim() == std::process::id().to_string())
}
