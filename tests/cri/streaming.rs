//! Exec, attach and port-forward as kubelet's clients have them.

use std::fs;

use gam_tests::cri::{ContainerConfig, RUNNING};
use gam_tests::cri_node::Node;
use gam_tests::cri_stream::{STDERR, STDIN, STDOUT};
use gam_tests::poll;

use crate::cases::{FOREVER, own, private};

pub(crate) fn exec_streams(node: &Node, handler: &str) {
    let pod = node.pod(handler, private(node, "default"));
    let id = pod.container("one", FOREVER, own());
    let script = "read line; echo \"got $line\"; echo error >&2; exit 7";
    let mut streams = pod.exec_stream(&id, script, false);
    streams.send(STDIN, b"hello\n");
    assert_eq!(streams.exit_code(), 7);
    assert_eq!((streams.text(STDOUT).as_str(), streams.text(STDERR).as_str()), ("got hello\n", "error\n"));
    let mut streams = pod.exec_stream(&id, "head -c 1000000 /dev/zero; head -c 300000 /dev/zero >&2", false);
    assert_eq!(streams.exit_code(), 0);
    assert_eq!((streams.bytes(STDOUT).len(), streams.bytes(STDERR).len()), (1_000_000, 300_000));
    let mut streams = pod.exec_stream(&id, "head -c 200000 | wc -c", false);
    for _ in 0..100 {
        streams.send(STDIN, &[b'x'; 2000]);
    }
    assert_eq!(streams.exit_code(), 0);
    assert_eq!(streams.text(STDOUT).trim(), "200000");
    let mut streams = pod.exec_stream(&id, "kill -9 $$", false);
    assert_eq!(streams.exit_code(), 137);
}

pub(crate) fn exec_terminal(node: &Node, handler: &str) {
    let pod = node.pod(handler, private(node, "default"));
    let id = pod.container("one", FOREVER, own());
    let script = "wait_for() { until [ \"$(stty size)\" = \"$1\" ]; do sleep 0.1; done; echo \"size $1\"; }
        wait_for '33 101'; wait_for '44 122'; tty; echo error >&2; read line; echo \"got $line\"; exit 3";
    let mut streams = pod.exec_stream(&id, script, true);
    streams.resize(101, 33);
    streams.until("the first size", |streams| streams.text(STDOUT).contains("size 33 101\r\n"));
    streams.resize(122, 44);
    streams.until("the second size", |streams| streams.text(STDOUT).contains("size 44 122\r\n"));
    streams.until("it is a terminal", |streams| streams.text(STDOUT).contains("/dev/pts/"));
    streams.send(STDIN, b"hello\n");
    assert_eq!(streams.exit_code(), 3);
    let text = streams.text(STDOUT);
    assert!(
        text.contains("error\r\n") && text.contains("hello\r\n") && text.contains("got hello\r\n"),
        "{text}"
    );
    assert_eq!(streams.text(STDERR), "", "a terminal has no stderr of its own");
    let mut streams = pod.exec_stream(&id, "echo ready; exec cat", true);
    streams.until("cat runs", |streams| streams.text(STDOUT).contains("ready"));
    streams.send(STDIN, b"\x04");
    assert_eq!(streams.exit_code(), 0, "end of file by the terminal");
    let mut streams = pod.exec_stream(&id, "echo ready; exec cat", true);
    streams.until("cat runs", |streams| streams.text(STDOUT).contains("ready"));
    streams.send(STDIN, b"\x03");
    assert_eq!(streams.exit_code(), 130, "an interrupt by the terminal");
}

pub(crate) fn an_exec_whose_client_goes(node: &Node, handler: &str) {
    let pod = node.pod(handler, private(node, "default"));
    let id = pod.container("one", FOREVER, own());
    let mut streams = pod.exec_stream(&id, "echo ready; exec head -c 98765", false);
    streams.until("it runs", |streams| streams.text(STDOUT).contains("ready"));
    assert!(pod.output(&id, "ps").contains("head -c 98765"));
    drop(streams);
    poll::holds("it has ended", || !pod.output(&id, "ps").contains("head -c 98765"));
}

pub(crate) fn attach_streams(node: &Node, handler: &str) {
    let pod = node.pod(handler, private(node, "default"));
    let script = "while read line; do
        [ \"$line\" = end ] && exit 5; echo \"got $line\"; echo \"error $line\" >&2; done";
    let config = ContainerConfig { stdin: true, ..pod.config_of("one", script, own()) };
    let id = pod.start(config);
    for round in ["first", "second"] {
        let mut streams = pod.attach(&id, false);
        streams.send(STDIN, format!("{round}\n").as_bytes());
        streams.until("both streams", |streams| {
            streams.text(STDOUT) == format!("got {round}\n")
                && streams.text(STDERR) == format!("error {round}\n")
        });
        drop(streams);
        assert_eq!(pod.status(&id).state, RUNNING, "its client's going is nothing to it");
    }
    let mut streams = pod.attach(&id, false);
    streams.send(STDIN, b"end\n");
    streams.ended();
    assert_eq!(pod.ended(&id).exit_code, 5);
    let log = fs::read_to_string(pod.log("one")).unwrap();
    assert!(log.contains(" stdout F got second\n") && log.contains(" stderr F error second\n"), "{log}");
    let config =
        ContainerConfig { stdin: true, stdin_once: true, ..pod.config_of("two", "cat; exit 6", own()) };
    let id = pod.start(config);
    let mut streams = pod.attach(&id, false);
    streams.send(STDIN, b"text\n");
    streams.until("the echo", |streams| streams.text(STDOUT) == "text\n");
    drop(streams);
    assert_eq!(pod.ended(&id).exit_code, 6, "stdin ends with its only client");
}

pub(crate) fn attach_terminal(node: &Node, handler: &str) {
    let pod = node.pod(handler, private(node, "default"));
    let script = "until [ \"$(stty size)\" = '33 101' ]; do sleep 0.1; done
        echo \"size $(stty size)\"; echo error >&2; read line; echo \"got $line\"; exit 4";
    let config = ContainerConfig { stdin: true, tty: true, ..pod.config_of("one", script, own()) };
    let id = pod.start(config);
    let mut streams = pod.attach(&id, true);
    streams.resize(101, 33);
    streams.until("the size and stderr", |streams| {
        streams.text(STDOUT).contains("size 33 101\r\n") && streams.text(STDOUT).contains("error\r\n")
    });
    streams.send(STDIN, b"hello\n");
    streams.until("its answer", |streams| streams.text(STDOUT).contains("got hello\r\n"));
    assert_eq!(pod.ended(&id).exit_code, 4);
    streams.ended();
    assert_eq!(streams.text(STDERR), "");
}

pub(crate) fn port_forward(node: &Node, handler: &str) {
    let pod = node.pod(handler, private(node, "default"));
    let script = "mkdir /www; echo a-page > /www/index.html; exec httpd -f -p 8080 -h /www";
    let id = pod.container("one", script, own());
    poll::holds("the server answers in the pod", || {
        let fetch = pod.exec(&id, "wget -q -O - http://127.0.0.1:8080/index.html", 20);
        fetch.is_ok_and(|answer| answer.stdout == b"a-page\n")
    });
    for _ in 0..2 {
        let mut streams = pod.port_forward(8080);
        let number = 8080u16.to_le_bytes();
        streams.until("each channel begins with the port", |streams| {
            streams.bytes(STDIN) == number && streams.bytes(STDOUT) == number
        });
        streams.send(STDIN, b"GET /index.html HTTP/1.0\r\n\r\n");
        streams.until("the page", |streams| streams.text(STDIN).contains("a-page\n"));
        assert_eq!(streams.bytes(STDOUT), number, "no error");
    }
    let mut streams = pod.port_forward(8081);
    streams.until("an error, as nobody listens there", |streams| streams.text(STDOUT).contains("refused"));
}
