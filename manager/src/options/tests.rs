use gam_protos::any::pack;
use proptest::prelude::*;

use super::*;

const SYSTEMD_PATH: &str = "kubepods-pod1.slice:cri-containerd:abc";

fn toml_any(body: &str, path: &str) -> Any {
    let mut message = runtimeoptions::Options::new();
    message.config_body = body.as_bytes().to_vec();
    message.config_path = path.into();
    pack(&message).unwrap()
}

fn toml(body: &str) -> Result<Named, OptionsError> {
    Named::from_any(&toml_any(body, ""))
}

#[test]
fn h11_runc_options_and_toml_say_the_same() {
    let mut message = runc_options::Options::new();
    message.no_pivot_root = true;
    message.no_new_keyring = true;
    message.shim_cgroup = "/shim".into();
    message.io_uid = 7;
    message.io_gid = 8;
    message.binary_name = "crun".into();
    message.root = "/run/x".into();
    message.systemd_cgroup = true;
    message.criu_image_path = "/i".into();
    message.criu_work_path = "/w".into();
    message.task_api_address = "a".into();
    message.task_api_version = 3;
    let mut any = pack(&message).unwrap();
    let expected = Options {
        no_pivot_root: true,
        no_new_keyring: true,
        shim_cgroup: "/shim".into(),
        io_uid: 7,
        io_gid: 8,
        binary_name: "crun".into(),
        root: "/run/x".into(),
        systemd_cgroup: true,
        criu_image_path: "/i".into(),
        criu_work_path: "/w".into(),
        task_api_address: "a".into(),
        task_api_version: 3,
    };
    assert_eq!(Named::from_any(&any).unwrap().resolve(""), expected);
    any.type_url.insert_str(0, "type.googleapis.com/");
    assert_eq!(Named::from_any(&any).unwrap().resolve(""), expected);

    let body = r#"
        TypeUrl = "anything"
        NoPivotRoot = true
        NoNewKeyring = true
        ShimCgroup = "/shim"
        IoUid = 7
        IoGid = 8
        BinaryName = "crun"
        Root = "/run/x"
        SystemdCgroup = true
        CriuImagePath = "/i"
        CriuWorkPath = "/w"
        TaskApiAddress = "a"
        TaskApiVersion = 3
    "#;
    assert_eq!(toml(body).unwrap().resolve(""), expected);

    let mut file = tempfile::NamedTempFile::new().unwrap();
    io::Write::write_all(&mut file, body.as_bytes()).unwrap();
    let named = Named::from_any(&toml_any("", file.path().to_str().unwrap())).unwrap();
    assert_eq!(named.resolve(""), expected);
}

#[test]
fn an_unknown_key_or_a_wrong_value_is_refused_by_name_and_line() {
    let text = toml("BinaryName = \"runc\"\nBinryName = \"x\"").unwrap_err().to_string();
    assert!(text.contains("line 2: unknown field `BinryName`"), "{text}");
    let text = toml("\n\nSystemdCgroup = \"yes\"").unwrap_err().to_string();
    assert!(text.contains("line 3") && text.contains("boolean"), "{text}");
    let text = toml("a = [").unwrap_err().to_string();
    assert!(text.contains("line 1"), "{text}");
    assert!(toml("[options]\nRoot = \"/r\"").unwrap_err().to_string().contains("`options`"));
    assert!(toml("IoUid = -1").is_err());
}

#[test]
fn files_that_are_none_are_refused_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let large = dir.path().join("large");
    std::fs::File::create(&large).unwrap().set_len((1 << 20) + 1).unwrap();
    let missing = dir.path().join("missing");
    let of = |path: &str| Named::from_any(&toml_any("", path)).unwrap_err();
    assert!(matches!(of("etc/options.toml"), OptionsError::BadFile { .. }));
    for path in [dir.path(), &fifo, &large] {
        assert!(matches!(of(path.to_str().unwrap()), OptionsError::BadFile { .. }), "{path:?}");
    }
    let text = of(missing.to_str().unwrap()).to_string();
    assert!(text.contains("missing") && text.contains("No such file"), "{text}");
}

#[test]
fn other_types_and_broken_messages_are_refused() {
    let other = Any { type_url: "x/containerd.runc.v2.Options".into(), ..Any::default() };
    assert!(!is_options(&other));
    assert!(matches!(Named::from_any(&other), Err(OptionsError::UnknownType(_))));
    let broken =
        Any { type_url: "containerd.runc.v1.Options".into(), value: b"\x32\x7fx".to_vec(), ..Any::default() };
    assert!(is_options(&broken));
    assert!(matches!(Named::from_any(&broken), Err(OptionsError::Malformed { .. })));
}

#[test]
fn systemd_is_inferred_only_where_nothing_names_it() {
    assert!(Named::default().resolve(SYSTEMD_PATH).systemd_cgroup, "1.6 sends only an empty path");
    assert!(toml("BinaryName = \"crun\"").unwrap().resolve(SYSTEMD_PATH).systemd_cgroup);
    assert!(!toml("SystemdCgroup = false").unwrap().resolve(SYSTEMD_PATH).systemd_cgroup);
    let runc = Named::from_any(&pack(&runc_options::Options::new()).unwrap()).unwrap();
    assert!(!runc.resolve(SYSTEMD_PATH).systemd_cgroup, "runc's own options do name it");
}

#[test]
fn a_sandboxed_container_falls_back_to_its_sandboxs_options() {
    let mut message = runc_options::Options::new();
    message.task_api_address = "unix:///s".into();
    message.task_api_version = 2;
    let own = Named::from_any(&pack(&message).unwrap()).unwrap();
    let sandbox = toml("SystemdCgroup = true\nBinaryName = \"crun\"\nTaskApiAddress = \"other\"").unwrap();
    let options = own.or(&sandbox).resolve("");
    assert!(options.systemd_cgroup);
    assert_eq!((options.binary_name.as_str(), options.task_api_address.as_str()), ("crun", "unix:///s"));
}

#[test]
fn only_slice_prefix_name_is_systemds() {
    for path in [SYSTEMD_PATH, "system.slice:docker:0", "a.slice::b"] {
        assert!(infer_systemd(path), "{path}");
    }
    for path in [
        "",
        "/kubepods/pod1/abc",
        "/default/a:b:c",
        "a.slice:b",
        "a.slice:b:c:d",
        "a.slice:b:",
        "x:y:z",
        "a.slice:b/c:d",
    ] {
        assert!(!infer_systemd(path), "{path}");
    }
}

#[test]
fn j5_a_checkpoint_without_options_has_all_of_them_off() {
    assert_eq!(checkpoint(None).unwrap(), runc_options::CheckpointOptions::new());
    assert_eq!(checkpoint(Some(&Any::new())).unwrap(), runc_options::CheckpointOptions::new());
    assert_eq!(Named::from_any(&Any::new()).unwrap(), Named::default());
    let mut message = runc_options::CheckpointOptions::new();
    message.exit = true;
    message.parent_path = "/p".into();
    assert_eq!(checkpoint(Some(&pack(&message).unwrap())).unwrap(), message);
    assert!(checkpoint(Some(&toml_any("", ""))).is_err());
}

proptest! {
    #[test]
    fn no_options_panic(value in proptest::collection::vec(any::<u8>(), 0..64), body in ".{0,40}") {
        for type_url in ["containerd.runc.v1.Options", "runtimeoptions.v1.Options"] {
            let _ = Named::from_any(&Any { type_url: type_url.into(), value: value.clone(), ..Any::default() });
        }
        let _ = toml(&body);
        let _ = infer_systemd(&body);
    }
}
