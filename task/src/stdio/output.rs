//! What a process prints, brought to where it is wanted.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::meter::Meter;
use super::phase::{Phase, Phases, Token};
use super::report::Report;
use super::{fifo, file, pump, terminal};
use crate::sys::pipe;
use crate::sys::polled::Polled;
use crate::telemetry::Stream;

/// Where the bytes come from.
#[derive(Debug)]
pub(super) enum Source {
    /// Our read end of a process's pipe.
    Pipe(Arc<Polled>),
    /// The master of its terminal.
    Terminal(OwnedFd),
}

/// Where the bytes go.
#[derive(Debug)]
pub(super) enum Sink {
    /// A FIFO with a client at the other end.
    Fifo(fifo::Outlet),
    /// The pipe of a logger; only a terminal is copied to one, other processes print to it themselves.
    Logger(Polled),
    /// A file that is appended to.
    File(Arc<File>),
    /// Nobody wants them.
    Nowhere,
}

/// One stream of output.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) stream: Stream,
    pub(super) sink: Sink,
    /// Whether the sink has failed, which is told once.
    failed: bool,
    pub(super) report: Arc<Report>,
}

impl Output {
    pub(super) fn new(stream: Stream, sink: Sink, report: Arc<Report>) -> Self {
        Self { stream, sink, failed: false, report }
    }

    /// Brings everything, until the end of file or until the streams are stopped; what is left then is counted.
    pub(super) async fn run(mut self, source: Source, mut phases: Phases, token: Token) {
        let mut unwritten = 0;
        {
            let progress = phases.clone();
            tokio::select! {
                ended = self.bring(&source, progress, &mut unwritten) => {
                    if let Err(error) = ended {
                        self.report.failed(self.stream, "cannot be read", &error);
                    }
                }
                () = phases.reached(Phase::Stopped) => {}
            }
        }
        let waiting = match &source {
            Source::Pipe(end) => pipe::waiting(end.as_ref()),
            Source::Terminal(master) => pipe::waiting(master),
        };
        self.lost(waiting.unwrap_or(0).saturating_add(unwritten));
        drop(source);
        drop(token);
        if let Sink::Fifo(outlet) = self.sink {
            outlet.finish(phases).await;
        }
    }

    async fn bring(&mut self, source: &Source, phases: Phases, unwritten: &mut u64) -> io::Result<()> {
        match source {
            Source::Pipe(end) => self.bring_pipe(end, &phases).await,
            // Boxed, so that a pipe's task is not as large as a terminal's.
            Source::Terminal(master) => Box::pin(terminal::print(master, self, phases, unwritten)).await,
        }
    }

    async fn bring_pipe(&mut self, source: &Arc<Polled>, phases: &Phases) -> io::Result<()> {
        let (stream, report) = (self.stream, Arc::clone(&self.report));
        let meter = Meter { stream, report: &report, phases: Some(phases) };
        let ended = match &self.sink {
            Sink::Fifo(outlet) => pump::splice_all(source, outlet.end(), meter).await,
            Sink::Logger(end) => Box::pin(pump::splice_all(source, end, meter)).await,
            Sink::File(file) => {
                let failed = &mut self.failed;
                let told = |turn| note(meter, failed, turn);
                return Box::pin(file::append_all(source, file, meter, told)).await;
            }
            Sink::Nowhere => return Box::pin(pump::discard_all(source, |_| {})).await,
        };
        // A pipe does not fail to be read.
        let Err(error) = ended else { return Ok(()) };
        self.fail(&error);
        Box::pin(pump::discard_all(source, |bytes| report.telemetry.dropped(stream, bytes))).await
    }

    /// Writes `bytes` to the sink. `unwritten` is kept at how many of them are not in it yet, for one who drops this.
    pub(super) async fn write(&mut self, bytes: Vec<u8>, phases: &Phases, unwritten: &mut u64) {
        let report = Arc::clone(&self.report);
        let meter = Meter { stream: self.stream, report: &report, phases: Some(phases) };
        *unwritten = bytes.len() as u64;
        let wrote = |count: u64| {
            *unwritten = unwritten.saturating_sub(count);
            meter.count(count);
        };
        let ended = match &self.sink {
            Sink::Nowhere => Ok(()),
            _ if self.failed && !matches!(self.sink, Sink::File(_)) => {
                self.lost(bytes.len() as u64);
                Ok(())
            }
            Sink::Fifo(outlet) => pump::write_all(outlet.end(), &bytes, wrote).await,
            Sink::Logger(end) => pump::write_all(end, &bytes, wrote).await,
            Sink::File(file) => {
                let turn = file::append(file, bytes).await;
                turn.map(|turn| note(meter, &mut self.failed, turn))
            }
        };
        if let Err(error) = ended {
            self.fail(&error);
            self.lost(*unwritten);
        }
        *unwritten = 0;
    }

    /// What counts this stream of a process in these phases.
    pub(super) fn meter<'a>(&'a self, phases: &'a Phases) -> Meter<'a> {
        Meter { stream: self.stream, report: &self.report, phases: Some(phases) }
    }

    fn fail(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failed, true) {
            self.report.failed(self.stream, "cannot be written and is dropped", error);
        }
    }

    fn lost(&self, bytes: u64) {
        if bytes > 0 && !matches!(self.sink, Sink::Nowhere) {
            self.report.telemetry.dropped(self.stream, bytes);
        }
    }
}

fn note(meter: Meter<'_>, failed: &mut bool, turn: file::Written) {
    let Meter { stream, report, .. } = meter;
    if turn.copied > 0 {
        meter.count(turn.copied);
    }
    if turn.dropped > 0 {
        report.telemetry.dropped(stream, turn.dropped);
    }
    match turn.error {
        Some(error) if !*failed => {
            *failed = true;
            report.failed(stream, "cannot be written to its file and is dropped", &error);
        }
        Some(_) => {}
        // Written again: the next failure is news.
        None if turn.copied > 0 => *failed = false,
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::Interest;
    use tokio::sync::watch;

    use super::*;
    use crate::id::Key;
    use crate::telemetry::{Silent, Telemetry};
    use crate::tenant::Pace;

    #[tokio::test]
    async fn a_stream_that_is_idle_costs_little() {
        let silent: Arc<dyn Telemetry> = Arc::new(Silent);
        let report = Report::new(&Key::new("n", "c").unwrap(), None, &silent, &Arc::new(Pace::unlimited()));
        let (read, _write) = pipe::pipe().unwrap();
        let source = Source::Pipe(Arc::new(Polled::new(read, Interest::READABLE).unwrap()));
        let (_phase, phases) = watch::channel(Phase::Running);
        let token = Token::take(&Arc::new(watch::Sender::new(0)));
        let served = Output::new(Stream::Stdout, Sink::Nowhere, report).run(source, Phases(phases), token);
        assert!(size_of_val(&served) < 1024, "{} bytes", size_of_val(&served));
    }
}
