//! Descriptors and credentials that come over a unix socket.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Who is at the other end of a unix socket, as the kernel knew it when the connection was made (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The process's pid in our pid namespace; 0 if it is not visible there.
    pub pid: i32,
    /// Its effective uid.
    pub uid: u32,
    /// Its effective gid.
    pub gid: u32,
}

/// Asks who connected to, or listens on, `socket`.
///
/// # Errors
/// ENOTSOCK and the like.
pub fn peer(socket: impl AsFd) -> io::Result<Peer> {
    let found = rustix::net::sockopt::socket_peercred(socket)?;
    Ok(Peer { pid: found.pid.as_raw_nonzero().get(), uid: found.uid.as_raw(), gid: found.gid.as_raw() })
}

/// Receives one message of at most 4 KiB and the one descriptor that came with it, close-on-exec. Further descriptors
/// in the message are closed.
///
/// # Errors
/// `UnexpectedEof` if the sender closed the connection, `InvalidData` if the message had no descriptor, `WouldBlock` on
/// a non-blocking socket with nothing to read, and what recvmsg(2) answers.
pub fn receive_now(socket: impl AsFd) -> io::Result<OwnedFd> {
    let mut text = [0_u8; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(socket, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut received = None;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = part {
            for descriptor in descriptors {
                received.get_or_insert(descriptor);
            }
        }
    }
    match received {
        Some(descriptor) => Ok(descriptor),
        None if message.bytes == 0 => Err(io::ErrorKind::UnexpectedEof.into()),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "the message carries no descriptor")),
    }
}

/// Waits for a message on `socket` and receives the descriptor in it; see [`receive_now`].
///
/// # Errors
/// Those of [`receive_now`], save `WouldBlock`.
pub async fn receive(socket: &UnixStream) -> io::Result<OwnedFd> {
    socket.async_io(Interest::READABLE, || receive_now(socket)).await
}
