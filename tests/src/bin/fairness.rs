//! What a tenant notices of another's burst in the same manager (K4): `fairness [CREATES] [EXECS] [GROUPING]`, 500 each by
//! default, and grouping `node`. With `namespace` each tenant has a manager of its own, which tells what of it is the machine's.
//!
//! Over the shim's own protocol and with runc, so that only the shim is measured: tenant "quiet" creates, asks, kills and
//! deletes one container after another, first alone and then while tenant "noisy" wants everything at once. Prints
//! quantiles of both, and their ratios.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gam_tests::shim::{Container, Lab, Limit, case, together};

/// How long the quiet tenant is looked at while nobody disturbs it.
const IDLE: Duration = Duration::from_secs(8);

/// What was measured of one kind of request.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    async fn time<T>(&mut self, work: impl Future<Output = T>) -> T {
        let since = Instant::now();
        let done = work.await;
        self.0.push(since.elapsed());
        done
    }

    /// A quantile in milliseconds.
    fn quantile(&mut self, quantile: f64) -> f64 {
        self.0.sort();
        let index = (self.0.len().saturating_sub(1) as f64 * quantile).round() as usize;
        self.0.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
    }
}

/// What the quiet tenant has seen.
#[derive(Default)]
struct Seen {
    create: Times,
    start: Times,
    state: Times,
    wait: Times,
    kill: Times,
}

/// Lives, one after another, until `over`.
async fn live(lab: &Lab, name: &str, over: impl Fn() -> bool) -> Seen {
    let mut seen = Seen::default();
    let ended = quiet(lab, &format!("{name}-ended")).boot().await;
    ended.create().await.expect("Create");
    ended.start("").await.expect("Start");
    ended.kill("", 9).await.expect("Kill");
    ended.wait("").await.expect("Wait");
    for number in 0.. {
        if over() {
            break;
        }
        let container = quiet(lab, &format!("{name}-{number}")).boot().await;
        seen.create.time(container.create()).await.expect("Create");
        seen.start.time(container.start("")).await.expect("Start");
        for _ in 0..10 {
            seen.state.time(container.state("")).await.expect("State");
            seen.wait.time(ended.wait("")).await.expect("Wait");
            // Signal 0 goes all the way to the runtime and kills nobody.
            seen.kill.time(container.kill("", 0)).await.expect("Kill");
        }
        container.end().await;
    }
    seen
}

fn quiet(lab: &Lab, id: &str) -> gam_tests::shim::bundle::Plan {
    lab.plan(id).namespace("quiet").unlogged()
}

fn noisy(lab: &Lab, id: &str) -> gam_tests::shim::bundle::Plan {
    lab.plan(id).namespace("noisy").unlogged()
}

/// The quiet tenant's life while `burst` is at work.
async fn beside<F: Future<Output = ()> + Send + 'static>(lab: &Lab, name: &str, burst: F) -> Seen {
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    let burst = tokio::spawn(async move {
        burst.await;
        told.store(true, Ordering::SeqCst);
    });
    let seen = live(lab, name, || over.load(Ordering::SeqCst)).await;
    burst.await.expect("the burst");
    seen
}

fn row(what: &str, quantile: f64, sets: [&mut Times; 3]) {
    let counts = sets.each_ref().map(|times| times.0.len());
    let [idle, creates, execs] = sets.map(|times| times.quantile(quantile));
    println!(
        "{what:<12} {idle:>9.2} {creates:>9.2} {:>6.2} {execs:>9.2} {:>6.2}   {counts:?}",
        creates / idle,
        execs / idle
    );
}

async fn measure(lab: Lab, creates: usize, execs: usize, grouping: String) {
    let config = format!("linger = \"1s\"\ngrouping = \"{grouping}\"\n[events]\npatience = \"3s\"\n");
    std::fs::write(lab.config_file(), config).expect("configuration");
    let since = Instant::now();
    let mut idle = live(&lab, "idle", || since.elapsed() > IDLE).await;

    let mut containers: Vec<Container> = Vec::new();
    for number in 0..creates {
        containers.push(noisy(&lab, &format!("n{number}")).boot().await);
    }
    let wanted = containers.clone();
    let since = Instant::now();
    let mut during_creates = beside(&lab, "creates", async move {
        for created in together(wanted.into_iter().map(|one| async move { one.create().await })).await {
            created.expect("Create");
        }
    })
    .await;
    println!("{creates} creates at once took {:.1} s", since.elapsed().as_secs_f64());
    for part in containers.chunks(8) {
        together(part.iter().cloned().map(|one| async move { one.end().await })).await;
    }

    let crowd = noisy(&lab, "crowd").run().await;
    for number in 0..execs {
        crowd.exec(&format!("e{number}"), &["true"]).await.expect("Exec");
    }
    let wanted = crowd.clone();
    let since = Instant::now();
    let mut during_execs = beside(&lab, "execs", async move {
        let start = |number| {
            let crowd = wanted.clone();
            async move { crowd.start(&format!("e{number}")).await }
        };
        for started in together((0..execs).map(start)).await {
            started.expect("Start of an exec");
        }
    })
    .await;
    println!("{execs} execs at once took {:.1} s", since.elapsed().as_secs_f64());

    println!(
        "\n{:<12} {:>9} {:>9} {:>6} {:>9} {:>6}   samples",
        "ms", "idle", "creates", "ratio", "execs", "ratio"
    );
    row("Create p50", 0.5, [&mut idle.create, &mut during_creates.create, &mut during_execs.create]);
    row("Start p50", 0.5, [&mut idle.start, &mut during_creates.start, &mut during_execs.start]);
    row("State p50", 0.5, [&mut idle.state, &mut during_creates.state, &mut during_execs.state]);
    row("State p99", 0.99, [&mut idle.state, &mut during_creates.state, &mut during_execs.state]);
    row("Wait p50", 0.5, [&mut idle.wait, &mut during_creates.wait, &mut during_execs.wait]);
    row("Wait p99", 0.99, [&mut idle.wait, &mut during_creates.wait, &mut during_execs.wait]);
    row("Kill p50", 0.5, [&mut idle.kill, &mut during_creates.kill, &mut during_execs.kill]);
    row("Kill p99", 0.99, [&mut idle.kill, &mut during_creates.kill, &mut during_execs.kill]);
}

fn main() {
    let mut words = std::env::args().skip(1);
    let mut number = || words.next().map_or(500, |text| text.parse::<usize>().expect("a number"));
    let (creates, execs) = (number(), number());
    let grouping = words.next().unwrap_or_else(|| "node".to_owned());
    case("fairness", Limit::Long, &[], move |lab| measure(lab, creates, execs, grouping));
}
