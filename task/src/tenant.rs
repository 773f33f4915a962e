//! Whose container it is: who shares a manager with others and must not be felt by them.

mod limits;
mod pace;

use std::fmt;
use std::sync::Arc;

pub use limits::{Account, Accounts, Limits, OverLimit, Quota, Taken};
pub use pace::Pace;

use crate::id::{self, Key};
use crate::spec::{Spec, annotation};

/// The longest name of a Kubernetes namespace that is taken, in bytes; theirs have 63 at most.
const LONGEST: usize = 76;

/// A Kubernetes namespace within a containerd namespace, as `k8s.io/payments`; outside of Kubernetes a containerd namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// The tenant of a container. A Kubernetes namespace with a name that none can have does not count, for a tenant's name
    /// is shown in metrics and messages.
    #[must_use]
    pub fn of(key: &Key, spec: &Spec) -> Self {
        let inner = spec.annotation(annotation::SANDBOX_NAMESPACE).filter(|name| is_inner_name(name));
        match inner {
            Some(name) => Self(format!("{}/{name}", key.namespace).into()),
            None => Self(Arc::clone(&key.namespace)),
        }
    }

    /// Whether there can be a tenant of that name.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        let (namespace, inner) = name.split_once('/').map_or((name, None), |(one, other)| (one, Some(other)));
        id::validate("namespace", namespace).is_ok()
            && inner.is_none_or(|inner| !inner.is_empty() && is_inner_name(inner))
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_inner_name(name: &str) -> bool {
    name.len() <= LONGEST && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k4_a_tenant_is_a_kubernetes_namespace_or_else_containerds() {
        let key = Key::new("k8s.io", "c").unwrap();
        let tenant = |namespace: &str| {
            let mut spec = Spec::default();
            spec.annotations.insert(annotation::SANDBOX_NAMESPACE.to_owned(), namespace.to_owned());
            Tenant::of(&key, &spec).to_string()
        };
        assert_eq!(tenant("payments"), "k8s.io/payments");
        assert_eq!(tenant(""), "k8s.io");
        for bad in ["a b", "a\"}", "a\nb", "a/b", &"a".repeat(77)] {
            assert_eq!(tenant(bad), "k8s.io", "{bad:?}");
        }
        assert_eq!(Tenant::of(&key, &Spec::default()).as_str(), "k8s.io");
        for (name, can_be) in
            [("k8s.io", true), ("k8s.io/a", true), ("a b", false), ("k8s.io/", false), ("a/b/c", false)]
        {
            assert_eq!(Tenant::is_name(name), can_be, "{name}");
        }
    }
}
