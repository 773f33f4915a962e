//! The side that answers.

use std::sync::Arc;

use gam_task::doing;
use gam_task::id::Key;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::{Answer, LONGEST, NOT_UNDERSTOOD, Question, overview};
use crate::bootstrap::daemon_version;
use crate::config::TaskApi;
use crate::containerd::Version;
use crate::feed::Told;
use crate::logs::{LEVELS, level_named};
use crate::manager::Manager;
use crate::serve::dump;

/// Answers whoever connects, until the manager ends.
pub async fn serve(listener: UnixListener, manager: Arc<Manager>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(converse(stream, Arc::clone(&manager)))),
            Err(error) => {
                tracing::error!(%error, "cannot accept a control connection");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, manager: Arc<Manager>) {
    let allowed =
        stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == nix::unistd::geteuid().as_raw());
    if !allowed {
        return;
    }
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::with_capacity(512, reader);
    loop {
        let mut line = String::new();
        match (&mut reader).take(LONGEST).read_line(&mut line).await {
            Ok(length) if length > 0 => {}
            _ => return,
        }
        let answer = match serde_json::from_str(&line) {
            Ok(question) => at_work(question, &manager).await,
            Err(error) => Answer::Failed(format!("{NOT_UNDERSTOOD}: {error}")),
        };
        // Taken before the answer, so that nothing that happens after it is missed.
        let events = (answer == Answer::Following).then(|| manager.feed.follow());
        if !say(&mut writer, &answer).await {
            return;
        }
        if let Some(events) = events {
            tokio::select! {
                () = follow(events, &mut writer) => {}
                // It says nothing more, so this is its end.
                _ = reader.read_u8() => {}
            }
            return;
        }
    }
}

/// Answers a question; one that can take long is listed among the requests meanwhile.
async fn at_work(question: Question, manager: &Arc<Manager>) -> Answer {
    let name = match question {
        Question::Join { .. } => "shim start",
        Question::Delete { .. } => "shim delete",
        _ => return answer(question, manager).await,
    };
    let call = manager.calls.begin(name.to_owned());
    call.work.scope(answer(question, manager)).await
}

async fn answer(question: Question, manager: &Arc<Manager>) -> Answer {
    match question {
        Question::Join { namespace, id, socket_dir } => match Key::new(&namespace, &id) {
            Ok(key) => join(key, socket_dir.as_deref(), manager).await,
            Err(error) => Answer::Failed(error.to_string()),
        },
        Question::Delete { namespace, id, pid } => match Key::new(&namespace, &id) {
            Ok(key) => {
                doing::about(&key);
                match manager.destroy(&key, pid).await {
                    Ok(answer) => answer,
                    Err(error) => Answer::Failed(error.to_string()),
                }
            }
            Err(error) => Answer::Failed(error.to_string()),
        },
        Question::Dump => Answer::Dumped(dump::describe(manager)),
        Question::Who => Answer::Manager(overview::identity(manager)),
        Question::List => Answer::Listed(overview::list(manager)),
        Question::Inspect { namespace, id } => match Key::new(&namespace, &id) {
            Ok(key) => overview::inspect(manager, &key),
            Err(error) => Answer::Failed(error.to_string()),
        },
        Question::Stacks => Answer::Stacks(manager.calls.stacks()),
        Question::Events => Answer::Following,
        Question::LogLevel { level } => log_level(level.as_deref(), manager),
    }
}

/// Tells the level of the log, changed before if one is given.
fn log_level(level: Option<&str>, manager: &Manager) -> Answer {
    if let Some(level) = level {
        let Some(level) = level_named(level) else {
            return Answer::Failed(format!(
                "there is no level {level:?}: it is one of {}",
                LEVELS.join(", ")
            ));
        };
        manager.logs.set_level(level);
        tracing::info!(%level, "the level of the log was set");
    }
    Answer::LogLevel(manager.logs.level().to_string())
}

/// Tells what happens until nobody reads any more.
async fn follow(mut told: Receiver<Arc<Told>>, writer: &mut OwnedWriteHalf) {
    loop {
        let answer = match told.recv().await {
            Ok(told) => Answer::Event(Told::clone(&told)),
            Err(RecvError::Lagged(count)) => Answer::Lost(count),
            Err(RecvError::Closed) => return,
        };
        if !say(writer, &answer).await {
            return;
        }
    }
}

/// Writes an answer; whether it could be written.
async fn say(writer: &mut OwnedWriteHalf, answer: &Answer) -> bool {
    let mut text = serde_json::to_vec(answer).unwrap_or_default();
    text.push(b'\n');
    writer.write_all(&text).await.is_ok()
}

/// Expects a container. The lease is there before the socket is told, so the manager does not leave in between (K3).
async fn join(key: Key, socket_dir: Option<&str>, manager: &Arc<Manager>) -> Answer {
    doing::about(&key);
    let namespace = Arc::clone(&key.namespace);
    manager.leases.begin(key);
    let address = match manager.sockets.open(manager, &namespace, socket_dir) {
        Ok(address) => address,
        Err(error) => return Answer::Failed(error.to_string()),
    };
    let daemon = containerd(manager).await.and_then(|told| daemon_version(&told.version));
    Answer::Joined { address, daemon, task_api: manager.task_api }
}

/// What is known of containerd. It is waited for where the answer depends on it, and asked behind the answer's back else.
async fn containerd(manager: &Arc<Manager>) -> Option<Version> {
    if manager.task_api == TaskApi::V3 {
        let _step = doing::step("containerd's version");
        return manager.containerd.ask().await;
    }
    let told = manager.containerd.told();
    if told.is_none() {
        let known = Arc::clone(&manager.containerd);
        tokio::spawn(async move { known.ask().await });
    }
    told
}
