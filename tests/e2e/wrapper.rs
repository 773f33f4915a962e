//! A runtime of the test's own: a script that does something and then runs runc.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use gam_tests::daemon::Daemon;

/// A script in the daemon's directory that runs runc after `prologue`, a piece of shell in which `$COMMAND` is runc's command.
/// Every invocation is added to the file `log()`.
pub(crate) struct Wrapper {
    path: PathBuf,
}

impl Wrapper {
    pub(crate) fn new(daemon: &Daemon, name: &str, prologue: &str) -> Self {
        let path = daemon.dir.join(format!("{name}.runc"));
        let log = path.with_extension("log");
        let script = format!(
            "#!/bin/sh\nCOMMAND=\nfor word in \"$@\"; do\n  case $word in\n    create|start|exec|kill|delete|state|pause|\
             resume|update|ps|features) COMMAND=$word; break;;\n  esac\ndone\n\
             echo \"$COMMAND $*\" >> {}\n{prologue}\nexec /usr/sbin/runc \"$@\"\n",
            log.display()
        );
        // Written aside and renamed: a script that another thread's child still holds open for writing is "text file busy".
        let aside = path.with_extension("new");
        fs::write(&aside, script).unwrap();
        fs::set_permissions(&aside, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&aside, &path).unwrap();
        Self { path }
    }

    /// What the option BinaryName takes.
    pub(crate) fn binary(&self) -> String {
        self.path.display().to_string()
    }

    /// How often `command` ran for the container `id`.
    pub(crate) fn count(&self, command: &str, id: &str) -> usize {
        let text = fs::read_to_string(self.path.with_extension("log")).unwrap_or_default();
        text.lines().filter(|line| line.starts_with(&format!("{command} ")) && line.contains(id)).count()
    }

    /// How often anything ran for the container `id`.
    pub(crate) fn total(&self, id: &str) -> usize {
        let text = fs::read_to_string(self.path.with_extension("log")).unwrap_or_default();
        text.lines().filter(|line| line.contains(id)).count()
    }
}
