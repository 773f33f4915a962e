//! A pty of the test's own with a docker command line at its other end.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use gam_tests::poll;
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::termios::{Winsize, tcsetwinsize};

/// A command line with a terminal.
pub(crate) struct Tty {
    child: Child,
    master: File,
    seen: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Tty {
    /// Starts `command` with a terminal of this many rows and columns.
    pub(crate) fn start(mut command: Command, rows: u16, columns: u16) -> Self {
        let pty = openpty(None, None).expect("a pty");
        tcsetwinsize(&pty.master, size(rows, columns)).expect("its size");
        let slave = || pty.slave.try_clone().expect("the slave again");
        let child = command.stdin(slave()).stdout(slave()).stderr(slave()).env("TERM", "dumb").spawn();
        let child = child.expect("running docker");
        // The command holds the slave too: the reader sees the end when all are closed.
        drop(command);
        drop(pty.slave);
        let master = File::from(pty.master);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let reader = thread::spawn({
            let (seen, mut master) = (seen.clone(), master.try_clone().expect("the master again"));
            move || {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = master.read(&mut bytes) {
                    seen.lock().unwrap().extend_from_slice(&bytes[..count]);
                }
            }
        });
        Self { child, master, seen, reader: Some(reader) }
    }

    /// What came so far, with the ends of lines as on a file.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).replace('\r', "")
    }

    /// Types.
    pub(crate) fn write(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("writing to the terminal");
    }

    /// Waits until `text` has come.
    pub(crate) fn expect(&self, text: &str) {
        let seen = poll::within(poll::LONG, || self.text().contains(text).then_some(()));
        assert!(seen.is_some(), "{text:?} does not come: {:?}", self.text());
    }

    /// Changes the terminal's size.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        tcsetwinsize(&self.master, size(rows, columns)).expect("the new size");
        // The terminal is not the command's controlling one, so nobody else tells it.
        kill(self.pid(), Signal::SIGWINCH).expect("telling docker");
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"))
    }

    /// Waits for the command line's end; its status and all that came.
    pub(crate) fn finish(mut self) -> (i32, String) {
        let ended = poll::within(poll::LONG, || self.child.try_wait().expect("waiting"));
        let status = ended.unwrap_or_else(|| panic!("it does not end: {:?}", self.text()));
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        (status.code().unwrap_or(-1), self.text())
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
