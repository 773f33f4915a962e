//! `gam config check`: whether a configuration can be used, and what it says with its defaults.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::Value;

use super::{OperatorError, print, print_json};
use crate::config::Config;

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
    let values = effective(&config)?;
    if args.json {
        print_json(&values)?;
    } else {
        print(&text(&values, ""))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Every key that has a value.
fn effective(config: &Config) -> Result<Value, OperatorError> {
    let mut values = serde_json::to_value(config).map_err(|error| OperatorError::Print(error.into()))?;
    strip(&mut values);
    Ok(values)
}

/// Removes keys without a value: what holds then has no word.
fn strip(value: &mut Value) {
    if let Some(table) = value.as_object_mut() {
        table.retain(|_, value| !value.is_null());
        table.values_mut().for_each(strip);
    }
}

/// The same as TOML: JSON's strings, numbers and booleans are TOML's as well. `place` is the name of the table.
fn text(values: &Value, place: &str) -> String {
    let mut text = String::new();
    let pairs = || values.as_object().into_iter().flatten();
    for (name, value) in pairs().filter(|(_, value)| !value.is_object()) {
        text.push_str(&format!("{name} = {value}\n"));
    }
    if !text.is_empty() && !place.is_empty() {
        text.insert_str(0, &format!("[{place}]\n"));
    }
    for (name, value) in pairs().filter(|(_, value)| value.is_object()) {
        let is_bare = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        let name =
            if is_bare && !name.is_empty() { name.clone() } else { Value::from(name.as_str()).to_string() };
        let inner = if place.is_empty() { name } else { format!("{place}.{name}") };
        text.push_str(&self::text(value, &inner));
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
            "[metrics]\nlisten = \"off\"\nper_container = true\n[scheduler]\nconcurrency = 9\n",
            "[limits]\nexecs = 7\n[limits.tenants.\"k8s.io/batch\"]\ncontainers = 5\n[limits.tenants.plain]\nexecs = 1\n",
        ] {
            std::fs::write(&file, given).unwrap();
            let config = Config::read(&file).unwrap();
            std::fs::write(&file, text(&effective(&config).unwrap(), "")).unwrap();
            assert_eq!(Config::read(&file).unwrap(), config, "{given}");
        }
    }
}
