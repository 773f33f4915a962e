use std::path::Path;

use gam_protos::any::pack;
use gam_protos::bootstrap::Extension;
use gam_protos::runc_options;
use proptest::prelude::*;
use protobuf::{EnumOrUnknown, MessageField};

use super::*;

fn runc_any() -> Any {
    let mut options = runc_options::Options::new();
    options.systemd_cgroup = true;
    pack(&options).unwrap()
}

fn params(id: &str, namespace: &str) -> BootstrapParams {
    let mut params = BootstrapParams::new();
    params.instance_id = id.into();
    params.namespace = namespace.into();
    params
}

#[test]
fn nothing_on_stdin_is_a_question_without_options() {
    assert_eq!(Question::parse(b"", "n", "c").unwrap(), Question::default());
}

#[test]
fn an_any_of_options_is_one_even_though_it_parses_as_parameters() {
    let bytes = runc_any().write_to_bytes().unwrap();
    assert!(BootstrapParams::parse_from_bytes(&bytes).is_ok(), "the ambiguity is real");
    let question = Question::parse(&bytes, "n", "c").unwrap();
    assert_eq!(question, Question { options: Some(runc_any()), params: None });
}

#[test]
fn h11_parameters_are_known_by_id_and_namespace_and_carry_options_in_an_extension() {
    let mut sent = params("c", "n");
    sent.log_level = EnumOrUnknown::new(LogLevel::DEBUG);
    sent.containerd_ttrpc_address = "/t".into();
    sent.containerd_grpc_address = "/g".into();
    sent.containerd_binary = "/params".into();
    sent.containerd_version = "v2.3.1".into();
    sent.socket_dir = Some("/run/s".into());
    for any in [Any { type_url: "example.com/else".into(), ..Any::default() }, runc_any()] {
        sent.extensions.push(Extension { value: MessageField::some(any), ..Extension::default() });
    }
    let bytes = sent.write_to_bytes().unwrap();
    let question = Question::parse(&bytes, "n", "c").unwrap();
    assert_eq!(question.options, Some(runc_any()));
    assert_eq!(question.socket_dir(), Some("/run/s"));
    assert_eq!(question.ttrpc_address(), Some("/t"));
    assert_eq!(question.daemon(), Some((2, 3)));
    let mut flags = Flags { publish_binary: "/own".into(), ..Flags::default() };
    question.complete(&mut flags);
    assert_eq!((flags.address.as_str(), flags.publish_binary.to_str()), ("/g", Some("/own")));
    assert!(flags.debug, "H9");
    assert!(Question::parse(&bytes, "other", "c").map_or(true, |q| q.params.is_none()));
    assert!(Question::parse(&bytes, "n", "other").map_or(true, |q| q.params.is_none()));
}

#[test]
fn what_is_neither_is_refused() {
    let error = Question::parse(b"\x0a\x7fcut", "n", "c").unwrap_err();
    assert!(matches!(error, BootstrapError::Malformed { bytes: 5, .. }), "{error}");
}

#[test]
fn stdin_is_bounded() {
    assert_eq!(read(&b"abc"[..]).unwrap(), b"abc");
    assert!(matches!(read(io::repeat(0)), Err(BootstrapError::TooLong)));
    let full = usize::try_from(MAX_QUESTION).unwrap();
    assert_eq!(read(io::repeat(0).take(MAX_QUESTION)).unwrap().len(), full);
}

#[test]
fn h2_each_generation_gets_the_dialect_it_takes() {
    let old = Question::default();
    let new = Question { options: None, params: Some(params("c", "n")) };
    let table = [
        (&old, None, None, Dialect::Plain),
        (&old, None, Some((1, 6)), Dialect::Plain),
        (&old, Some("2"), Some((1, 6)), Dialect::Plain),
        (&old, Some("2"), None, Dialect::Json),
        (&old, Some("2"), Some((1, 7)), Dialect::Json),
        (&old, Some("2"), Some((2, 1)), Dialect::Json),
        (&old, Some("3"), Some((2, 2)), Dialect::Json),
        (&old, Some("1"), None, Dialect::Plain),
        (&old, Some("x"), None, Dialect::Plain),
        (&new, Some("2"), None, Dialect::Result),
        (&new, None, Some((2, 3)), Dialect::Result),
    ];
    for (question, max, daemon, expected) in table {
        assert_eq!(choose(question, max, daemon), expected, "{max:?} {daemon:?}");
    }
}

#[test]
fn h4_answers_byte_for_byte() {
    assert_eq!(answer(Dialect::Plain, TaskApi::V2, "unix:///s/a").unwrap(), b"unix:///s/a");
    assert_eq!(
        answer(Dialect::Json, TaskApi::V2, "unix:///s/a").unwrap(),
        br#"{"version":2,"address":"unix:///s/a","protocol":"ttrpc"}"#
    );
    assert_eq!(
        answer(Dialect::Result, TaskApi::V2, "unix:///s/a").unwrap(),
        b"\x08\x02\x12\x0bunix:///s/a\x1a\x05ttrpc",
        "field 1 is the version, 2 the address, 3 the protocol"
    );
    assert_eq!(
        answer(Dialect::Json, TaskApi::V3, "unix:///s/a").unwrap(),
        br#"{"version":3,"address":"unix:///s/a","protocol":"ttrpc"}"#
    );
    assert_eq!(
        answer(Dialect::Result, TaskApi::V3, "unix:///s/a").unwrap(),
        b"\x08\x03\x12\x0bunix:///s/a\x1a\x05ttrpc"
    );
}

#[test]
fn h4_no_answer_begins_or_ends_in_white_space() {
    for dialect in [Dialect::Plain, Dialect::Json, Dialect::Result] {
        for length in 0..200 {
            let bytes = answer(dialect, TaskApi::V3, &format!("unix:///{}", "x".repeat(length))).unwrap();
            assert_eq!(bytes.trim_ascii().len(), bytes.len(), "{dialect:?} {length}");
        }
    }
}

#[test]
fn h4_version_3_is_answered_to_those_alone_who_take_it() {
    for (dialect, daemon, taken) in [
        (Dialect::Plain, Some((2, 1)), TaskApi::V2),
        (Dialect::Json, None, TaskApi::V2),
        (Dialect::Json, Some((1, 7)), TaskApi::V2),
        (Dialect::Json, Some((2, 0)), TaskApi::V3),
        (Dialect::Json, Some((3, 0)), TaskApi::V3),
        (Dialect::Result, None, TaskApi::V3),
    ] {
        assert_eq!(version(dialect, TaskApi::V3, daemon), taken, "{dialect:?} {daemon:?}");
        assert_eq!(version(dialect, TaskApi::V2, daemon), TaskApi::V2);
    }
}

#[test]
fn versions_of_daemons_are_understood() {
    for (text, version) in [
        ("1.6.20~ds1", Some((1, 6))),
        ("v2.0.0-rc.1", Some((2, 0))),
        ("1.7.24+unknown", Some((1, 7))),
        ("2.3-beta", Some((2, 3))),
        ("", None),
        ("dev", None),
        ("2", None),
        ("2.x", None),
    ] {
        assert_eq!(daemon_version(text), version, "{text}");
    }
}

#[test]
fn k7_the_socket_depends_on_containerd_and_group_and_always_fits() {
    let path = socket_path("/run/containerd/containerd.sock", "g", None).unwrap();
    assert_eq!(path.parent().unwrap(), Path::new("/run/containerd/s"));
    assert_eq!(path.file_name().unwrap().len(), 64);
    assert_eq!(path, socket_path("/run/containerd/containerd.sock", "g", None).unwrap());
    assert_ne!(path, socket_path("/run/other.sock", "g", None).unwrap());
    assert_ne!(socket_path("a", "bc", None).unwrap(), socket_path("ab", "c", None).unwrap());
    // printf 'a\0b' | sha256sum
    let known = "/run/containerd/s/59b271ae1bbcb1d31d41929817f4b16fb439eb4f31520b5ad1d5ce98920a7138";
    assert_eq!(socket_path("a", "b", None).unwrap(), Path::new(known));

    let longest = format!("/{}", "d".repeat(41));
    let path = socket_path("a", "b", Some(&longest)).unwrap();
    assert_eq!(path.as_os_str().len(), 107);
    assert!(std::os::unix::net::SocketAddr::from_pathname(&path).is_ok(), "the kernel takes it");
    assert!(matches!(
        socket_path("a", "b", Some(&format!("{longest}d"))),
        Err(BootstrapError::DirectoryTooLong { length: 43, max: 42, .. })
    ));
    for bad in ["", "run/s", "/a\0b"] {
        assert!(matches!(socket_path("a", "b", Some(bad)), Err(BootstrapError::DirectoryNotAbsolute(_))));
    }
    assert_eq!(address_of(Path::new("/s/a")), "unix:///s/a");
}

proptest! {
    #[test]
    fn no_question_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = Question::parse(&bytes, "n", "c");
    }
}
