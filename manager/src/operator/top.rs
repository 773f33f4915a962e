//! `gam top`: what containers and managers use, again and again.

mod screen;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use self::screen::Screen;
use super::cost;
use super::ls::{self, ContainerRow, ManagerRow, none, short};
use super::managers::{self, Found};
use super::table::{Table, bytes};
use super::{OperatorError, print};
use crate::control::Question;
use crate::logs::timestamp;

/// The longest time between the two looks of a single frame.
const ONCE: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "On a terminal it goes on until ctrl-C; elsewhere it prints one frame, or as many as are asked for."
)]
pub(super) struct Args {
    /// Print a JSON object a frame, each on one line
    #[arg(long)]
    json: bool,
    /// How many seconds there are between two frames
    #[arg(short, long, default_value = "2", value_parser = interval, value_name = "SECONDS")]
    interval: Duration,
    /// Print so many frames, one below the other, and end
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<usize>,
    /// Print one frame and end
    #[arg(long, conflicts_with = "count")]
    once: bool,
    /// What the containers are sorted by
    #[arg(long, value_enum, default_value_t = Sort::Cpu)]
    sort: Sort,
    /// Only of this group: its name, the last word of it, or the beginning of its directory's name
    #[arg(long)]
    group: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sort {
    Cpu,
    Memory,
    Pids,
    Name,
}

/// What is seen at one time.
struct Look {
    at: Instant,
    managers: Vec<(ManagerRow, Option<u64>)>,
    containers: Vec<ContainerRow>,
    /// The managers that should have answered and did not.
    failed: Vec<Found>,
}

/// What has happened between two looks.
#[derive(Debug, Serialize)]
struct Frame {
    at: String,
    managers: Vec<Using<ManagerRow>>,
    containers: Vec<Using<ContainerRow>>,
}

#[derive(Debug, Serialize)]
struct Using<T> {
    #[serde(flatten)]
    row: T,
    /// How much of one processor it had, in percent; none if it was not there before.
    cpu_percent: Option<f64>,
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is no number of seconds".to_owned())?;
    let refused = || "it is a number of seconds from 0.1 to 3600".to_owned();
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| (0.1..=3600.0).contains(&time.as_secs_f64()))
        .ok_or_else(refused)
}

pub(super) fn run(args: &Args) -> Result<ExitCode, OperatorError> {
    let kernel = |what| move |source| OperatorError::Kernel { what, source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(kernel("wait for signals"))?;
    let is_live = !args.json && args.count.is_none() && !args.once && io::stdout().is_terminal();
    let frames = if is_live { None } else { Some(if args.once { 1 } else { args.count.unwrap_or(1) }) };
    let last = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(kernel("wait for signals"))?;
        let mut terminate = signal(SignalKind::terminate()).map_err(kernel("wait for signals"))?;
        let screen = is_live.then(Screen::enter).transpose()?;
        let mut before = look(args)?;
        let mut shown = 0;
        while frames.is_none_or(|frames| shown < frames) {
            let pause = if shown == 0 { args.interval.min(ONCE) } else { args.interval };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
            }
            let now = look(args)?;
            let frame = compare(&before, &now, args.sort);
            match &screen {
                Some(screen) => screen.show(&text(&frame))?,
                None if args.json => {
                    let line =
                        serde_json::to_string(&frame).map_err(|error| OperatorError::Print(error.into()))?;
                    print(&format!("{line}\n"))?;
                }
                None => print(&text(&frame))?,
            }
            before = now;
            shown += 1;
        }
        Ok::<Look, OperatorError>(before)
    })?;
    managers::complain(&last.failed);
    Ok(managers::code(&last.failed))
}

fn look(args: &Args) -> Result<Look, OperatorError> {
    let found = managers::ask(args.group.as_deref(), &Question::List)?;
    let managers = found.iter().map(|found| {
        let row = ls::manager(found);
        let cpu = row.pid.filter(|_| row.state != "dead").and_then(|pid| cost::of_process(pid).cpu);
        (row, cpu)
    });
    let managers = managers.collect();
    let containers = found.iter().flat_map(ls::containers).collect();
    let failed = found.into_iter().filter(Found::has_failed).collect();
    Ok(Look { at: Instant::now(), managers, containers, failed })
}

fn compare(before: &Look, now: &Look, sort: Sort) -> Frame {
    let elapsed = now.at.duration_since(before.at).as_nanos() as f64;
    let percent = |then: Option<u64>, now: Option<u64>| {
        let used = now?.checked_sub(then?)?;
        (elapsed > 0.0).then(|| (used as f64 / elapsed * 1000.0).round() / 10.0)
    };
    let key =
        |row: &ContainerRow| (row.listed.namespace.clone(), row.listed.id.clone(), row.listed.created_ms);
    let then: BTreeMap<_, _> = before.containers.iter().map(|row| (key(row), row.cost.cpu)).collect();
    let of_managers: BTreeMap<_, _> = before.managers.iter().map(|(row, cpu)| (row.pid, *cpu)).collect();
    let mut containers: Vec<Using<ContainerRow>> = now
        .containers
        .iter()
        .map(|row| Using {
            cpu_percent: percent(then.get(&key(row)).copied().flatten(), row.cost.cpu),
            row: row.clone(),
        })
        .collect();
    containers.sort_by(|a, b| order(a, b, sort));
    let managers = now.managers.iter().map(|(row, cpu)| Using {
        cpu_percent: percent(of_managers.get(&row.pid).copied().flatten(), *cpu),
        row: row.clone(),
    });
    Frame { at: timestamp(std::time::SystemTime::now()), managers: managers.collect(), containers }
}

/// The largest first; by name where they are alike.
fn order(a: &Using<ContainerRow>, b: &Using<ContainerRow>, sort: Sort) -> std::cmp::Ordering {
    let by_size = match sort {
        Sort::Cpu => b.cpu_percent.unwrap_or_default().total_cmp(&a.cpu_percent.unwrap_or_default()),
        Sort::Memory => b.row.cost.memory.cmp(&a.row.cost.memory),
        Sort::Pids => b.row.cost.pids.cmp(&a.row.cost.pids),
        Sort::Name => std::cmp::Ordering::Equal,
    };
    let name =
        |using: &Using<ContainerRow>| (using.row.listed.namespace.clone(), using.row.listed.id.clone());
    by_size.then_with(|| name(a).cmp(&name(b)))
}

fn text(frame: &Frame) -> String {
    let cpu = |percent: Option<f64>| percent.map_or_else(none, |percent| format!("{percent:.1}"));
    let mut above = Table::new(&["MANAGER", "CPU%", "RSS", "CONTAINERS", "STATE", "GROUP"]);
    for using in &frame.managers {
        let row = &using.row;
        above.row([
            row.pid.map_or_else(none, |pid| pid.to_string()),
            cpu(using.cpu_percent),
            row.rss.map_or_else(none, bytes),
            row.containers.map_or_else(none, |count| count.to_string()),
            row.state.to_owned(),
            row.group.clone().unwrap_or_else(|| row.directory.clone()),
        ]);
    }
    let mut table = Table::new(&["CONTAINER", "NAMESPACE", "TENANT", "STATE", "CPU%", "MEMORY", "PIDS"]);
    for using in &frame.containers {
        let listed = &using.row.listed;
        table.row([
            short(&listed.id),
            listed.namespace.clone(),
            listed.tenant.clone().unwrap_or_else(none),
            listed.state.clone(),
            cpu(using.cpu_percent),
            using.row.cost.memory.map_or_else(none, bytes),
            using.row.cost.pids.map_or_else(none, |pids| pids.to_string()),
        ]);
    }
    format!("gam top  {}\n\n{}\n{}", frame.at, above.text(), table.text())
}

#[cfg(test)]
mod tests;
