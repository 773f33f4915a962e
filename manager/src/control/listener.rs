//! The side that answers.

use std::sync::Arc;

use gam_task::doing;
use gam_task::id::Key;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::{Answer, LONGEST, Question};
use crate::bootstrap::daemon_version;
use crate::config::TaskApi;
use crate::containerd::Version;
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
            Err(error) => Answer::Failed(format!("the question is not understood: {error}")),
        };
        let mut text = serde_json::to_vec(&answer).unwrap_or_default();
        text.push(b'\n');
        if writer.write_all(&text).await.is_err() {
            return;
        }
    }
}

/// Answers a question; one that can take long is listed among the requests meanwhile.
async fn at_work(question: Question, manager: &Arc<Manager>) -> Answer {
    let name = match question {
        Question::Join { .. } => "shim start",
        Question::Delete { .. } => "shim delete",
        Question::Dump => return answer(question, manager).await,
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
    }
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
