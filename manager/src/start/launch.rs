//! Starting a manager, and waiting until it serves or says why not (D9).

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use gam_task::cgroup;
use gam_task::process::Command;
use gam_task::sys::pipe;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::cli::{Flags, ManagerArgs};
use crate::group::Group;

/// What a manager says when it serves.
pub(crate) const READY: &str = "ready";
/// The descriptor on which it says so.
pub(crate) const READY_FD: i32 = 3;
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(8);
/// What of our environment a manager gets, besides what begins with `GAM_`. What runtime commands get is chosen anew for each.
const KEPT: [&str; 9] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "LANG",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "TTRPC_ADDRESS",
    "SCHED_CORE",
    "RUST_LOG",
];

/// Why there is no manager.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// It cannot be executed.
    #[error("cannot start the manager of {group}: {source}")]
    Spawn {
        /// The group.
        group: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// It gave up.
    #[error("the manager of {group} does not serve: {text}")]
    Failed {
        /// The group.
        group: String,
        /// What it said.
        text: String,
    },
    /// It says nothing.
    #[error("the manager of {group} does not serve after {} s", PATIENCE.as_secs())]
    Slow {
        /// The group.
        group: String,
    },
}

/// Starts the manager of a group and returns when it serves.
pub(super) fn launch(
    flags: &Flags,
    ttrpc: Option<&str>,
    group: &Group,
    shim_cgroup: &str,
) -> Result<(), LaunchError> {
    let spawn_error = |source| LaunchError::Spawn { group: group.name.clone(), source };
    let (ready, told) = pipe::pipe().map_err(spawn_error)?;
    let args = ManagerArgs {
        directory: group.directory.clone(),
        group: group.name.clone(),
        address: flags.address.clone(),
        ttrpc_address: ttrpc
            .map_or_else(|| std::env::var("TTRPC_ADDRESS").unwrap_or_default(), str::to_owned),
        publish_binary: Some(flags.publish_binary.clone()).filter(|path| !path.as_os_str().is_empty()),
        debug: flags.debug,
        ..ManagerArgs::default()
    };
    let program = program().map_err(spawn_error)?;
    let command = Command::new(program).args(args.to_args()).cwd("/").new_session(true);
    let ours =
        std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("GAM_"));
    let command = ours.fold(command, Command::keep_env);
    let command = KEPT.into_iter().fold(command, Command::keep_env).fd(READY_FD, told);
    let pid = command.spawn_unwaited().map_err(spawn_error)?;
    if !shim_cgroup.is_empty()
        && let Err(error) = cgroup::join(shim_cgroup, pid)
    {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
        let text = format!("it cannot be put into cgroup {shim_cgroup}: {error}");
        return Err(LaunchError::Failed { group: group.name.clone(), text });
    }
    let said = listen(ready).map_err(spawn_error)?;
    match said.as_deref() {
        Some(READY) => Ok(()),
        Some("") => {
            Err(LaunchError::Failed { group: group.name.clone(), text: "it ended at once".to_owned() })
        }
        Some(text) => Err(LaunchError::Failed { group: group.name.clone(), text: text.to_owned() }),
        None => {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
            Err(LaunchError::Slow { group: group.name.clone() })
        }
    }
}

/// The program that runs. Where another build has taken its place meanwhile its path leads nowhere, or elsewhere, and only
/// the kernel still knows it; the manager is to be of the build that its group is of.
fn program() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    Ok(if path.exists() { path } else { PathBuf::from("/proc/self/exe") })
}

/// What the manager says, until it closes its end; none if that takes too long.
fn listen(ready: OwnedFd) -> io::Result<Option<String>> {
    let end = Instant::now() + PATIENCE;
    pipe::set_nonblocking(&ready, true)?;
    let mut file = File::from(ready);
    let mut text = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut polled = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, timeout) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        match file.read_to_end(&mut text) {
            Ok(_) => return Ok(Some(String::from_utf8_lossy(&text).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
