//! Names that come from outside: containers, execs and namespaces.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest id containerd makes or accepts, in bytes.
pub const MAX_ID: usize = 76;

/// A name that containerd would refuse too.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// the id of the {0} is empty
    #[error("the id of the {0} is empty")]
    Empty(&'static str),
    /// the id of the {0} is longer than 76 bytes
    #[error("the id of the {0} has {1} bytes, more than {MAX_ID}")]
    TooLong(&'static str, usize),
    /// the id of the {0} has a byte that an id may not have
    #[error("the id {1:?} of the {0} is not made of letters and digits joined by single '.', '_' or '-'")]
    Malformed(&'static str, String),
}

/// Checks `id` by containerd's own rule: runs of ASCII letters and digits joined by single `.`, `_` or `-`.
///
/// `what` names the thing in the error. Nothing that passes can leave a directory it is joined to.
///
/// # Errors
/// [`IdError`] says which part of the rule is broken.
pub fn validate(what: &'static str, id: &str) -> Result<(), IdError> {
    if id.is_empty() {
        return Err(IdError::Empty(what));
    }
    if id.len() > MAX_ID {
        return Err(IdError::TooLong(what, id.len()));
    }
    let joined = id
        .split(['.', '_', '-'])
        .all(|run| !run.is_empty() && run.bytes().all(|b| b.is_ascii_alphanumeric()));
    if joined { Ok(()) } else { Err(IdError::Malformed(what, id.chars().take(MAX_ID).collect())) }
}

/// What a container is known by: ids are unique only within a containerd namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The containerd namespace.
    pub namespace: Arc<str>,
    /// The container's id.
    pub id: Arc<str>,
}

impl Key {
    /// A key of two checked names.
    ///
    /// # Errors
    /// [`IdError`] where either name breaks containerd's rule.
    pub fn new(namespace: &str, id: &str) -> Result<Self, IdError> {
        validate("namespace", namespace)?;
        validate("container", id)?;
        Ok(Self { namespace: namespace.into(), id: id.into() })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k8_ids_that_could_leave_a_directory_are_refused() {
        for bad in ["", ".", "..", "a/b", "../a", "a..b", "a\0b", "-a", "a-", "a b", "é", &"a".repeat(77)] {
            assert!(validate("container", bad).is_err(), "{bad:?} passed");
        }
        for good in ["a", "a.b", "a-b_c.d", "9", &"a".repeat(76)] {
            assert_eq!(validate("container", good), Ok(()), "{good:?}");
        }
    }
}
