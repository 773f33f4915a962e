//! One process of a container, init or exec, as the container holds it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::watch;

use crate::doing;
use crate::exit::Exit;
use crate::process::Process;
use crate::record::{ProcessName, StreamNames};
use crate::stdio::{DRAIN_LIMIT, Plan, StdinCloser, Streams};
use crate::tenant::Taken;

/// A process that was asked for, from the request to its deletion.
pub(super) struct Member {
    /// Its streams as requested.
    pub(super) names: StreamNames,
    /// The same, understood.
    pub(super) plan: Plan,
    /// Remembers that its input is to be closed, also before it is open (C5).
    pub(super) closer: StdinCloser,
    /// How it ended, once that has been announced. Those who wait, wait on this.
    pub(super) ended: watch::Sender<Option<Exit>>,
    process: OnceLock<Arc<Process>>,
    streams: Mutex<Option<Arc<Streams>>>,
    /// An exec's spec, until it is started.
    pub(super) spec: Mutex<Option<Vec<u8>>>,
    /// That an exec counts as one of its tenant's.
    taken: Mutex<Option<Taken>>,
}

impl Member {
    /// A container's init.
    pub(super) fn init(names: StreamNames, plan: Plan) -> Arc<Self> {
        Arc::new(Self::new(names, plan))
    }

    /// An exec, which counts as one of its tenant's until its streams are let go of.
    pub(super) fn exec(names: StreamNames, plan: Plan, spec: Vec<u8>, taken: Taken) -> Arc<Self> {
        let (spec, taken) = (Mutex::new(Some(spec)), Mutex::new(Some(taken)));
        Arc::new(Self { spec, taken, ..Self::new(names, plan) })
    }

    fn new(names: StreamNames, plan: Plan) -> Self {
        Self {
            names,
            plan,
            closer: StdinCloser::new(),
            ended: watch::Sender::new(None),
            process: OnceLock::new(),
            streams: Mutex::new(None),
            spec: Mutex::default(),
            taken: Mutex::default(),
        }
    }

    /// Gives it the process and the streams that its start made.
    pub(super) fn begin(&self, process: &Arc<Process>, streams: Streams) {
        let _ = self.process.set(Arc::clone(process));
        *self.streams.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(streams));
    }

    pub(super) fn process(&self) -> Option<&Arc<Process>> {
        self.process.get()
    }

    /// What a record says of its process.
    pub(super) fn name(&self) -> Option<ProcessName> {
        self.process().map(|process| ProcessName { pid: process.pid(), start_time: process.start_time() })
    }

    pub(super) fn streams(&self) -> Option<Arc<Streams>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until what it printed has been delivered, or for as long as that may take (C1, C2).
    pub(super) async fn drained(&self) {
        if let Some(streams) = self.streams() {
            let _step = doing::step("what it printed to be delivered");
            streams.drained(DRAIN_LIMIT).await;
        }
    }

    /// Lets go of its streams (C10): it has been deleted.
    pub(super) fn close(&self) {
        drop(self.taken.lock().unwrap_or_else(PoisonError::into_inner).take());
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(streams) = streams {
            streams.close();
        }
    }
}
