//! `gam config check`: whether a configuration can be used, and what it says with its defaults.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::{OperatorError, print, print_json};
use crate::config::{Config, Listen};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Read a configuration and print what counts, defaults included, or what is wrong with it and where
    Check(Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file; without it the one that managers read: that of $GAM_CONFIG, or /etc/gam/config.toml
    file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &Command) -> Result<ExitCode, OperatorError> {
    let Command::Check(args) = command;
    let config = match &args.file {
        Some(file) => Config::read(file)?,
        None => Config::load()?,
    };
    let values = effective(&config);
    if args.json {
        print_json(&values)?;
    } else {
        print(&text(&values))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Every key and its value.
fn effective(config: &Config) -> Value {
    let seconds = |time: std::time::Duration| {
        if time.subsec_millis() == 0 {
            format!("{}s", time.as_secs())
        } else {
            format!("{}ms", time.as_millis())
        }
    };
    // There is no word for the group's own socket: it is what holds where nothing is said.
    let listen = match &config.metrics.listen {
        Listen::Group => None,
        Listen::Unix(path) => Some(path.to_string_lossy().into_owned()),
        Listen::Tcp(address) => Some(format!("tcp://{address}")),
        Listen::Off => Some("off".to_owned()),
    };
    let mut tables = json!({"metrics": {"listen": listen}, "runtime": config.runtime});
    for table in tables.as_object_mut().into_iter().flatten().filter_map(|(_, table)| table.as_object_mut()) {
        table.retain(|_, value| !value.is_null());
    }
    json!({
        "grouping": config.grouping,
        "linger": seconds(config.linger),
        "task_api": config.task_api,
        "log_level": config.log_level.to_string(),
        "metrics": tables.get("metrics"),
        "events": {
            "max_events": config.events.max_events,
            "max_bytes": config.events.max_bytes,
            "patience": seconds(config.events.patience),
        },
        "runtime": tables.get("runtime"),
    })
}

/// The same as TOML: JSON's strings, numbers and booleans are TOML's as well.
fn text(values: &Value) -> String {
    let mut text = String::new();
    let pairs = || values.as_object().into_iter().flatten();
    for (name, value) in pairs().filter(|(_, value)| !value.is_object()) {
        text.push_str(&format!("{name} = {value}\n"));
    }
    for (name, value) in pairs() {
        let Some(table) = value.as_object().filter(|table| !table.is_empty()) else { continue };
        text.push_str(&format!("[{name}]\n"));
        for (name, value) in table {
            text.push_str(&format!("{name} = {value}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_as_the_same() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("config.toml");
        for given in [
            "",
            "grouping = \"pod\"\nlinger = \"1500ms\"\ntask_api = 3\nlog_level = \"debug\"\n",
            "[metrics]\nlisten = \"tcp://127.0.0.1:9464\"\n[events]\nmax_events = 7\npatience = \"1m30s\"\n",
            "[metrics]\nlisten = \"/run/m.sock\"\n[runtime]\nBinaryName = \"/a \\\"b\\\"\"\nSystemdCgroup = true\nIoUid = 3\n",
            "[metrics]\nlisten = \"off\"\n",
        ] {
            std::fs::write(&file, given).unwrap();
            let config = Config::read(&file).unwrap();
            std::fs::write(&file, text(&effective(&config))).unwrap();
            assert_eq!(Config::read(&file).unwrap(), config, "{given}");
        }
    }
}
