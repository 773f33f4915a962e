//! Copying from and to the master of a terminal.
//!
//! A terminal's master cannot be spliced, so its bytes go through a buffer, which exists only while there are some.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::time::sleep;

use super::output::Output;
use super::phase::{Phase, Phases};
use super::pump;
use super::report::Report;
use crate::sys::polled::Polled;
use crate::telemetry::Stream;

/// What is read before it is written on. One read gives less than 4 KiB.
const BUFFER: usize = 16 * 1024;
/// What is typed is read in pieces of this size.
const TYPED: usize = 4 * 1024;
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Brings what is printed to `output` until the terminal is at its end.
///
/// The master has EIO whenever nobody has the other side open. Once the process has ended this is the end of file;
/// before, a program may have closed the terminal and may open it again, so the master is asked from time to time.
pub(super) async fn print(
    master: &OwnedFd,
    output: &mut Output,
    mut phases: Phases,
    unwritten: &mut u64,
) -> io::Result<()> {
    let mut watched = Polled::new(master.try_clone()?, Interest::READABLE)?;
    let mut pause = FIRST_PAUSE;
    loop {
        pump::wait(&watched, Interest::READABLE).await?;
        // Asked first: what is printed before the process ends is there before we hear of the end.
        let exited = phases.is(Phase::Exited);
        let (bytes, hung_up) = read(&watched)?;
        if !bytes.is_empty() {
            pause = FIRST_PAUSE;
            output.write(bytes, &phases, unwritten).await;
            output.meter(&phases).pace().await;
            tokio::task::yield_now().await;
        }
        if !hung_up {
            continue;
        }
        if exited {
            return Ok(());
        }
        tokio::select! {
            () = phases.reached(Phase::Exited) => {}
            () = sleep(pause) => pause = pause.saturating_mul(2).min(LONGEST_PAUSE),
        }
        // The reactor would never forget that it has hung up.
        watched = Polled::new(watched.into_inner(), Interest::READABLE)?;
    }
}

/// Reads what is there, at most a buffer, and tells whether nobody has the other side open.
fn read(master: &Polled) -> io::Result<(Vec<u8>, bool)> {
    let mut bytes = vec![0; BUFFER];
    let mut filled = 0_usize;
    let mut hung_up = false;
    while filled < BUFFER && !hung_up {
        match rustix::io::read(master, bytes.get_mut(filled..).unwrap_or_default()) {
            Ok(0) | Err(Errno::IO) => hung_up = true,
            Ok(count) => filled = filled.saturating_add(count),
            Err(Errno::AGAIN) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(filled);
    Ok((bytes, hung_up))
}

/// Brings what a client types to the terminal, until the FIFO's end of file.
pub(super) async fn type_in(source: &Polled, master: &Polled, report: &Report) -> io::Result<()> {
    loop {
        pump::wait(source, Interest::READABLE).await?;
        let mut bytes = vec![0; TYPED];
        match rustix::io::read(source, &mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => bytes.truncate(count),
            Err(Errno::AGAIN | Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let count = |bytes| report.telemetry.copied(Stream::Stdin, bytes);
        match pump::write_all(master, &bytes, count).await {
            Ok(()) => {}
            // Nobody has the other side open, but somebody may again.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => sleep(FIRST_PAUSE).await,
            Err(error) => return Err(error),
        }
    }
}
