use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;

use super::*;

const SHIM: &str = "/usr/bin/containerd-shim-gam-v2";

fn parse_words(words: &[&str]) -> Result<Role, CliError> {
    parse(words.iter().map(OsString::from))
}

/// What a shim that is called with `words` answers: its exit code and the first line of its stderr.
fn refused(words: &[&str]) -> (u8, String) {
    let all = [&[SHIM], words].concat();
    let error = parse_words(&all).unwrap_err();
    (error.exit_code(), error.text(SHIM.as_ref()).lines().next().unwrap().to_owned())
}

#[test]
fn containerds_own_call_is_understood() {
    let words = [
        SHIM,
        "-namespace",
        "k8s.io",
        "-address",
        "/run/containerd/containerd.sock",
        "-publish-binary",
        "/usr/bin/containerd",
        "-id",
        "abc",
        "-bundle",
        "/run/b",
        "-debug",
        "start",
    ];
    let expected = Flags {
        namespace: "k8s.io".into(),
        address: "/run/containerd/containerd.sock".into(),
        publish_binary: "/usr/bin/containerd".into(),
        id: "abc".into(),
        bundle: "/run/b".into(),
        debug: true,
        ..Flags::default()
    };
    assert_eq!(parse_words(&words).unwrap(), Role::Start(expected));
}

#[test]
fn the_four_forms_of_a_flag_are_one_and_the_last_wins() {
    for form in [&["-id", "x"][..], &["-id=x"], &["--id", "x"], &["--id=x"], &["-id", "y", "-id=x"]] {
        let words = [&[SHIM, "-namespace=n"], form, &["delete"]].concat();
        let Role::Delete(flags) = parse_words(&words).unwrap() else { panic!("{form:?}") };
        assert_eq!(flags.id, "x", "{form:?}");
    }
}

#[test]
fn a_value_may_look_like_a_flag_and_flags_end_at_the_first_word() {
    let words = [SHIM, "-namespace", "n", "-id", "c", "-address", "-debug", "start", "-debug", "--bogus"];
    let Role::Start(flags) = parse_words(&words).unwrap() else { panic!() };
    assert_eq!((flags.address.as_str(), flags.debug), ("-debug", false));
    let words = [SHIM, "-namespace", "n", "-id", "c", "--", "start"];
    assert!(matches!(parse_words(&words).unwrap(), Role::Start(_)));
}

#[test]
fn the_bundle_is_the_working_directory_unless_named() {
    let here = std::env::current_dir().unwrap();
    for (bundle, dir) in [("", here.clone()), ("/b", "/b".into()), ("b", here.join("b"))] {
        let flags = Flags { bundle: bundle.into(), ..Flags::default() };
        assert_eq!(flags.bundle_dir().unwrap(), dir, "{bundle}");
    }
}

#[test]
fn switches_take_a_value_only_after_an_equals_sign() {
    for (word, debug) in [("-debug", true), ("-debug=T", true), ("--debug=0", false), ("-debug=False", false)]
    {
        let Role::Start(flags) = parse_words(&[SHIM, "-namespace=n", "-id=c", word, "start"]).unwrap() else {
            panic!("{word}")
        };
        assert_eq!(flags.debug, debug, "{word}");
    }
}

#[test]
fn bad_flags_are_refused_in_gos_words_with_2() {
    let of = |code: u8, text: &str| (code, text.to_owned());
    assert_eq!(refused(&["-bogus", "start"]), of(2, "flag provided but not defined: -bogus"));
    assert_eq!(refused(&["-id"]), of(2, "flag needs an argument: -id"));
    assert_eq!(refused(&["---id=x"]), of(2, "bad flag syntax: ---id=x"));
    assert_eq!(refused(&["-=x"]), of(2, "bad flag syntax: -=x"));
    assert_eq!(refused(&["-debug=yes"]), of(2, "invalid boolean value \"yes\" for -debug: parse error"));
    assert_eq!(refused(&["stop"]), of(2, "unknown action \"stop\": it is start or delete"));
    assert_eq!(refused(&[]).0, 2);
    assert!(
        parse_words(&[SHIM, "-bogus"]).unwrap_err().text(SHIM.as_ref()).contains("\n  -address string\n")
    );
}

#[test]
fn k8_ids_that_could_leave_a_directory_end_start_and_delete() {
    for id in ["", "..", "a/b", &"a".repeat(77)] {
        for action in ["start", "delete"] {
            let (code, text) = refused(&["-namespace=n", "-id", id, action]);
            assert_eq!(code, 1);
            assert!(text.starts_with("containerd-shim-gam-v2: the id"), "{text}");
            assert_eq!(refused(&["-id=c", "-namespace", id, action]).0, 1);
        }
    }
}

#[test]
fn the_name_or_the_first_argument_picks_the_role() {
    assert_eq!(parse_words(&[SHIM, "-v"]).unwrap(), Role::Version);
    assert_eq!(parse_words(&[SHIM, "-version", "start"]).unwrap(), Role::Version);
    assert_eq!(parse_words(&["gam", "--version"]).unwrap(), Role::Version);
    assert_eq!(parse_words(&[SHIM, "--help"]).unwrap(), Role::Help);
    assert_eq!(parse_words(&["gam"]).unwrap(), Role::Help);
    assert!(matches!(parse_words(&[SHIM, "-info"]).unwrap(), Role::Info(_)), "without namespace or id");
    assert!(matches!(parse_words(&["gam", "-namespace=n", "-id=c", "start"]).unwrap(), Role::Start(_)));
    assert_eq!(parse_words(&["gam", "ls", "-a"]).unwrap(), Role::Operator(vec!["ls".into(), "-a".into()]));
    assert!(parse_words(&[SHIM, "ls"]).is_err());
    let manager = [SHIM, "manager", "--directory=/run/gam/x", "--group", "g"];
    assert!(matches!(parse_words(&manager).unwrap(), Role::Manager(_)));
}

#[test]
fn the_manager_refuses_what_it_does_not_know_with_2_and_help_is_no_error() {
    for words in [&["--directory=/d"][..], &["--directory=/d", "--group=g", "--bogus"], &["--listener=x"]] {
        let error = parse_words(&[&["gam", "manager"], words].concat()).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{words:?}");
    }
    assert_eq!(parse_words(&["gam", "manager", "--help"]).unwrap_err().exit_code(), 0);
}

#[test]
fn the_version_is_printed_as_containerds_shim_prints_it() {
    let text = version("/x/containerd-shim-gam-v2".as_ref());
    assert!(text.starts_with("containerd-shim-gam-v2:\n  Version:  "), "{text}");
    assert!(text.contains("\n  Revision: "));
}

prop_compose! {
    fn any_args()(
        directory in "[^\0]{1,20}", group in ".{0,20}", socket in proptest::option::of("[^\0]{1,9}"),
        listener in proptest::option::of(0..i32::MAX), address in ".{0,20}", ttrpc_address in ".{0,20}",
        publish_binary in proptest::collection::vec(1_u8..=255, 1..9), debug in any::<bool>(),
    ) -> ManagerArgs {
        ManagerArgs {
            directory: directory.into(), group, socket: socket.map(Into::into), listener, address, ttrpc_address,
            publish_binary: Some(OsString::from_vec(publish_binary).into()), config: None, debug,
        }
    }
}

proptest! {
    #[test]
    fn a_managers_arguments_come_back_as_they_went(args in any_args()) {
        let argv = std::iter::once(OsString::from("gam")).chain(args.to_args());
        prop_assert_eq!(parse(argv).unwrap(), Role::Manager(args));
    }

    #[test]
    fn no_command_line_panics(words in proptest::collection::vec("[-=a-z]{0,8}|-id|start|-debug", 0..6)) {
        let _ = parse(std::iter::once(OsString::from(SHIM)).chain(words.into_iter().map(OsString::from)));
    }
}
