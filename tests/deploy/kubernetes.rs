//! The objects for Kubernetes. There is no API server here: kubectl reads the YAML, the fields of the DaemonSet are checked by
//! kubectl's own types, those of the others by the types below, which hold what Kubernetes' API has of what is used.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use gam_tests::suite::Test;
use serde::Deserialize;
use serde_json::Value;

use crate::deploy;

gam_tests::tests![
    every_object_is_what_the_api_has,
    the_daemon_set_has_no_field_that_kubectl_does_not_know,
    the_installer_has_no_privilege_and_no_token,
    objects_fit_each_other,
];

/// The objects of a file, as JSON, by kubectl's parser.
fn objects(name: &str) -> Vec<Value> {
    let mut command = Command::new("kubectl");
    command
        .args(["label", "--local", "-o", "json", "-f"])
        .arg(deploy("kubernetes").join(name))
        .arg("parsed=yes");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    let mut objects: Vec<Value> =
        serde_json::Deserializer::from_slice(&output.stdout).into_iter().map(Result::unwrap).collect();
    if let [list] = objects.as_slice() {
        if let Some(items) = list["items"].as_array() {
            objects = items.clone();
        }
    }
    for object in &mut objects {
        let labels = object["metadata"]["labels"].as_object_mut().unwrap();
        assert_eq!(labels.remove("parsed"), Some("yes".into()));
    }
    objects
}

const FILES: [&str; 3] = ["installer.yaml", "runtimeclass.yaml", "podmonitor.yaml"];

fn all() -> Vec<Value> {
    FILES.iter().flat_map(|name| objects(name)).collect()
}

fn of_kind(kind: &str) -> Value {
    let mut found: Vec<Value> = all().into_iter().filter(|object| object["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind}");
    found.remove(0)
}

type Map = BTreeMap<String, String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[allow(dead_code)]
struct Meta {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    labels: Map,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[allow(dead_code)]
struct Plain {
    api_version: String,
    kind: String,
    metadata: Meta,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[allow(dead_code)]
struct Account {
    api_version: String,
    kind: String,
    metadata: Meta,
    automount_service_account_token: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[allow(dead_code)]
struct Class {
    api_version: String,
    kind: String,
    metadata: Meta,
    handler: String,
    scheduling: Scheduling,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[allow(dead_code)]
struct Scheduling {
    node_selector: Map,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[allow(dead_code)]
struct Monitor {
    api_version: String,
    kind: String,
    metadata: Meta,
    spec: MonitorSpec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[allow(dead_code)]
struct MonitorSpec {
    selector: Selector,
    pod_metrics_endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[allow(dead_code)]
struct Selector {
    match_labels: Map,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[allow(dead_code)]
struct Endpoint {
    port: String,
    path: String,
    interval: String,
    honor_labels: bool,
    relabelings: Vec<Relabeling>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[derive(Default)]
#[allow(dead_code)]
struct Relabeling {
    source_labels: Vec<String>,
    target_label: String,
    replacement: String,
    regex: String,
    action: Action,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    #[default]
    Replace,
    Labeldrop,
}

fn every_object_is_what_the_api_has(_: &Test) {
    for object in all() {
        let kind = object["kind"].as_str().unwrap().to_owned();
        let read = match (object["apiVersion"].as_str().unwrap(), kind.as_str()) {
            ("v1", "Namespace") => serde_json::from_value::<Plain>(object).map(drop),
            ("v1", "ServiceAccount") => serde_json::from_value::<Account>(object).map(drop),
            ("node.k8s.io/v1", "RuntimeClass") => serde_json::from_value::<Class>(object).map(drop),
            ("monitoring.coreos.com/v1", "PodMonitor") => serde_json::from_value::<Monitor>(object).map(drop),
            ("apps/v1", "DaemonSet") => Ok(()),
            other => panic!("{other:?} is not known"),
        };
        read.unwrap_or_else(|error| panic!("{kind}: {error}"));
    }
}

/// Fails where something of `wanted` is not in `got`.
fn lost(at: &str, wanted: &Value, got: &Value) -> Vec<String> {
    match (wanted, got) {
        (Value::Object(wanted), Value::Object(got)) => wanted
            .iter()
            .flat_map(|(key, value)| {
                lost(&format!("{at}.{key}"), value, got.get(key).unwrap_or(&Value::Null))
            })
            .collect(),
        (Value::Array(wanted), Value::Array(got)) if wanted.len() <= got.len() => wanted
            .iter()
            .zip(got)
            .enumerate()
            .flat_map(|(index, (wanted, got))| lost(&format!("{at}[{index}]"), wanted, got))
            .collect(),
        _ if wanted == got => Vec::new(),
        _ => vec![format!("{at} is {wanted}, and {got} in kubectl's types")],
    }
}

/// What a DaemonSet has become after it was read into kubectl's types and written again.
fn by_type(daemon_set: &Value) -> (bool, Value, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    serde_json::to_writer(&file, daemon_set).unwrap();
    let mut command = Command::new("kubectl");
    command.args(["set", "env", "--local", "-o", "json", "-f"]).arg(file.path()).arg("PARSED=yes");
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), serde_json::from_slice(&output.stdout).unwrap_or_default(), text)
}

fn the_daemon_set_has_no_field_that_kubectl_does_not_know(_: &Test) {
    let mut daemon_set = of_kind("DaemonSet");
    let (ok, typed, text) = by_type(&daemon_set);
    assert!(ok, "{text}");
    let found = lost("DaemonSet", &daemon_set, &typed);
    assert!(found.is_empty(), "{}", found.join("\n"));
    // The check itself: what is misspelt is lost, and what has another type is refused.
    daemon_set["spec"]["template"]["spec"]["hostPid"] = true.into();
    let found = lost("DaemonSet", &daemon_set, &by_type(&daemon_set).1);
    assert_eq!(found.len(), 1, "{found:?}");
    daemon_set["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = "1".into();
    assert!(!by_type(&daemon_set).0);
}

fn the_installer_has_no_privilege_and_no_token(_: &Test) {
    let daemon_set = of_kind("DaemonSet");
    let pod = &daemon_set["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    for namespace in ["hostNetwork", "hostPID", "hostIPC"] {
        assert_eq!(pod[namespace], Value::Null);
    }
    for group in ["initContainers", "containers"] {
        for container in pod[group].as_array().unwrap() {
            let security = &container["securityContext"];
            assert_eq!(security["privileged"], false);
            assert_eq!(security["allowPrivilegeEscalation"], false);
            assert_eq!(security["readOnlyRootFilesystem"], true);
            assert_eq!(security["capabilities"]["drop"][0], "ALL");
            assert_eq!(security["capabilities"]["add"], Value::Null);
        }
    }
    assert_eq!(pod["containers"][0]["volumeMounts"], Value::Null, "what stays has nothing of the node");
    assert_eq!(of_kind("ServiceAccount")["automountServiceAccountToken"], false);
}

fn objects_fit_each_other(_: &Test) {
    let (daemon_set, monitor, class) = (of_kind("DaemonSet"), of_kind("PodMonitor"), of_kind("RuntimeClass"));
    let template = &daemon_set["spec"]["template"];
    for selector in [&daemon_set["spec"]["selector"], &monitor["spec"]["selector"]] {
        assert!(lost("", &selector["matchLabels"], &template["metadata"]["labels"]).is_empty());
    }
    let pod = &template["spec"];
    assert_eq!(pod["serviceAccountName"], of_kind("ServiceAccount")["metadata"]["name"]);
    let namespace = of_kind("Namespace")["metadata"]["name"].clone();
    for object in [&daemon_set, &monitor, &of_kind("ServiceAccount")] {
        assert_eq!(object["metadata"]["namespace"], namespace);
    }
    let port = &pod["containers"][0]["ports"][0];
    assert_eq!(monitor["spec"]["podMetricsEndpoints"][0]["port"], port["name"]);
    let relabelings = monitor["spec"]["podMetricsEndpoints"][0]["relabelings"].to_string();
    assert!(relabelings.contains(&format!("$1:{}", port["containerPort"])), "{relabelings}");
    assert_eq!(class["handler"], "gam", "the name of the runtime in deploy/containerd");
    let (volumes, mounts) = (pod["volumes"].as_array().unwrap(), &pod["initContainers"][0]["volumeMounts"]);
    let mounts = mounts.as_array().unwrap();
    assert_eq!(volumes.len(), mounts.len());
    let root = &pod["initContainers"][0]["env"][0]["value"];
    for (volume, mount) in volumes.iter().zip(mounts) {
        assert_eq!(volume["name"], mount["name"]);
        let path: PathBuf = volume["hostPath"]["path"].as_str().unwrap().into();
        let inside = format!("{}{}", root.as_str().unwrap(), path.display());
        assert_eq!(mount["mountPath"], inside);
    }
}
