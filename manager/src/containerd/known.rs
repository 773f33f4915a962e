//! Which containerd serves a socket, asked once for as long as the socket is the same.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Identity, Version, identity, version};

/// How long the answer is waited for.
const LIMIT: Duration = Duration::from_secs(1);
/// How long a daemon that did not answer is not asked again: `start` waits for it under its group's lock.
const SULK: Duration = Duration::from_secs(10);

/// What is known of the containerd at one address. A socket that is the same belongs to the daemon that was asked: an
/// upgrade or a downgrade is seen by whoever looks next.
#[derive(Debug)]
pub struct Known {
    address: String,
    last: Mutex<Option<Asked>>,
    /// Lets one question be on its way at a time.
    asking: tokio::sync::Mutex<()>,
}

/// The last question.
#[derive(Clone, Debug)]
struct Asked {
    whom: Identity,
    at: Instant,
    /// None if it did not answer.
    answer: Option<Version>,
}

impl Known {
    /// Nothing is known of the containerd at `address` yet.
    #[must_use]
    pub fn new(address: &str) -> Arc<Self> {
        Arc::new(Self { address: address.to_owned(), last: Mutex::default(), asking: Default::default() })
    }

    /// What the daemon that serves now has told; none if it has not been asked.
    #[must_use]
    pub fn told(&self) -> Option<Version> {
        self.asked(identity(&self.address)?)?.answer
    }

    /// Asks the daemon that serves now, unless it has been asked; none if it does not answer within a second, or has not
    /// for less than ten.
    pub async fn ask(&self) -> Option<Version> {
        let _asking = self.asking.lock().await;
        // Looked at before the question: an answer from a daemon that has come since is asked for again.
        let whom = identity(&self.address)?;
        match self.asked(whom) {
            Some(Asked { answer: Some(version), .. }) => return Some(version),
            Some(Asked { answer: None, at, .. }) if at.elapsed() < SULK => return None,
            _ => {}
        }
        let answer = version(&self.address, LIMIT)
            .await
            .inspect(|told| tracing::info!(version = told.version, "containerd has told its version"))
            .inspect_err(|error| tracing::warn!(%error, "containerd does not tell its version"))
            .ok();
        *self.last() = Some(Asked { whom, at: Instant::now(), answer: answer.clone() });
        answer
    }

    /// The last question, if it went to this daemon.
    fn asked(&self, whom: Identity) -> Option<Asked> {
        self.last().as_ref().filter(|asked| asked.whom == whom).cloned()
    }

    fn last(&self) -> MutexGuard<'_, Option<Asked>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicU32, Ordering};

    use gam_protos::version::VersionResponse;
    use http_body_util::{BodyExt as _, Full};
    use hyper::body::{Bytes, Incoming};
    use hyper::header::{HeaderMap, HeaderValue};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use protobuf::Message as _;

    use super::*;

    /// A daemon that tells `version` and counts how often it does.
    fn daemon(path: &Path, version: &'static str, asked: &Arc<AtomicU32>) -> tokio::task::JoinHandle<()> {
        let _ = std::fs::remove_file(path);
        let listener = tokio::net::UnixListener::bind(path).unwrap();
        let asked = Arc::clone(asked);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let asked = Arc::clone(&asked);
                let service = hyper::service::service_fn(move |_: hyper::Request<Incoming>| {
                    asked.fetch_add(1, Ordering::SeqCst);
                    let answer = VersionResponse { version: version.to_owned(), ..Default::default() };
                    let answer = answer.write_to_bytes().unwrap();
                    let mut frame = vec![0];
                    frame.extend(u32::try_from(answer.len()).unwrap().to_be_bytes());
                    frame.extend(answer);
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", HeaderValue::from_static("0"));
                    let body = Full::new(Bytes::from(frame))
                        .with_trailers(async { Some(Ok::<_, std::convert::Infallible>(trailers)) });
                    async { Ok::<_, std::convert::Infallible>(hyper::Response::new(body)) }
                });
                let serve = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(serve.serve_connection(TokioIo::new(stream), service));
            }
        })
    }

    #[tokio::test]
    async fn h4_a_daemon_is_asked_once_and_the_one_that_follows_it_again() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("c.sock");
        let known = Known::new(&format!("unix://{}", path.display()));
        assert_eq!(known.ask().await, None, "nobody is there");
        let asked = Arc::new(AtomicU32::new(0));
        let old = daemon(&path, "1.7.24", &asked);
        assert_eq!(known.told(), None);
        for _ in 0..3 {
            assert_eq!(known.ask().await.unwrap().version, "1.7.24");
        }
        assert_eq!(known.told().unwrap().version, "1.7.24");
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        old.abort();
        let _new = daemon(&path, "2.1.9", &asked);
        assert_eq!(known.told(), None, "what the old one said is not said of the new one");
        assert_eq!(known.ask().await.unwrap().version, "2.1.9");
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }
}
