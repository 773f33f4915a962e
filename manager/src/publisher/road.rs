//! By which connection events go: ttrpc if it can be had, else gRPC, else none, and when to try again.
//!
//! A round tries every socket that may be tried. Rounds that fail come at a pause that doubles, or at once when a socket
//! has changed on disk. A new connection carries one event until it has answered, so whoever does not serve events, or
//! stands still, gets one copy of one event and not of many.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Addresses;
use super::link::{Kind, Link};
use crate::containerd::{Identity, identity};

/// The first pause between rounds, and between looks at the sockets.
const SHORT: Duration = Duration::from_millis(100);
/// The longest pause between rounds.
const LONG: Duration = Duration::from_secs(2);
/// How soon ttrpc is tried again while gRPC carries the events.
const PREFER: Duration = Duration::from_secs(5);
/// How soon ttrpc is tried again after connections that broke or stood still without an answer.
const DOUBTED: Duration = Duration::from_secs(30);
/// How soon ttrpc is tried again after it did not serve events.
const UNSERVED: Duration = Duration::from_secs(600);
/// So many ttrpc connections in a row without an answer raise doubt.
const STRIKES: u32 = 3;
/// So many rounds fail before events go by the binary.
const STRANDED: u32 = 3;

/// A connection's number; none is given twice. 0 is none.
pub(super) type Number = u64;

/// The connection, and what is known of those before it.
#[derive(Debug)]
pub(super) struct Road {
    ttrpc: String,
    grpc: String,
    link: Option<Arc<Link>>,
    number: Number,
    /// Whether the connection has answered.
    proven: bool,
    /// When it last answered, or was made.
    heard: Instant,
    pause: Duration,
    /// No round before this.
    again: Instant,
    /// No ttrpc before this.
    ttrpc_again: Instant,
    strikes: u32,
    /// Rounds in a row that failed.
    failed: u32,
    /// When the sockets were last looked at, and what was seen when a round last failed.
    looked: Instant,
    sockets: [Option<Identity>; 2],
}

impl Road {
    pub(super) fn new(addresses: &Addresses, now: Instant) -> Self {
        Self {
            ttrpc: addresses.ttrpc.clone(),
            grpc: addresses.grpc.clone(),
            link: None,
            number: 0,
            proven: false,
            heard: now,
            pause: SHORT,
            again: now,
            ttrpc_again: now,
            strikes: 0,
            failed: 0,
            looked: now,
            sockets: [None; 2],
        }
    }

    /// The connection and its number, made if there is none and it is time; the error of a round that failed just now.
    pub(super) async fn open(&mut self) -> Result<Option<(Arc<Link>, Number)>, String> {
        let now = Instant::now();
        if self.link.as_ref().is_some_and(|link| link.is_closed()) {
            self.lost(self.number);
        }
        if let Some(link) = &self.link {
            if link.kind() == Kind::Grpc && self.may_ttrpc(now) {
                self.ttrpc_again = now + PREFER;
                if let Ok(better) = Link::connect(Kind::Ttrpc, &self.ttrpc).await {
                    self.take(better);
                }
            }
        } else if now >= self.again || self.sockets_changed(now) {
            self.round(now).await?;
        }
        Ok(self.link.as_ref().map(|link| (Arc::clone(link), self.number)))
    }

    async fn round(&mut self, now: Instant) -> Result<(), String> {
        let mut why = "no address to send events to".to_owned();
        let ttrpc = self.may_ttrpc(now);
        if ttrpc {
            match Link::connect(Kind::Ttrpc, &self.ttrpc).await {
                Ok(link) => {
                    self.take(link);
                    return Ok(());
                }
                Err(error) => why = error,
            }
        }
        // While containerd starts, ttrpc gets a moment to come first.
        if !self.grpc.is_empty() && (!ttrpc || self.failed > 0) {
            match Link::connect(Kind::Grpc, &self.grpc).await {
                Ok(link) => {
                    self.ttrpc_again = self.ttrpc_again.max(now + PREFER);
                    self.take(link);
                    return Ok(());
                }
                Err(error) => why = error,
            }
        }
        self.failed = self.failed.saturating_add(1);
        self.sockets = self.look();
        self.wait();
        Err(why)
    }

    fn may_ttrpc(&self, now: Instant) -> bool {
        !self.ttrpc.is_empty() && now >= self.ttrpc_again
    }

    fn take(&mut self, link: Link) {
        tracing::debug!(transport = link.kind().name(), "connected to containerd for events");
        self.link = Some(Arc::new(link));
        self.number += 1;
        self.proven = false;
        self.heard = Instant::now();
        self.failed = 0;
    }

    /// The next round comes after a pause, the one after that after a longer one.
    fn wait(&mut self) {
        self.again = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONG);
    }

    /// The connection `number` has answered, whatever it said.
    pub(super) fn answered(&mut self, number: Number) {
        if self.number == number && self.link.is_some() {
            self.proven = true;
            self.heard = Instant::now();
            self.pause = SHORT;
            self.strikes = 0;
        }
    }

    /// The connection `number` is gone.
    pub(super) fn lost(&mut self, number: Number) {
        let Some(link) = self.link.take_if(|_| self.number == number) else { return };
        link.give_up();
        if self.proven {
            self.again = Instant::now();
        } else {
            self.strike(link.kind());
            self.wait();
        }
    }

    /// An event on the connection `number` has had no answer for `patience`. If it had nothing else to say either, the
    /// connection is given up.
    pub(super) fn silent(&mut self, number: Number, patience: Duration) {
        if self.heard.elapsed() >= patience {
            self.proven = false;
            self.lost(number);
        }
    }

    /// Whoever answers on the connection `number` does not serve events. Whether they may go another way.
    pub(super) fn unserved(&mut self, number: Number) -> bool {
        let Some(link) = self.link.take_if(|_| self.number == number) else { return true };
        if link.kind() == Kind::Grpc || self.grpc.is_empty() {
            self.link = Some(link);
            self.answered(number);
            return false;
        }
        self.ttrpc_again = Instant::now() + UNSERVED;
        self.again = Instant::now();
        true
    }

    /// The next round shall come soon.
    pub(super) fn hasten(&mut self) {
        self.again = self.again.min(Instant::now() + SHORT);
    }

    fn strike(&mut self, kind: Kind) {
        if kind == Kind::Ttrpc {
            self.strikes += 1;
            if self.strikes >= STRIKES {
                self.strikes = 0;
                self.ttrpc_again = Instant::now() + DOUBTED;
            }
        }
    }

    /// How many events may be in flight on the connection, of `most`.
    pub(super) fn window(&self, most: usize) -> usize {
        if self.proven { most } else { 1 }
    }

    /// When to ask again while there is no connection; none if there is one.
    pub(super) fn due(&self) -> Option<Instant> {
        self.link.is_none().then(|| self.again.min(Instant::now() + SHORT))
    }

    /// Whether no socket could be connected to for a while.
    pub(super) fn is_stranded(&self) -> bool {
        self.link.is_none() && self.failed >= STRANDED
    }

    /// How many rounds in a row have failed.
    pub(super) fn failed(&self) -> u32 {
        self.failed
    }

    /// What events go by.
    pub(super) fn transport(&self) -> &'static str {
        self.link.as_ref().map_or("none", |link| link.kind().name())
    }

    /// Whether a socket has come, gone or been replaced since a round last failed. The pauses begin anew then: a socket
    /// exists a moment before it can be connected to.
    fn sockets_changed(&mut self, now: Instant) -> bool {
        if self.failed == 0 || now < self.looked + SHORT {
            return false;
        }
        self.looked = now;
        let changed = self.look() != self.sockets;
        if changed {
            self.pause = SHORT;
        }
        changed
    }

    fn look(&self) -> [Option<Identity>; 2] {
        [&self.ttrpc, &self.grpc].map(|address| identity(address))
    }
}
