//! The one table that turns errors into status codes.

use gam_task::cgroup::CgroupError;
use gam_task::container::ContainerError;
use gam_task::id::IdError;
use gam_task::mount::MountError;
use gam_task::state::Refusal;
use ttrpc::{Code, Error, get_status};

use crate::containers::Taken;
use crate::options::OptionsError;

/// Has a status code.
pub trait Status: std::error::Error {
    /// The code for it.
    fn code(&self) -> Code;
}

impl Status for ContainerError {
    fn code(&self) -> Code {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Unwanted(_) => Code::CANCELLED,
            Self::OverLimit(_) => Code::RESOURCE_EXHAUSTED,
            Self::Runtime(error) if error.is_timed_out() => Code::DEADLINE_EXCEEDED,
            Self::Runtime(error) if error.is_gone() || error.is_finished() => Code::NOT_FOUND,
            // As upstream answers what its runtime refuses; docker and kubelet read the text.
            Self::Runtime(_) => Code::UNKNOWN,
            Self::Stdio(error) if error.is_refusal() => Code::INVALID_ARGUMENT,
            Self::Mount(
                MountError::Option { .. }
                | MountError::Kind { .. }
                | MountError::Target { .. }
                | MountError::TooLong { .. },
            ) => Code::INVALID_ARGUMENT,
            Self::Cgroup(CgroupError::Gone { .. }) => Code::NOT_FOUND,
            Self::NoProcess(_) => Code::NOT_FOUND,
            Self::Signal(_) => Code::INVALID_ARGUMENT,
            Self::Slow { .. } => Code::DEADLINE_EXCEEDED,
            Self::Record(_) => Code::INVALID_ARGUMENT,
            _ => Code::INTERNAL,
        }
    }
}

impl Status for Refusal {
    fn code(&self) -> Code {
        match self {
            Self::Container { .. } | Self::Exec { .. } => Code::FAILED_PRECONDITION,
            Self::NoExec(_) | Self::Finished => Code::NOT_FOUND,
            Self::ExecExists(_) => Code::ALREADY_EXISTS,
        }
    }
}

impl Status for IdError {
    fn code(&self) -> Code {
        Code::INVALID_ARGUMENT
    }
}

impl Status for Taken {
    fn code(&self) -> Code {
        Code::ALREADY_EXISTS
    }
}

impl Status for OptionsError {
    fn code(&self) -> Code {
        Code::INVALID_ARGUMENT
    }
}

/// The status that is answered for an error: its code, and its text with what caused it.
pub fn status(error: impl Status) -> Error {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    refuse(error.code(), text)
}

/// A status of `code` with a text.
pub fn refuse(code: Code, text: impl Into<String>) -> Error {
    Error::RpcStatus(get_status(code, text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g4_each_refusal_has_its_code() {
        let container = Refusal::Container { action: "kill", state: "stopped" };
        let codes = [
            (container, Code::FAILED_PRECONDITION),
            (Refusal::NoExec("e".into()), Code::NOT_FOUND),
            (Refusal::ExecExists("e".into()), Code::ALREADY_EXISTS),
            (Refusal::Finished, Code::NOT_FOUND),
        ];
        for (refusal, code) in codes {
            let text = refusal.to_string();
            let Error::RpcStatus(told) = status(ContainerError::from(refusal)) else { panic!("no status") };
            assert_eq!((told.code(), told.message), (code, text));
        }
    }

    #[test]
    fn a_message_has_what_caused_it_once() {
        let error = gam_task::spec::SpecError::Read {
            path: "/b/config.json".into(),
            source: std::io::Error::from_raw_os_error(2),
        };
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] gam_task::spec::SpecError);
        impl Status for Outer {
            fn code(&self) -> Code {
                Code::INTERNAL
            }
        }
        let Error::RpcStatus(told) = status(Outer(error)) else { panic!("no status") };
        assert_eq!(told.message, "outer: cannot read /b/config.json: No such file or directory (os error 2)");
    }
}
