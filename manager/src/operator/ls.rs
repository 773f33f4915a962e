//! `gam ls`: which containers there are, and who has them.

use std::process::ExitCode;

use serde::Serialize;

use super::cost::{self, Cost};
use super::managers::{self, Found};
use super::table::{Table, age, bytes, duration};
use super::{OperatorError, print, print_json};
use crate::control::{Answer, Listed, Question};

/// How much of an id of 64 hexadecimal digits is shown, as crictl does.
const SHORT: usize = 13;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Only of this group: its name, the last word of it, or the beginning of its directory's name
    #[arg(long)]
    group: Option<String>,
    /// Only of this tenant: a Kubernetes namespace, or CONTAINERD-NAMESPACE/KUBERNETES-NAMESPACE
    #[arg(long)]
    tenant: Option<String>,
}

/// A manager in a list.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ManagerRow {
    pub(super) pid: Option<u32>,
    pub(super) version: Option<String>,
    pub(super) revision: Option<String>,
    pub(super) group: Option<String>,
    pub(super) directory: String,
    /// `running`, `dead`, `silent`, `failed` or `older`.
    pub(super) state: &'static str,
    /// What is wrong with it; none if nothing is.
    pub(super) message: Option<String>,
    pub(super) started_ms: Option<u64>,
    pub(super) rss: Option<u64>,
    pub(super) containers: Option<usize>,
}

/// A container in a list.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ContainerRow {
    #[serde(flatten)]
    pub(super) listed: Listed,
    #[serde(flatten)]
    pub(super) cost: Cost,
    /// The pid of its manager.
    pub(super) manager: Option<u32>,
    pub(super) group: String,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, OperatorError> {
    let found = managers::ask(args.group.as_deref(), &Question::List)?;
    managers::complain(found.iter().filter(|found| found.has_failed()));
    let managers: Vec<ManagerRow> = found.iter().map(manager).collect();
    let mut containers: Vec<ContainerRow> = found.iter().flat_map(containers).collect();
    containers.retain(|row| is_of(row.listed.tenant.as_deref(), args.tenant.as_deref()));
    if args.json {
        print_json(&serde_json::json!({"managers": managers, "containers": containers}))?;
    } else if args.quiet {
        print(&containers.iter().map(|row| format!("{}\n", row.listed.id)).collect::<String>())?;
    } else {
        print(&text(&managers, &containers, args.no_trunc))?;
    }
    Ok(managers::code(&found))
}

/// Whether a container's tenant is the one that is wanted; none is any.
fn is_of(tenant: Option<&str>, wanted: Option<&str>) -> bool {
    let Some(wanted) = wanted else { return true };
    tenant.is_some_and(|tenant| tenant == wanted || tenant.rsplit('/').next() == Some(wanted))
}

/// A manager's row.
pub(super) fn manager(found: &Found) -> ManagerRow {
    let identity = found.identity.as_ref();
    let pid = found.pid();
    let is_dead = matches!(found.answer, Err(managers::Silence::Dead));
    ManagerRow {
        pid,
        version: identity.map(|identity| identity.version.clone()),
        revision: identity.map(|identity| identity.revision.clone()),
        group: found.name().map(str::to_owned),
        directory: found.directory.display().to_string(),
        state: found.answer.as_ref().err().map_or("running", managers::Silence::word),
        message: found.answer.as_ref().err().map(managers::Silence::text),
        started_ms: identity.map(|identity| identity.started_ms),
        rss: pid.filter(|_| !is_dead).and_then(|pid| cost::of_process(pid).memory),
        containers: match &found.answer {
            Ok(Answer::Listed(listed)) => Some(listed.len()),
            _ => None,
        },
    }
}

/// The rows of a manager's containers, with what each uses.
pub(super) fn containers(found: &Found) -> Vec<ContainerRow> {
    let Ok(Answer::Listed(listed)) = &found.answer else { return Vec::new() };
    let row = |listed: &Listed| ContainerRow {
        listed: listed.clone(),
        cost: cost::of_cgroup(listed.cgroup.as_ref()),
        manager: found.pid(),
        group: found.group(),
    };
    listed.iter().map(row).collect()
}

fn text(managers: &[ManagerRow], containers: &[ContainerRow], whole: bool) -> String {
    let mut table =
        Table::new(&["CONTAINER", "NAMESPACE", "TENANT", "STATE", "PID", "AGE", "MEMORY", "PIDS", "MANAGER"]);
    for row in containers {
        let listed = &row.listed;
        table.row([
            if whole { listed.id.clone() } else { short(&listed.id) },
            listed.namespace.clone(),
            listed.tenant.clone().unwrap_or_else(none),
            listed.state.clone(),
            listed.pid.to_string(),
            since(listed.created_ms),
            row.cost.memory.map_or_else(none, bytes),
            row.cost.pids.map_or_else(none, |pids| pids.to_string()),
            row.manager.map_or_else(none, |pid| pid.to_string()),
        ]);
    }
    let mut below = Table::new(&["MANAGER", "VERSION", "GROUP", "STATE", "AGE", "RSS", "CONTAINERS"]);
    for row in managers {
        let group = row.group.clone().unwrap_or_else(|| row.directory.clone());
        let state = match &row.message {
            Some(message) => format!("{} ({message})", row.state),
            None => row.state.to_owned(),
        };
        below.row([
            row.pid.map_or_else(none, |pid| pid.to_string()),
            row.version.clone().unwrap_or_else(none),
            group,
            state,
            row.started_ms.map_or_else(none, since),
            row.rss.map_or_else(none, bytes),
            row.containers.map_or_else(none, |count| count.to_string()),
        ]);
    }
    format!("{}\n{}", table.text(), below.text())
}

/// How long ago a time was; 0 is that of an older manager, which does not tell.
fn since(ms: u64) -> String {
    if ms == 0 { none() } else { duration(age(ms)) }
}

/// What stands where nothing is known.
pub(super) fn none() -> String {
    "-".to_owned()
}

/// An id as short as it is told apart by: that of CRI and Docker is 64 hexadecimal digits.
pub(super) fn short(id: &str) -> String {
    let is_hash = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash { id.chars().take(SHORT).collect() } else { id.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_named_with_or_without_containerds_namespace() {
        for (tenant, wanted, expected) in [
            (Some("k8s.io/payments"), None, true),
            (Some("k8s.io/payments"), Some("payments"), true),
            (Some("k8s.io/payments"), Some("k8s.io/payments"), true),
            (Some("k8s.io/payments"), Some("k8s.io"), false),
            (Some("default"), Some("default"), true),
            (None, Some("payments"), false),
        ] {
            assert_eq!(is_of(tenant, wanted), expected, "{tenant:?} {wanted:?}");
        }
    }

    #[test]
    fn only_hashes_are_cut() {
        assert_eq!(short(&"ab".repeat(32)), "ababababababa");
        assert_eq!(short("a-container-of-a-person"), "a-container-of-a-person");
    }
}
