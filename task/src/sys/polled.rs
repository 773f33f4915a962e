//! Descriptors in tokio's reactor.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

/// A descriptor that tokio's reactor watches. The descriptor cannot be replaced or closed while it is registered, which
/// is what makes registering it safe.
#[derive(Debug)]
pub struct Polled(AsyncFd<OwnedFd>);

impl Polled {
    /// Registers `fd` for `interest`. The open file should be non-blocking if it is to be read or written.
    ///
    /// # Errors
    /// What epoll_ctl(2) answers: EPERM for a regular file, ENOSPC where too many descriptors are watched.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled.
    pub fn new(fd: OwnedFd, interest: Interest) -> io::Result<Self> {
        // SAFETY: an OwnedFd answers the same open descriptor for as long as it lives. It lives inside the AsyncFd, of
        // which only shared references leave this type, so that it is neither closed nor swapped before the AsyncFd
        // deregisters it in `into_inner` or drop.
        let registered = unsafe { AsyncFd::register_with_interest(fd, interest) };
        registered.map(Self).map_err(|refused| refused.into_parts().1)
    }

    /// Waits until reading would not block (also at end of file and on an error).
    ///
    /// # Errors
    /// Only when the runtime is shutting down.
    pub async fn readable(&self) -> io::Result<AsyncFdReadyGuard<'_, OwnedFd>> {
        self.0.readable().await
    }

    /// Waits until writing would not block.
    ///
    /// # Errors
    /// Only when the runtime is shutting down.
    pub async fn writable(&self) -> io::Result<AsyncFdReadyGuard<'_, OwnedFd>> {
        self.0.writable().await
    }

    /// Waits until one of `interest` holds.
    ///
    /// # Errors
    /// Only when the runtime is shutting down.
    pub async fn ready(&self, interest: Interest) -> io::Result<AsyncFdReadyGuard<'_, OwnedFd>> {
        self.0.ready(interest).await
    }

    /// Runs `operation` whenever `interest` holds, until it answers something else than `WouldBlock`.
    ///
    /// # Errors
    /// Those of `operation`.
    pub async fn run<R>(
        &self,
        interest: Interest,
        operation: impl FnMut(&OwnedFd) -> io::Result<R>,
    ) -> io::Result<R> {
        self.0.async_io(interest, operation).await
    }

    /// Runs `operation` once if `interest` is known to hold, and forgets the readiness if it answers `WouldBlock`.
    ///
    /// # Errors
    /// Those of `operation`; `WouldBlock` if `interest` does not hold.
    pub fn try_run<R>(
        &self,
        interest: Interest,
        operation: impl FnOnce(&OwnedFd) -> io::Result<R>,
    ) -> io::Result<R> {
        self.0.try_io(interest, operation)
    }

    /// Takes the descriptor out of the reactor.
    #[must_use]
    pub fn into_inner(self) -> OwnedFd {
        self.0.into_inner()
    }
}

impl AsFd for Polled {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}
