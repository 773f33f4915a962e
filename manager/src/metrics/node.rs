//! The node's metrics: one address for the managers of all groups.
//!
//! Whichever manager is first has the address; the others try for it several times a second, so that one has it soon when the
//! first ends in whatever way. Who has it answers with its own metrics and with those that it reads from the other groups'
//! sockets. Every sample gets the labels `group`, the group's name, and `group_id`, the beginning of the name of its
//! directory: two builds of one group are at work for a while after an upgrade.

mod claim;
mod fetch;
pub(super) mod merge;
mod page;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::{IntCounter, IntGauge, TextEncoder};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::claim::{Attempt, attempt};
use self::fetch::{Fetched, fetch};
use self::merge::{Source, merge};
use super::families::Families;
use super::http::{self, Content, Limits};
use super::listener::{Address, Listener};
use super::{Metrics, MetricsError, clamped};
use crate::group::Group;

/// How often the address is tried for.
const AGAIN: Duration = Duration::from_millis(400);
/// How often it is said that somebody else has it.
const WARNING: Duration = Duration::from_secs(60);
/// How many groups are read at once.
const AT_ONCE: usize = 32;
/// How much text of all groups is taken, in bytes.
const MOST: usize = 64 << 20;

/// What the address is answered from.
pub struct Node {
    name: String,
    directory: PathBuf,
    metrics: Arc<Metrics>,
    own: Own,
    /// One scrape at a time: its texts are in memory.
    scraping: tokio::sync::Mutex<()>,
}

/// What is told of the node, without a group.
struct Own {
    families: Families,
    failures: IntCounter,
    managers: IntGauge,
    dead: IntGauge,
}

impl Own {
    fn new() -> prometheus::Result<Self> {
        let mut families = Families::default();
        Ok(Self {
            failures: families.counter(
                "gam_node_scrape_failures_total",
                "Groups whose metrics could not be read, or not understood, at a scrape of the node.",
            )?,
            managers: families.gauge("gam_node_managers", "Managers that told their metrics.")?,
            dead: families.gauge("gam_groups_dead", "Directories of groups without a living manager.")?,
            families,
        })
    }
}

impl Node {
    /// The groups beside `group`, whose own metrics are `metrics`.
    ///
    /// # Errors
    /// [`MetricsError::Make`] would be a fault in this file.
    pub fn new(group: &Group, metrics: Arc<Metrics>) -> Result<Self, MetricsError> {
        Ok(Self {
            name: group.name.clone(),
            directory: group.directory.clone(),
            metrics,
            own: Own::new().map_err(MetricsError::Make)?,
            scraping: tokio::sync::Mutex::default(),
        })
    }

    /// Where the groups' directories are.
    fn run(&self) -> &Path {
        self.directory.parent().unwrap_or(Path::new("/"))
    }

    /// Reads all groups, and writes their metrics in Prometheus's text format, each family once.
    ///
    /// # Errors
    /// [`MetricsError::Encode`]
    pub(super) async fn scrape(&self) -> Result<String, MetricsError> {
        let _scraping = self.scraping.lock().await;
        let mut sources = vec![Source::new(&self.name, &self.directory, self.metrics.scrape()?)];
        let (mut failures, mut dead, mut bytes) = (0, 0, 0);
        for (directory, fetched) in self.fetch_others().await {
            match fetched {
                Ok(Fetched::Page { name, text }) if bytes + text.len() <= MOST => {
                    bytes += text.len();
                    sources.push(Source::new(&name, &directory, text));
                }
                Ok(Fetched::Page { .. }) => {
                    tracing::debug!(directory = %directory.display(), "too much text of too many groups");
                    failures += 1;
                }
                Ok(Fetched::Nothing) => {}
                Ok(Fetched::Dead) => dead += 1,
                Err(error) => {
                    tracing::debug!(%error, "a group's metrics are left out");
                    failures += 1;
                }
            }
        }
        let merged = merge(&sources);
        for error in &merged.refused {
            tracing::debug!(%error, "a group's metrics are left out");
        }
        self.own.failures.inc_by(failures + merged.refused.len() as u64);
        self.own.managers.set(clamped(sources.len() - merged.refused.len()));
        self.own.dead.set(dead);
        let mut text = merged.text;
        let own = self.own.families.registry.gather();
        TextEncoder::new().encode_utf8(&own, &mut text).map_err(MetricsError::Encode)?;
        Ok(text)
    }

    async fn fetch_others(&self) -> Vec<(PathBuf, Result<Fetched, fetch::FetchError>)> {
        let free = Arc::new(Semaphore::new(AT_ONCE));
        let mut reading = JoinSet::new();
        for directory in groups(self.run()).into_iter().filter(|directory| *directory != self.directory) {
            let free = Arc::clone(&free);
            reading.spawn(async move {
                let _permit = free.acquire().await;
                let fetched = fetch(&directory).await;
                (directory, fetched)
            });
        }
        let mut fetched = reading.join_all().await;
        // In an order that does not depend on who was quick.
        fetched.sort_by(|(a, _), (b, _)| a.cmp(b));
        fetched
    }
}

/// The directories of groups in `run`.
fn groups(run: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(run).into_iter().flatten().flatten();
    // Those with a dot are kept records, not groups.
    let is_group = |entry: &fs::DirEntry| {
        !entry.file_name().as_encoded_bytes().contains(&b'.')
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
    };
    entries.filter(is_group).map(|entry| entry.path()).collect()
}

/// Takes the address as soon as no other manager has it, and serves the node there for ever.
pub(super) async fn hold(address: &Address, node: &Arc<Node>, limits: Limits) {
    let mut warned: Option<Instant> = None;
    let mut theirs = false;
    loop {
        match attempt(address, node.run()).and_then(registered) {
            // One value, whose parts go in this order: the socket before the lock.
            Ok(Some(held)) => {
                tracing::info!(%address, "serving the metrics of the node");
                return http::accept(&held.0, &Content::Node(Arc::clone(node)), limits).await;
            }
            Ok(None) => {
                if !std::mem::replace(&mut theirs, true) {
                    tracing::debug!(%address, "another manager serves the metrics of the node");
                }
            }
            Err(error) => {
                theirs = false;
                if warned.is_none_or(|at| at.elapsed() >= WARNING) {
                    tracing::warn!(%address, %error, "cannot serve the metrics of the node");
                    warned = Some(Instant::now());
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The listener of what was taken, in the runtime that calls this; none where another manager has it.
fn registered(attempt: Attempt) -> io::Result<Option<(Listener, claim::Lock)>> {
    match attempt {
        Attempt::Ours(bound, lock) => Ok(Some((Listener::register(bound)?, lock))),
        Attempt::Theirs => Ok(None),
    }
}

#[cfg(test)]
mod tests;
