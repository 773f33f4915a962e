//! Exec, attach and port-forward streams: a WebSocket to containerd's streaming server, with the subprotocol
//! `v4.channel.k8s.io`. The first byte of a message is the channel.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Error, Message, WebSocket};

use crate::cri_node::Node;
use crate::poll::{LONG, slow};

/// Exec and attach: what the process reads. Port-forward: the data of the first port, both ways.
pub const STDIN: u8 = 0;
/// Exec and attach: standard output. Port-forward: the error of the first port.
pub const STDOUT: u8 = 1;
/// Standard error.
pub const STDERR: u8 = 2;
/// The status, JSON.
const STATUS: u8 = 3;
/// The terminal's size, JSON.
const RESIZE: u8 = 4;

/// The streams.
pub struct Streams {
    socket: WebSocket<TcpStream>,
    received: HashMap<u8, Vec<u8>>,
    open: bool,
}

impl Streams {
    /// Opens the streams that containerd has offered at `url`.
    ///
    /// # Panics
    /// Where they cannot be.
    #[must_use]
    pub fn connect(node: &Node, url: &str) -> Self {
        let rest = url.strip_prefix("http://").unwrap_or_else(|| panic!("not HTTP: {url}"));
        let (address, _) = rest.split_once('/').expect("an address and a path");
        let mut request = format!("ws://{rest}").into_client_request().expect("a request");
        let protocol = HeaderValue::from_static("v4.channel.k8s.io");
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
        let stream = node.dial(address);
        stream.set_read_timeout(Some(slow(LONG))).expect("a limit for the handshake");
        let (socket, _) =
            tungstenite::client(request, stream).unwrap_or_else(|error| panic!("{url}: {error}"));
        socket.get_ref().set_read_timeout(Some(Duration::from_millis(100))).expect("a limit for reads");
        Self { socket, received: HashMap::new(), open: true }
    }

    /// Sends `bytes` to `channel`.
    ///
    /// # Panics
    /// Where the connection has ended.
    pub fn send(&mut self, channel: u8, bytes: &[u8]) {
        let message = [&[channel], bytes].concat();
        self.socket.send(Message::Binary(message.into())).expect("the stream takes it");
    }

    /// Makes the terminal as large as that.
    pub fn resize(&mut self, width: u16, height: u16) {
        self.send(RESIZE, json!({ "Width": width, "Height": height }).to_string().as_bytes());
    }

    /// What has come on `channel`.
    #[must_use]
    pub fn bytes(&self, channel: u8) -> &[u8] {
        self.received.get(&channel).map_or(&[], Vec::as_slice)
    }

    /// The same as text.
    #[must_use]
    pub fn text(&self, channel: u8) -> String {
        String::from_utf8_lossy(self.bytes(channel)).into_owned()
    }

    fn receive(&mut self) {
        match self.socket.read() {
            Ok(Message::Binary(bytes)) => {
                let (channel, rest) = bytes.split_first().expect("a channel");
                self.received.entry(*channel).or_default().extend_from_slice(rest);
            }
            Ok(_) => {}
            Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            // The server ends the connection without a word of farewell at times.
            Err(_) => self.open = false,
        }
    }

    /// Receives until `holds`.
    ///
    /// # Panics
    /// Where that is not so in time, or the connection ends before.
    pub fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + slow(LONG);
        while !holds(self) {
            assert!(self.open && Instant::now() < end, "not so: {what}; received: {:?}", self.words());
            self.receive();
        }
    }

    /// Receives until the status, and what comes with it, is there; the exit code, 0 where the status is success.
    ///
    /// # Panics
    /// Where there is no such status in time.
    pub fn exit_code(&mut self) -> i32 {
        self.until("the status has come", |streams| !streams.bytes(STATUS).is_empty());
        self.ended();
        let status: Value = serde_json::from_slice(self.bytes(STATUS)).expect("the status is JSON");
        if status["status"] == "Success" {
            return 0;
        }
        assert_eq!(status["reason"], "NonZeroExitCode", "{status}");
        let causes = status["details"]["causes"].as_array().expect("causes");
        let code = causes.iter().find(|cause| cause["reason"] == "ExitCode").expect("an exit code");
        code["message"].as_str().and_then(|code| code.parse().ok()).expect("a number")
    }

    /// Receives until the server has ended the connection.
    ///
    /// # Panics
    /// Where it does not in time.
    pub fn ended(&mut self) {
        let end = Instant::now() + slow(LONG);
        while self.open {
            assert!(Instant::now() < end, "the connection stays; received: {:?}", self.words());
            self.receive();
        }
    }

    fn words(&self) -> Vec<(u8, String)> {
        self.received.keys().map(|channel| (*channel, self.text(*channel))).collect()
    }
}
