//! Rows K: many tenants, one process.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use gam_protos::types::Status;
use gam_tests::shim::bundle::Config;
use gam_tests::shim::fake::on;
use gam_tests::shim::process::Proc;
use gam_tests::shim::{Subject, code, container, together, wire, within};
use ttrpc::Code;

use crate::cases;

async fn the_same_id_twice(lab: &gam_tests::shim::Lab) {
    let other = format!("{}-other", lab.namespace());
    let a = lab.plan("same").fake().run().await;
    let b = lab.plan("same").fake().namespace(&other).run().await;
    assert_ne!(a.pid(), b.pid());
    a.kill("", 9).await.unwrap();
    assert_eq!(a.wait("").await.unwrap().exit_status, 137);
    assert_eq!(b.status("").await.unwrap(), Status::RUNNING);
    a.delete("").await.unwrap();
    a.remove().await;
    assert_eq!(b.status("").await.unwrap(), Status::RUNNING);
    assert!(Proc::of(b.pid()).is_some_and(Proc::alive));
    assert_eq!(b.pids().await.unwrap(), [b.pid()]);
}

cases! {
    async fn k1_the_same_id_in_two_namespaces(lab) {
        the_same_id_twice(&lab).await;
    }

    async fn k1_the_same_id_in_two_namespaces_of_one_manager(lab) {
        std::fs::write(
            lab.config_file(),
            "linger = \"1s\"\ngrouping = \"node\"\n[events]\npatience = \"3s\"\n",
        )
        .unwrap();
        the_same_id_twice(&lab).await;
    }

    async fn k2_racing_starts_make_one_manager(lab) {
        let all = (0..8).map(|n| lab.plan(&format!("k{n}")).fake().group("k0").try_boot());
        let all = together(all).await;
        let mut booted = Vec::new();
        for one in all {
            booted.push(one.unwrap());
        }
        assert!(booted.iter().all(|c| c.address() == booted[0].address()));
        let mut shims = Vec::new();
        for c in &booted {
            shims.push(c.connect().await.unwrap().shim_pid);
        }
        assert!(shims.iter().all(|shim| *shim == shims[0]), "{shims:?}");
        for c in &booted {
            c.create().await.unwrap();
            c.start("").await.unwrap();
        }
    }

    async fn k3_a_manager_that_leaves_is_not_answered(lab) {
        for n in 0..12_u64 {
            let c = lab.plan(&format!("k{n}")).fake().script("exit 0").run().await;
            c.wait("").await.unwrap();
            c.delete("").await.unwrap();
            c.remove().await;
            // Round about the moment when the manager, with a linger of one second, leaves.
            tokio::time::sleep(Duration::from_millis(900 + n * 25)).await;
        }
    }

    async fn k5_a_corrupt_bundle_is_the_bundle_s_own_trouble(lab) {
        let good = lab.plan("good").fake().group("good").run().await;
        let broken: [(&str, Config); 4] = [
            ("missing", Config::Missing),
            ("empty", Config::Raw(Vec::new())),
            ("cut", Config::Raw(b"{\"ociVersion\": \"1.0.2\", \"process\": {".to_vec())),
            (
                "wrong",
                Config::Raw(
                    b"{\"process\": 7, \"linux\": [], \"annotations\": \"x\", \"root\": null}".to_vec(),
                ),
            ),
        ];
        for (id, config) in broken {
            let Ok(c) = lab.plan(id).group("good").config(config).try_boot().await else { continue };
            let created = within(Duration::from_secs(20), "Create", c.create()).await;
            assert_ne!(code(&created), Code::OK, "{id}");
            c.remove().await;
            assert_eq!(good.status("").await.unwrap(), Status::RUNNING);
        }
    }

    async fn k5_a_runtime_that_hangs_is_the_tenant_s_own_trouble(lab) {
        let good = lab.plan("good").fake().group("good").run().await;
        lab.fake().set(&[on("create").of("stuck").before(15_000)]);
        let stuck = lab.plan("stuck").fake().group("good").boot().await;
        let creating = tokio::spawn({
            let stuck = stuck.clone();
            async move { stuck.create().await }
        });
        lab.fake().begun("create", 2).await;
        for n in 0..5 {
            let c = lab.plan(&format!("next{n}")).fake().group("good").script("exit 0").run().await;
            within(Duration::from_secs(5), "Wait", c.wait("")).await.unwrap();
            within(Duration::from_secs(5), "Delete", c.delete("")).await.unwrap();
            c.remove().await;
        }
        good.state("").await.unwrap();
        assert!(!creating.is_finished());
        let _ = creating.await.unwrap();
    }

    async fn k8_ids_that_are_no_ids_are_refused(lab) {
        let c = lab.plan("k8").fake().run().await;
        let long = "x".repeat(77);
        for id in ["../k8", "a/b", "..", ".", "", "a\0b", "-flag", "a b", long.as_str()] {
            let mut request = c.create_request();
            request.id = id.to_owned();
            let outcome = c.client().create(c.context(), &request).await;
            assert_eq!(code(&outcome), Code::INVALID_ARGUMENT, "Create of {id:?}: {outcome:?}");
            if !id.is_empty() {
                let outcome = c.exec(id, &["true"]).await;
                assert_eq!(code(&outcome), Code::INVALID_ARGUMENT, "Exec of {id:?}: {outcome:?}");
            }
        }
        let mut request = gam_protos::task::StateRequest::new();
        request.id = "k8".into();
        let outcome = c.client().state(container::context("../../etc"), &request).await;
        assert!(matches!(code(&outcome), Code::INVALID_ARGUMENT | Code::NOT_FOUND), "{outcome:?}");
        assert_eq!(c.status("").await.unwrap(), Status::RUNNING);
    }

    async fn k9_the_socket_is_root_s_alone(lab) {
        let c = lab.plan("k9").fake().run().await;
        let socket = wire::socket(c.address());
        let meta = std::fs::metadata(&socket).unwrap();
        assert_eq!((meta.permissions().mode() & 0o777, meta.uid()), (0o600, 0));
        let directory = std::fs::metadata(socket.parent().unwrap()).unwrap().permissions().mode() & 0o777;
        assert!(matches!(directory & 0o077, 0 | 0o011), "{directory:o}");
        if lab.subject() == Subject::Gam {
            for entry in std::fs::read_dir(lab.directory().join("run")).unwrap().flatten() {
                let mode = entry.metadata().unwrap().permissions().mode() & 0o077;
                assert!(matches!(mode, 0 | 0o011), "{}: {mode:o}", entry.path().display());
            }
        }
        // Another user: a copy of the binary that everybody can reach, and the same call as root to prove the call.
        let test = std::env::current_exe().unwrap();
        let binary = test.parent().unwrap().parent().unwrap().join("fake-runtime");
        let copy = std::env::temp_dir().join(format!("connect-{}", lab.namespace()));
        std::fs::copy(binary, &copy).unwrap();
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
        let run = |uid: u32| {
            let mut command = Command::new(&copy);
            command.arg("__connect").arg(&socket).uid(uid).gid(uid).current_dir("/");
            command.output().unwrap()
        };
        let (root, other) = (run(0), run(65_534));
        std::fs::remove_file(&copy).unwrap();
        assert!(root.status.success(), "{root:?}");
        assert!(!other.status.success(), "another user was served");
    }
}
