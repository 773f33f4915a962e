//! What `start`, `delete` and operators ask a manager: one JSON line, answered by one, over the group's control socket.

mod client;
mod listener;
mod overview;

use serde::{Deserialize, Serialize};

use crate::config::TaskApi;
use crate::feed::Told;
use crate::server::Stack;

pub use client::{Client, ControlError, Followed};
pub use listener::serve;
pub use overview::{Identity, Listed};

/// The longest line, in bytes.
const LONGEST: u64 = 64 << 10;

/// How the answer begins to a question that a manager does not know, as one of an older build.
pub(crate) const NOT_UNDERSTOOD: &str = "the question is not understood";

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// A container is about to be created: where is its containerd namespace served?
    Join {
        /// The containerd namespace.
        namespace: String,
        /// The container's id.
        id: String,
        /// Where containerd wants sockets; none for the usual place. It counts for a namespace's first container.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        socket_dir: Option<String>,
    },
    /// Delete a container, whatever its state.
    Delete {
        /// The containerd namespace.
        namespace: String,
        /// The container's id.
        id: String,
        /// Init's pid as its record has it, 0 if it has none: a later container of the same id is not meant.
        pid: u32,
    },
    /// What is every container doing?
    Dump,
    /// Which manager is this?
    Who,
    /// Which containers are there?
    List,
    /// What is known of one container?
    Inspect {
        /// The containerd namespace.
        namespace: String,
        /// The container's id.
        id: String,
    },
    /// Which requests are at work, and what do they wait for?
    Stacks,
    /// What happens from now on? The answer is followed by one `event` or `lost` a line, until the connection closes.
    Events,
    /// Which lines are logged? With a level: log down to that from now on.
    LogLevel {
        /// `off`, `error`, `warn`, `info`, `debug` or `trace`; none only asks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        level: Option<String>,
    },
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is served here, and expected.
    Joined {
        /// The address, with `unix://`.
        address: String,
        /// The version of containerd, as far as the manager knows it: major and minor.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        daemon: Option<(u32, u32)>,
        /// Which Task service containerd is to call where it can: 2 or 3.
        #[serde(default)]
        task_api: TaskApi,
    },
    /// It is deleted.
    Deleted {
        /// Init's pid.
        pid: u32,
        /// How init ended.
        exit: gam_task::exit::Exit,
    },
    /// There is no such container.
    Unknown,
    /// There is another container of that id.
    Another,
    /// What every container is doing.
    Dumped(serde_json::Value),
    /// This manager.
    Manager(Identity),
    /// These containers.
    Listed(Vec<Listed>),
    /// What is known of the container.
    Inspected(serde_json::Value),
    /// These requests are at work, the oldest first.
    Stacks(Vec<Stack>),
    /// Events follow.
    Following,
    /// Something has happened.
    Event(Told),
    /// So many events have not been told, because they were not read in time.
    Lost(u64),
    /// Lines are logged down to this level.
    LogLevel(String),
    /// It cannot be done.
    Failed(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_what_they_were_and_nothing_unknown_is_taken() {
        let join = Question::Join { namespace: "ns".into(), id: "c".into(), socket_dir: None };
        let text = serde_json::to_string(&join).unwrap();
        assert_eq!(text, r#"{"join":{"namespace":"ns","id":"c"}}"#);
        assert_eq!(serde_json::from_str::<Question>(&text).unwrap(), join);
        for (question, text) in [
            (Question::Dump, r#""dump""#),
            (Question::Who, r#""who""#),
            (Question::List, r#""list""#),
            (Question::Stacks, r#""stacks""#),
            (Question::Events, r#""events""#),
            (Question::LogLevel { level: None }, r#"{"log_level":{}}"#),
        ] {
            assert_eq!(serde_json::to_string(&question).unwrap(), text);
            assert_eq!(serde_json::from_str::<Question>(text).unwrap(), question);
        }
        for bad in [
            "",
            "{}",
            r#"{"join":{"namespace":"ns"}}"#,
            r#"{"destroy":{}}"#,
            r#"{"join":{"namespace":1,"id":"c"}}"#,
        ] {
            assert!(serde_json::from_str::<Question>(bad).is_err(), "{bad}");
        }
    }
}
