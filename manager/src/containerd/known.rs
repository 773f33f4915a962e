//! Which containerd serves a socket, asked once for as long as the socket is the same.

use std::os::linux::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Version, socket, version};

/// How long the answer is waited for.
const LIMIT: Duration = Duration::from_secs(1);
/// How long a daemon that did not answer is not asked again: `start` waits for it under its group's lock.
const SULK: Duration = Duration::from_secs(10);

/// What is known of the containerd at one address. A containerd that starts makes its socket anew, so a socket that is
/// the same belongs to the daemon that was asked: an upgrade or a downgrade is seen by whoever looks next.
#[derive(Debug)]
pub struct Known {
    address: String,
    told: Mutex<Option<Told>>,
    /// The daemon that did not answer, and when it was asked.
    silent: Mutex<Option<(Identity, Instant)>>,
    /// Lets one question be on its way at a time.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug)]
struct Told {
    by: Identity,
    version: Version,
}

/// What tells a socket from one that is made later at the same path.
type Identity = (u64, u64, i64, i64);

impl Known {
    /// Nothing is known of the containerd at `address` yet.
    #[must_use]
    pub fn new(address: &str) -> Arc<Self> {
        Arc::new(Self {
            address: address.to_owned(),
            told: Mutex::default(),
            silent: Mutex::default(),
            asking: Default::default(),
        })
    }

    /// What the daemon that serves now has told; none if it has not been asked.
    #[must_use]
    pub fn told(&self) -> Option<Version> {
        let now = self.identity()?;
        self.cache().as_ref().filter(|told| told.by == now).map(|told| told.version.clone())
    }

    /// Asks the daemon that serves now, unless it has been asked; none if it does not answer within a second, or has not
    /// for less than ten.
    pub async fn ask(&self) -> Option<Version> {
        let _asking = self.asking.lock().await;
        if let Some(version) = self.told() {
            return Some(version);
        }
        // Looked at before the question: an answer from a daemon that has come since is asked for again.
        let by = self.identity()?;
        let was_silent = *self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if was_silent.is_some_and(|(silent, since)| silent == by && since.elapsed() < SULK) {
            return None;
        }
        match version(&self.address, LIMIT).await {
            Ok(version) => {
                tracing::info!(version = version.version, "containerd has told its version");
                *self.cache() = Some(Told { by, version: version.clone() });
                Some(version)
            }
            Err(error) => {
                tracing::warn!(%error, "containerd does not tell its version");
                *self.silent.lock().unwrap_or_else(PoisonError::into_inner) = Some((by, Instant::now()));
                None
            }
        }
    }

    fn cache(&self) -> MutexGuard<'_, Option<Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn identity(&self) -> Option<Identity> {
        let meta = std::fs::metadata(socket(&self.address)).ok()?;
        Some((meta.st_dev(), meta.st_ino(), meta.st_ctime(), meta.st_ctime_nsec()))
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
