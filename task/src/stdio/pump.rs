//! Moving bytes between descriptors that do not block.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::meter::Meter;
use crate::sys::pipe;
use crate::sys::polled::Polled;

/// How much is moved by one call: what a pipe holds.
pub(super) const CHUNK: usize = 64 * 1024;
/// Less than this is copied, not spliced: a page.
const LITTLE: usize = 4096;
/// After how many chunks others get the worker thread.
const TURN: usize = 16;
/// How often a descriptor is asked that has hung up and may come back.
const HUNG_UP: Duration = Duration::from_millis(100);
/// How often it is asked whether there are descriptors again.
const SHORTAGE: Duration = Duration::from_millis(200);
/// How long to wait where a descriptor claims to be ready and is not.
const CONTRADICTION: Duration = Duration::from_millis(5);

/// Which of `flags`, or an error or hangup, holds for `fd` at this moment.
pub(super) fn now(fd: impl AsFd, flags: PollFlags) -> io::Result<PollFlags> {
    let mut asked = [PollFd::new(&fd, flags)];
    match poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(_) => Ok(asked.iter().map(PollFd::revents).fold(PollFlags::empty(), PollFlags::union)),
        Err(Errno::INTR) => Ok(PollFlags::empty()),
        Err(error) => Err(error.into()),
    }
}

/// Waits until `fd` can be read (or written, if it is registered for that) or has an error or hangup.
///
/// The reactor never forgets a hangup; so where the descriptor is asked itself and denies one, time has to pass.
pub(super) async fn wait(fd: &Polled, interest: Interest) -> io::Result<()> {
    let flags = if interest.is_readable() { PollFlags::IN } else { PollFlags::OUT };
    loop {
        let mut guard = fd.ready(interest).await?;
        if !now(fd, flags)?.is_empty() {
            return Ok(());
        }
        let ready = guard.ready();
        guard.clear_ready();
        drop(guard);
        if ready.is_read_closed() || ready.is_write_closed() {
            sleep(HUNG_UP).await;
        }
    }
}

/// Moves all that comes out of a pipe into another without copying it, and counts each piece. Ends at the end
/// of file of `source`.
///
/// A pipe has 16 slots, and what is spliced takes one, be it a page or a line; what is written fills up the slot before.
/// So that a FIFO without a reader holds 64 KiB and not 16 lines, less than a page is copied.
pub(super) async fn splice_all(source: &Polled, sink: &Polled, meter: Meter<'_>) -> io::Result<()> {
    let mut chunks = 0_usize;
    loop {
        let waiting = pipe::waiting(source)?;
        if waiting == 0 {
            let found = now(source, PollFlags::IN)?;
            if found.is_empty() {
                wait(source, Interest::READABLE).await?;
            } else if !found.contains(PollFlags::IN) {
                return Ok(());
            }
            continue;
        }
        if now(sink, PollFlags::OUT)?.is_empty() {
            wait(sink, Interest::WRITABLE).await?;
            continue;
        }
        if waiting < LITTLE as u64 {
            let (copied, rest) = copy_little(source, sink)?;
            if !rest.is_empty() {
                write_all(sink, &rest, |_| {}).await?;
            }
            meter.count(copied.saturating_add(rest.len() as u64));
        } else {
            match pipe::splice(source, sink, CHUNK) {
                Ok(bytes) => meter.count(bytes as u64),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => yield_now().await,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        meter.pace().await;
        chunks = chunks.wrapping_add(1);
        if chunks % TURN == 0 {
            yield_now().await;
        }
    }
}

/// Copies less than a page from a pipe. Answers how much went, and the rest if another writer was quicker.
fn copy_little(source: &Polled, sink: &Polled) -> io::Result<(u64, Vec<u8>)> {
    let mut buffer = [0_u8; LITTLE];
    let count = match rustix::io::read(source, &mut buffer) {
        Ok(count) => count,
        Err(Errno::AGAIN | Errno::INTR) => 0,
        Err(error) => return Err(error.into()),
    };
    let bytes = buffer.get(..count).unwrap_or_default();
    let written = match rustix::io::write(sink, bytes) {
        Ok(written) => written,
        Err(Errno::AGAIN | Errno::INTR) => 0,
        Err(error) => return Err(error.into()),
    };
    Ok((written as u64, bytes.get(written..).unwrap_or_default().to_vec()))
}

/// Empties a pipe until its end of file, so that whoever writes to it goes on, and tells `lost` of each piece.
pub(super) async fn discard_all(source: &Polled, mut lost: impl FnMut(u64)) -> io::Result<()> {
    let null = loop {
        match rustix::fs::open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(null) => break null,
            // Descriptors are short, which passes; giving up would end the process by SIGPIPE.
            Err(Errno::MFILE | Errno::NFILE) => sleep(SHORTAGE).await,
            Err(error) => return Err(error.into()),
        }
    };
    let mut chunks = 0_usize;
    loop {
        match pipe::splice(source, &null, CHUNK) {
            Ok(0) => return Ok(()),
            Ok(bytes) => {
                lost(bytes as u64);
                chunks = chunks.wrapping_add(1);
                if chunks % TURN == 0 {
                    yield_now().await;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait(source, Interest::READABLE).await?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes all of `bytes`, and tells `written` of each piece.
pub(super) async fn write_all(
    sink: &Polled,
    mut bytes: &[u8],
    mut written: impl FnMut(u64),
) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(sink, bytes) {
            Ok(0) => sleep(CONTRADICTION).await,
            Ok(count) => {
                written(count as u64);
                bytes = bytes.get(count..).unwrap_or_default();
            }
            Err(Errno::AGAIN) if now(sink, PollFlags::OUT)?.is_empty() => {
                wait(sink, Interest::WRITABLE).await?;
            }
            Err(Errno::AGAIN) => sleep(CONTRADICTION).await,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
