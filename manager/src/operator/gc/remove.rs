//! Removing what was found, under the group's lock, when it has been looked at once more.

use std::fs;
use std::io;
use std::path::Path;

use gam_task::cleanup;
use gam_task::record::Record;

use super::find::{Finding, Thing};
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
        Thing::Container { bundle, record } => container(bundle, record),
        Thing::Kept { sandbox, record, bundle } => {
            let cleaned = kept(bundle, record);
            if cleaned.is_ok() {
                kept::forget(&finding.group, &record.key, sandbox);
            }
            cleaned
        }
        Thing::Socket(path) => match life::is_stale(path) {
            true => gone(fs::remove_file(path)),
            false => Err("somebody listens on it now".to_owned()),
        },
        Thing::Group => {
            let Some(lock) = lock else { return Ok(()) };
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

fn container(bundle: &Path, found: &Record) -> Result<(), String> {
    match Record::read(bundle) {
        // `delete` has seen to it meanwhile.
        Ok(None) => return Ok(()),
        Ok(Some(now)) if now.deleted => return Ok(()),
        Ok(Some(now)) if now.manager != found.manager => {
            return Err("another container of that id is there now".to_owned());
        }
        Ok(Some(_)) => {}
        Err(error) => return Err(error.to_string()),
    }
    cleanup::container(&found.key, bundle, Some(found)).map(drop).map_err(|error| error.to_string())
}

/// Where the bundle is there still, its own record says whether the container has been seen to.
fn kept(bundle: &Path, found: &Record) -> Result<(), String> {
    if let Ok(Some(now)) = Record::read(bundle)
        && (now.deleted || now.manager != found.manager)
    {
        return Ok(());
    }
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
