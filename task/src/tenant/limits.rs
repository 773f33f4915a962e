//! What one tenant may have, and what it has.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde::{Deserialize, Serialize};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Pace, Tenant};

/// How many root file systems of a tenant are mounted at a time.
const MOUNTS: usize = 4;

/// What one tenant may have; without a number there is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// `containers`: how many containers, sandboxes among them.
    pub containers: Option<usize>,
    /// `execs`: how many execs, from their Exec to their Delete.
    pub execs: Option<usize>,
    /// `copied_bytes_per_second`: how much of what its processes print is brought on; what is more waits in their pipes.
    pub copied_bytes_per_second: Option<NonZeroU64>,
}

impl Limits {
    /// These, and those of `others` where these say nothing.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            containers: self.containers.or(others.containers),
            execs: self.execs.or(others.execs),
            copied_bytes_per_second: self.copied_bytes_per_second.or(others.copied_bytes_per_second),
        }
    }
}

/// What there is a number of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// Containers.
    Containers,
    /// Execs.
    Execs,
}

impl Quota {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Containers, Self::Execs];

    /// The word for it: that of the configuration, and of metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Containers => "containers",
            Self::Execs => "execs",
        }
    }
}

/// A tenant has as much as it may.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tenant {tenant} has {most} {} already, as many as its limit \"{}\" allows", quota.name(), quota.name())]
pub struct OverLimit {
    /// Whose it would be.
    pub tenant: Tenant,
    /// What it would be.
    pub quota: Quota,
    /// The limit.
    pub most: usize,
}

/// The accounts of all tenants of a manager.
#[derive(Default)]
pub struct Accounts {
    of_each: Limits,
    named: BTreeMap<String, Limits>,
    open: Mutex<BTreeMap<Tenant, Weak<Account>>>,
}

impl Accounts {
    /// Accounts with limits for `named` tenants, and for what those do not limit, and all others, `of_each`.
    #[must_use]
    pub fn new(of_each: Limits, named: BTreeMap<String, Limits>) -> Self {
        Self { of_each, named, open: Mutex::default() }
    }

    /// The account of a tenant, the same for all who have it at a time.
    #[must_use]
    pub fn of(&self, tenant: &Tenant) -> Arc<Account> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = open.get(tenant).and_then(Weak::upgrade) {
            return account;
        }
        open.retain(|_, account| account.strong_count() > 0);
        let named = self.named.get(tenant.as_str()).copied().unwrap_or_default();
        let account = Arc::new(Account::new(tenant.clone(), named.or(self.of_each)));
        open.insert(tenant.clone(), Arc::downgrade(&account));
        account
    }
}

/// What one tenant has.
pub struct Account {
    tenant: Tenant,
    limits: Limits,
    containers: AtomicUsize,
    execs: AtomicUsize,
    pace: Arc<Pace>,
    /// Lets a few of its mounts work at a time: one that hangs keeps a thread.
    mounts: Semaphore,
}

impl Account {
    fn new(tenant: Tenant, limits: Limits) -> Self {
        let pace = limits.copied_bytes_per_second.map_or_else(Pace::unlimited, Pace::of);
        let mounts = Semaphore::new(MOUNTS);
        Self { tenant, limits, containers: 0.into(), execs: 0.into(), pace: Arc::new(pace), mounts }
    }

    /// Whose it is.
    #[must_use]
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// How fast its output may be brought on.
    #[must_use]
    pub fn pace(&self) -> &Arc<Pace> {
        &self.pace
    }

    /// Waits until one more root file system of its containers may be mounted.
    pub async fn mount(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.mounts.acquire().await.ok()
    }

    /// Takes one more of `quota`.
    ///
    /// # Errors
    /// [`OverLimit`] if there are as many as there may be.
    pub fn take(self: &Arc<Self>, quota: Quota) -> Result<Taken, OverLimit> {
        let (count, limit) = self.count(quota);
        let most = limit.unwrap_or(usize::MAX);
        let more = |now: usize| (now < most).then(|| now.saturating_add(1));
        match count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more) {
            Ok(_) => Ok(Taken { account: Arc::clone(self), quota }),
            Err(_) => Err(OverLimit { tenant: self.tenant.clone(), quota, most }),
        }
    }

    fn count(&self, quota: Quota) -> (&AtomicUsize, Option<usize>) {
        match quota {
            Quota::Containers => (&self.containers, self.limits.containers),
            Quota::Execs => (&self.execs, self.limits.execs),
        }
    }
}

/// One of a quota, given back when it is dropped.
pub struct Taken {
    account: Arc<Account>,
    quota: Quota,
}

impl Taken {
    /// Whose account it is of.
    #[must_use]
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }
}

impl fmt::Debug for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one of the {} of {}", self.quota.name(), self.account.tenant)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.account.count(self.quota).0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Key;
    use crate::spec::Spec;

    fn tenant(name: &str) -> Tenant {
        Tenant::of(&Key::new(name, "c").unwrap(), &Spec::default())
    }

    #[test]
    fn k4_a_tenant_has_as_much_as_its_limit_and_the_refusal_names_it() {
        let each = Limits { containers: Some(2), ..Limits::default() };
        let named = BTreeMap::from([("big".to_owned(), Limits { containers: Some(3), ..Limits::default() })]);
        let accounts = Accounts::new(each, named);
        let small = accounts.of(&tenant("small"));
        let first = small.take(Quota::Containers).unwrap();
        let _second = accounts.of(&tenant("small")).take(Quota::Containers).unwrap();
        let refused = small.take(Quota::Containers).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "tenant small has 2 containers already, as many as its limit \"containers\" allows"
        );
        drop(first);
        let _third = small.take(Quota::Containers).unwrap();
        let execs: Vec<Taken> = (0..100).map(|_| small.take(Quota::Execs).unwrap()).collect();
        assert_eq!(execs.len(), 100, "what is not limited is not");
        let big = accounts.of(&tenant("big"));
        let taken: Vec<Taken> = (0..3).map(|_| big.take(Quota::Containers).unwrap()).collect();
        assert_eq!(big.take(Quota::Containers).unwrap_err().most, taken.len());
    }

    #[test]
    fn accounts_that_nobody_has_are_forgotten() {
        let accounts = Accounts::default();
        for number in 0..100 {
            drop(accounts.of(&tenant(&format!("t{number}"))));
        }
        let kept = accounts.of(&tenant("kept"));
        assert!(accounts.open.lock().unwrap().len() <= 2);
        assert!(Arc::ptr_eq(&kept, &accounts.of(&tenant("kept"))));
    }
}
