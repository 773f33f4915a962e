//! Running one case, with a watchdog and an end that is checked.

use std::sync::mpsc;
use std::time::Duration;

use super::lab::Lab;
use super::subject::Subject;

/// How long a case may take.
#[derive(Debug, Clone, Copy)]
pub enum Limit {
    /// A minute.
    Usual,
    /// For what is repeated.
    Long,
}

impl Limit {
    fn seconds(self) -> u64 {
        match self {
            Self::Usual => 60,
            Self::Long => 240,
        }
    }
}

fn text(panic: Box<dyn std::any::Any + Send>) -> String {
    let panic = match panic.downcast::<String>() {
        Ok(text) => return *text,
        Err(other) => other,
    };
    panic.downcast_ref::<&str>().map_or_else(|| "panicked".to_owned(), |text| (*text).to_owned())
}

async fn run<F: Future<Output = ()> + Send + 'static>(
    name: &str,
    limit: Limit,
    body: impl FnOnce(Lab) -> F,
) -> Result<(), String> {
    let lab = Lab::new().await;
    let whole = async {
        let failed = |error: tokio::task::JoinError| {
            error.try_into_panic().map_or_else(|error| error.to_string(), text)
        };
        tokio::spawn(body(lab.clone())).await.map_err(failed)?;
        let finished = lab.clone();
        tokio::spawn(async move { finished.finish().await }).await.map_err(failed)
    };
    let outcome = tokio::time::timeout(Duration::from_secs(limit.seconds()), whole).await;
    let outcome = outcome.unwrap_or_else(|_| Err(format!("not done after {} s", limit.seconds())));
    lab.events().end().await;
    let error = match outcome {
        Ok(()) => {
            lab.close();
            return Ok(());
        }
        Err(error) => error,
    };
    let report = lab.rescue();
    if std::env::var_os("GAM_E2E_KEEP").is_some() {
        let kept = std::env::temp_dir().join(format!("kept-{name}-{}", std::process::id()));
        let _ = std::fs::rename(lab.directory(), &kept);
    }
    lab.close();
    Err(format!("{error}\n{report}"))
}

/// Runs the case `name`. `declared` names the cases that the Go shim is known to fail, each with the reason.
///
/// # Panics
/// If the case fails.
pub fn case<F: Future<Output = ()> + Send + 'static>(
    name: &'static str,
    limit: Limit,
    declared: &[(&str, &str)],
    body: impl FnOnce(Lab) -> F + Send + 'static,
) {
    let (done, outcome) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("runtime");
        let _ = done.send(runtime.block_on(run(name, limit, body)));
        runtime.shutdown_timeout(Duration::from_millis(100));
    });
    // The case ends itself in time; this is for one that blocks its runtime.
    let outcome = outcome.recv_timeout(Duration::from_secs(limit.seconds() + 30));
    let outcome = outcome.unwrap_or_else(|_| Err("blocked, or its thread ended".to_owned()));
    let known = declared.iter().find(|(case, _)| Subject::chosen() == Subject::Go && *case == name);
    match (outcome, known) {
        (Ok(()), Some(_)) => println!("{name}: DECLARED to fail with Go, and passed"),
        (Ok(()), None) => {}
        (Err(error), Some((_, reason))) => println!("{name}: fails with Go as declared ({reason}): {error}"),
        (Err(error), None) => panic!("{error}"),
    }
}
