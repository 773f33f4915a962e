//! What a process reads.

use std::future::pending;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::sync::watch;

use super::fifo::Inlet;
use super::meter::Meter;
use super::phase::{Phase, Phases};
use super::report::Report;
use super::{pump, terminal};
use crate::sys::polled::Polled;
use crate::telemetry::Stream;

/// Ends a process's stdin when a client asks for it (CloseIO). It may be asked before the stdin is open, and then is
/// remembered (BEHAVIOUR C5); asking again changes nothing.
///
/// A process's stdin ends once it was asked for AND no client has the FIFO open for writing any more. What was written
/// until then is brought first (C6).
#[derive(Clone, Debug)]
pub struct StdinCloser(Arc<watch::Sender<bool>>);

impl StdinCloser {
    /// One for a process whose stdin is to stay open.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Ends the stdin, now or when it will be open.
    pub fn close(&self) {
        self.0.send_replace(true);
    }

    /// Whether it was asked for.
    fn is_closed(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it was asked for.
    async fn closed(&self) {
        let _ = self.0.subscribe().wait_for(|closed| *closed).await.is_ok();
    }
}

impl Default for StdinCloser {
    fn default() -> Self {
        Self::new()
    }
}

/// How long a client may take to open a stdin that was asked to end before it was open (C5).
const LATE_CLIENT: Duration = Duration::from_millis(250);

/// Where a process's stdin goes.
#[derive(Debug)]
pub(super) enum Target {
    /// Our write end of its pipe.
    Pipe(Polled),
    /// The master of its terminal.
    Terminal(OwnedFd),
}

/// Brings what clients write, until the end of file or the end of the process. When a pipe's input is at its end, the
/// process sees that; a terminal stays as it is.
pub(super) async fn run(
    inlet: Inlet,
    target: Target,
    closer: StdinCloser,
    mut phases: Phases,
    report: Arc<Report>,
) {
    let Inlet { read, held } = inlet;
    let copy = async {
        match target {
            Target::Pipe(end) => {
                let meter = Meter { stream: Stream::Stdin, report: &report, phases: None };
                pump::splice_all(&read, &end, meter).await
            }
            Target::Terminal(master) => {
                let master = Polled::new(master, Interest::WRITABLE)?;
                terminal::type_in(&read, &master, &report).await
            }
        }
    };
    let release = async {
        let early = closer.is_closed();
        closer.closed().await;
        if early {
            tokio::time::sleep(LATE_CLIENT).await;
        }
        drop(held);
        pending::<()>().await;
    };
    tokio::select! {
        ended = copy => match ended {
            // It does not read any more, which is its own affair.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            Err(error) => report.failed(Stream::Stdin, "cannot be brought", &error),
            Ok(()) => {}
        },
        () = release => {}
        () = phases.reached(Phase::Exited) => {}
    }
}
