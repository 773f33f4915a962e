//! A terminal's output. What a terminal gives cannot be spliced, so it is copied, with memory that is there only while
//! something is copied.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::sink::Sink;
use super::stage::{Follow, Stage};
use crate::sys::polled::Polled;
use crate::telemetry::{Stream, Telemetry};

/// What is read at a time, in bytes: a terminal gives 4 KiB at most.
const CHUNK: usize = 4096;
/// How long it takes to look again at a terminal that nobody has open, while its process lives.
const LOOK: Duration = Duration::from_millis(500);
/// After how many chunks the others get their turn (K6).
const TURN: u32 = 64;

/// Copies what a terminal shows until its process has ended and everything has been read.
pub(super) async fn run(
    master: Arc<Polled>,
    mut sink: Sink,
    telemetry: Arc<dyn Telemetry>,
    mut follow: Follow,
    done: impl FnOnce(),
) {
    let mut expired = follow.clone();
    let mut ended = follow.clone();
    tokio::select! {
        () = copy(&master, &mut sink, telemetry.as_ref(), &mut ended) => {}
        () = expired.reached(Stage::Expired) => {
            let left = crate::sys::pipe::waiting(&*master).unwrap_or_default();
            if left > 0 {
                telemetry.dropped(Stream::Terminal, left);
            }
        }
    }
    drop(master);
    done();
    sink.finish(&mut follow).await;
}

async fn copy(master: &Polled, sink: &mut Sink, telemetry: &dyn Telemetry, follow: &mut Follow) {
    let mut turn = 0_u32;
    loop {
        let Ok(mut ready) = master.readable().await else { return };
        let mut buffer = vec![0_u8; CHUNK];
        match rustix::io::read(master, &mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                let bytes = buffer.get(..length).unwrap_or_default();
                deliver(bytes, sink, telemetry).await;
            }
            Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
            Err(rustix::io::Errno::INTR) => {}
            // Nobody has the terminal open: that is the end once the process has ended (C3), and may pass before.
            Err(rustix::io::Errno::IO) if follow.has_reached(Stage::Ended) => return,
            Err(rustix::io::Errno::IO) => {
                drop(ready);
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    () = follow.reached(Stage::Ended) => {}
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a terminal is not read any more");
                return;
            }
        }
        turn = turn.wrapping_add(1);
        if turn.is_multiple_of(TURN) {
            tokio::task::yield_now().await;
        }
    }
}

async fn deliver(bytes: &[u8], sink: &mut Sink, telemetry: &dyn Telemetry) {
    let length = u64::try_from(bytes.len()).unwrap_or_default();
    let written =
        if sink.is_nowhere() { Err(io::ErrorKind::BrokenPipe.into()) } else { sink.write(bytes).await };
    match written {
        Ok(()) => telemetry.copied(Stream::Terminal, length),
        Err(error) => {
            if !sink.is_nowhere() {
                tracing::warn!(%error, "a terminal's output is dropped from now on");
                if let Ok(nowhere) = Sink::nowhere() {
                    *sink = nowhere;
                }
            }
            telemetry.dropped(Stream::Terminal, length);
        }
    }
}
