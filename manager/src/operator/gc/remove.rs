//! Removing what was found, when it has been looked at once more under the group's lock.
//!
//! The lock is not held while the runtime works, which may take long: the group may have a manager again, whose containers
//! would wait.

use std::fs;
use std::io;
use std::path::Path;

use gam_task::cleanup;
use gam_task::record::Record;

use super::find::{Finding, Thing, is_group};
use super::life;
use crate::group::{Group, Lock};
use crate::kept;

/// Removes it.
///
/// # Errors
/// In words why it is left.
pub(super) fn one(finding: &Finding) -> Result<(), String> {
    let group = Group::at("", &finding.group);
    let lock = lock(&group)?;
    match &finding.thing {
        Thing::Container { bundle, record } => match is_there(bundle, record)? {
            true => clean_up(bundle, record, lock),
            false => Ok(()),
        },
        Thing::Kept { sandbox, key, record, bundle } => {
            // Without a record there is nothing but the place for one.
            let there = record.as_ref().filter(|_| !bundle.exists() || has_record(bundle));
            let cleaned = match there {
                Some(record) if !bundle.exists() || is_there(bundle, record)? => {
                    clean_up(bundle, record, lock)
                }
                _ => Ok(()),
            };
            if cleaned.is_ok() {
                kept::forget(&finding.group, key, sandbox);
            }
            cleaned
        }
        Thing::Socket(path) => match life::is_stale(path) {
            true => gone(fs::remove_file(path)),
            false => Err("somebody listens on it now".to_owned()),
        },
        Thing::Group => {
            let Some(lock) = lock.filter(|_| is_group(&finding.group)) else { return Ok(()) };
            // The lock is ours, which the look at the group would take for another's.
            if life::is_served(&group) {
                return Err("its manager is there again".to_owned());
            }
            group.remove(&lock);
            if finding.group.exists() { Err("it cannot be removed".to_owned()) } else { Ok(()) }
        }
    }
}

/// The lock of a group, so that none of its managers starts or leaves meanwhile; none if the group has gone.
fn lock(group: &Group) -> Result<Option<Lock>, String> {
    if !group.directory.exists() {
        return Ok(None);
    }
    match Lock::try_take(group) {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => Err("somebody else has the group's lock".to_owned()),
        Err(error) => Err(format!("cannot lock the group: {error}")),
    }
}

/// Whether the container that was found is there still, and not another of its id.
fn is_there(bundle: &Path, found: &Record) -> Result<bool, String> {
    match Record::read(bundle) {
        // `delete` has seen to it meanwhile.
        Ok(None) => Ok(false),
        Ok(Some(now)) if now.deleted => Ok(false),
        Ok(Some(now)) if now.manager != found.manager => {
            Err("another container of that id is there now".to_owned())
        }
        Ok(Some(_)) => Ok(true),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether gam made the container of a bundle; one that it did not make has no record, and is another shim's.
fn has_record(bundle: &Path) -> bool {
    !matches!(Record::read(bundle), Ok(None))
}

fn clean_up(bundle: &Path, found: &Record, lock: Option<Lock>) -> Result<(), String> {
    cleanup::kill_now(found);
    drop(lock);
    cleanup::container(&found.key, bundle, Some(found)).map(drop).map_err(|error| error.to_string())
}

fn gone(removed: io::Result<()>) -> Result<(), String> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("it cannot be removed: {error}"))
        }
        _ => Ok(()),
    }
}
