//! What tenants may have, and how their runtime commands take turns.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use gam_task::admission::Admission;
use gam_task::tenant::{Accounts, Limits};
use serde::{Deserialize, Serialize};

use super::values;

/// `[scheduler]`: how many runtime commands run at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scheduler {
    /// `concurrency`: how many runtime commands a manager runs at a time, at least 1; half as many kills and deletes may
    /// run besides. Default: the number of cores, at least 2.
    #[serde(deserialize_with = "values::positive")]
    pub concurrency: usize,
}

impl Default for Scheduler {
    fn default() -> Self {
        Self { concurrency: Admission::cores() }
    }
}

/// `[limits]`: what one tenant may have within one manager. A tenant is a Kubernetes namespace within a containerd
/// namespace, `"k8s.io/payments"`, or outside of Kubernetes a containerd namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TenantLimits {
    /// `containers`: how many containers each tenant may have, sandboxes among them. Default: no limit.
    pub containers: Option<usize>,
    /// `execs`: how many execs each tenant may have, from their Exec to their Delete. Default: no limit.
    pub execs: Option<usize>,
    /// `copied_bytes_per_second`: how much of what each tenant's processes print gam brings to FIFOs and files, and of what
    /// goes through terminals; what is more waits in the pipes. A logger has the pipes of a process without a terminal
    /// itself: nothing is brought to it. At least 1. Default: no limit.
    pub copied_bytes_per_second: Option<NonZeroU64>,
    /// `[limits.tenants."NAME"]`: the same keys for one tenant; a key that is not there is as above. Default: none.
    #[serde(deserialize_with = "values::tenants")]
    pub tenants: BTreeMap<String, Limits>,
}

impl TenantLimits {
    /// The accounts that keep to them.
    #[must_use]
    pub fn accounts(&self) -> Accounts {
        let of_each = Limits {
            containers: self.containers,
            execs: self.execs,
            copied_bytes_per_second: self.copied_bytes_per_second,
        };
        Accounts::new(of_each, self.tenants.clone())
    }
}
