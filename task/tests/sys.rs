//! The kernel's descriptors, as `sys` gives them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::fs::{self, File};
use std::io::{self, IoSlice, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use gam_task::sys::polled::Polled;
use gam_task::sys::{daemon, pass, pidfd, pipe};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;

fn send(socket: impl AsFd, text: &[u8], fds: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    }
    sendmsg(socket, &[IoSlice::new(text)], &mut control, SendFlags::empty()).unwrap();
}

#[tokio::test]
async fn one_descriptor_is_received_and_the_others_are_closed() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let waiter = tokio::spawn(async move { pass::receive(&ours).await });
    tokio::time::sleep(Duration::from_millis(5)).await;
    let (read, write) = pipe::pipe().unwrap();
    let (extra_read, extra_write) = pipe::pipe().unwrap();
    send(&theirs, b"/dev/pts/0", &[write.as_fd(), extra_write.as_fd()]);
    let received = waiter.await.unwrap().unwrap();
    drop((write, extra_write));
    let flags = rustix::io::fcntl_getfd(&received).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    File::from(received).write_all(b"hello").unwrap();
    let mut text = String::new();
    File::from(read).read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    assert_eq!(File::from(extra_read).read(&mut [0; 8]).unwrap(), 0, "nobody can write to it any more");
}

#[tokio::test]
async fn a_message_without_a_descriptor_and_a_closed_connection_are_errors() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    assert_eq!(pass::receive_now(&ours).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    send(&theirs, b"nothing", &[]);
    assert_eq!(pass::receive(&ours).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    drop(theirs);
    assert_eq!(pass::receive(&ours).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn k9_the_peer_is_told() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let peer = pass::peer(&ours).unwrap();
    assert_eq!(peer.pid.unsigned_abs(), std::process::id());
    assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
    assert_eq!(peer.gid, rustix::process::getegid().as_raw());
    assert!(pass::peer(File::open("/dev/null").unwrap()).is_err());
}

#[tokio::test]
async fn bytes_are_spliced_from_pipe_to_pipe() {
    let (source, writer) = pipe::pipe().unwrap();
    let (reader, sink) = pipe::pipe().unwrap();
    pipe::set_nonblocking(&source, true).unwrap();
    let source = Polled::new(source, Interest::READABLE).unwrap();
    let moved = tokio::spawn(async move {
        let mut total = 0;
        loop {
            let moved = source.run(Interest::READABLE, |fd| pipe::splice(fd, &sink, 65536)).await.unwrap();
            if moved == 0 {
                return total;
            }
            total += moved;
        }
    });
    let mut writer = File::from(writer);
    for _ in 0..3 {
        writer.write_all(b"12345").unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(pipe::waiting(&reader).unwrap(), 15);
    drop(writer);
    assert_eq!(moved.await.unwrap(), 15);
    let mut text = String::new();
    File::from(reader).read_to_string(&mut text).unwrap();
    assert_eq!(text, "123451234512345");
}

#[test]
fn splicing_an_empty_pipe_does_not_block() {
    let (source, _writer) = pipe::pipe().unwrap();
    let (_reader, sink) = pipe::pipe().unwrap();
    assert_eq!(pipe::splice(&source, &sink, 1).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn non_blocking_concerns_one_end_of_a_pipe() {
    let (read, write) = pipe::pipe().unwrap();
    let is_set = |fd: &OwnedFd| rustix::fs::fcntl_getfl(fd).unwrap().contains(rustix::fs::OFlags::NONBLOCK);
    pipe::set_nonblocking(&read, true).unwrap();
    assert!(is_set(&read) && !is_set(&write));
    pipe::set_nonblocking(&read, false).unwrap();
    assert!(!is_set(&read));
}

#[test]
fn a_memory_file_holds_what_is_written() {
    let mut file = pipe::memory_file("gam-test").unwrap();
    file.write_all(b"spec").unwrap();
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "spec");
}

#[test]
fn a_pidfd_signals_its_process_only() {
    let own = pidfd::open(i32::try_from(std::process::id()).unwrap()).unwrap();
    pidfd::signal(&own, 0).unwrap();
    assert_eq!(pidfd::signal(&own, 65).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    assert_eq!(pidfd::open(-1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(pidfd::open(0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_descriptor_that_was_passed_is_taken_once() {
    let own = File::open("/dev/null").unwrap();
    assert_eq!(daemon::passed(own.as_raw_fd()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert!(daemon::passed(0).is_err());
    assert_eq!(daemon::passed(9999).unwrap_err().raw_os_error(), Some(libc::EBADF));
    let passed = rustix::io::dup(&own).unwrap();
    let number = std::os::fd::IntoRawFd::into_raw_fd(passed);
    let taken = daemon::passed(number).unwrap();
    assert_eq!(taken.as_raw_fd(), number);
    assert!(daemon::passed(number).is_err(), "it has an owner now");
}

#[test]
fn threads_are_named() {
    let name = std::thread::spawn(|| {
        daemon::name_thread("gam-test").unwrap();
        fs::read_to_string("/proc/thread-self/comm").unwrap()
    });
    assert_eq!(name.join().unwrap().trim(), "gam-test");
    assert!(daemon::name_thread("a\0b").is_err());
}
