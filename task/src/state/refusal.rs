//! Why an input is not possible now.

use super::ExecId;

/// The reason; its text is what the caller is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The container is in a state that does not allow the action.
    #[error("cannot {action} a container that is {state}")]
    Container {
        /// What was wanted.
        action: &'static str,
        /// What the container is.
        state: &'static str,
    },
    /// The exec is in a state that does not allow the action.
    #[error("cannot {action} exec {id}, which is {state}")]
    Exec {
        /// What was wanted.
        action: &'static str,
        /// Which exec.
        id: ExecId,
        /// What it is.
        state: &'static str,
    },
    /// There is no such exec.
    #[error("exec {0} does not exist")]
    NoExec(ExecId),
    /// There is one of that name already.
    #[error("exec {0} already exists")]
    ExecExists(ExecId),
    /// The process has ended: there is nothing left to signal.
    #[error("process already finished")]
    Finished,
}
