//! Making metrics: each is registered and its name kept as it is made.

use gam_task::telemetry::Stream;
use prometheus::core::Collector;
use prometheus::{
    CounterVec, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, Result,
};

/// The upper bounds of the durations' buckets, in seconds: from a State that is answered from memory to what containerd
/// no longer waits for.
const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// What has been made so far.
#[derive(Default)]
pub(super) struct Families {
    pub(super) registry: Registry,
    pub(super) names: Vec<&'static str>,
}

impl Families {
    fn keep<C: Collector + Clone + 'static>(
        &mut self,
        name: &'static str,
        collector: Result<C>,
    ) -> Result<C> {
        let collector = collector?;
        self.registry.register(Box::new(collector.clone()))?;
        self.names.push(name);
        Ok(collector)
    }

    pub(super) fn counter(&mut self, name: &'static str, help: &str) -> Result<IntCounter> {
        self.keep(name, IntCounter::new(name, help))
    }

    pub(super) fn counters(
        &mut self,
        name: &'static str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec> {
        self.keep(name, IntCounterVec::new(Opts::new(name, help), labels))
    }

    /// Counters of what is no whole number.
    pub(super) fn sums(&mut self, name: &'static str, help: &str, labels: &[&str]) -> Result<CounterVec> {
        self.keep(name, CounterVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn gauge(&mut self, name: &'static str, help: &str) -> Result<IntGauge> {
        self.keep(name, IntGauge::new(name, help))
    }

    pub(super) fn gauges(&mut self, name: &'static str, help: &str, labels: &[&str]) -> Result<IntGaugeVec> {
        self.keep(name, IntGaugeVec::new(Opts::new(name, help), labels))
    }

    /// A gauge of seconds.
    pub(super) fn seconds(&mut self, name: &'static str, help: &str) -> Result<Gauge> {
        self.keep(name, Gauge::new(name, help))
    }

    pub(super) fn duration(&mut self, name: &'static str, help: &str) -> Result<Histogram> {
        self.keep(name, Histogram::with_opts(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec())))
    }

    pub(super) fn durations(
        &mut self,
        name: &'static str,
        help: &str,
        labels: &[&str],
    ) -> Result<HistogramVec> {
        self.keep(name, HistogramVec::new(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec()), labels))
    }

    /// A counter for each stream.
    pub(super) fn per_stream(&mut self, name: &'static str, help: &str) -> Result<PerStream> {
        let counters = self.counters(name, help, &["stream"])?;
        let of = |stream: Stream| counters.with_label_values(&[stream.name()]);
        Ok(PerStream {
            stdin: of(Stream::Stdin),
            stdout: of(Stream::Stdout),
            stderr: of(Stream::Stderr),
            terminal: of(Stream::Terminal),
        })
    }
}

/// A counter for each stream, found without a look into a map: it is moved for every piece that is copied.
pub(super) struct PerStream {
    stdin: IntCounter,
    stdout: IntCounter,
    stderr: IntCounter,
    terminal: IntCounter,
}

impl PerStream {
    pub(super) fn of(&self, stream: Stream) -> &IntCounter {
        match stream {
            Stream::Stdin => &self.stdin,
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
            Stream::Terminal => &self.terminal,
        }
    }
}
