//! gam's own configuration, as it is delivered.

use std::collections::BTreeSet;
use std::fs;

use gam_manager::config::Config;
use gam_tests::suite::Test;

use crate::deploy;

gam_tests::tests![the_delivered_configuration_is_the_defaults, every_key_is_there_and_none_is_made_up];

fn the_delivered_configuration_is_the_defaults(_: &Test) {
    assert_eq!(Config::read(&deploy("config.toml")).unwrap(), Config::default());
}

/// The keys of a table, as the error about a key that does not exist lists them.
fn keys_of(table: &str) -> BTreeSet<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    let head = if table.is_empty() { String::new() } else { format!("[{table}]\n") };
    fs::write(&path, format!("{head}no_such_key = 1\n")).unwrap();
    let text = Config::read(&path).unwrap_err().to_string();
    let (_, expected) = text.split_once("expected").unwrap_or_else(|| panic!("{table}: {text}"));
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The keys of a TOML text with their tables, those that are commented out too.
fn written(text: &str) -> BTreeSet<(String, String)> {
    let mut table = String::new();
    let mut found = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        let bare = line.trim_start_matches("# ");
        if let Some(name) = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            table = name.to_owned();
            // `[limits.tenants.NAME]` is the key `tenants` of `[limits]`.
            if let [above, key, ..] = name.split('.').collect::<Vec<_>>()[..] {
                found.insert((above.to_owned(), key.to_owned()));
            }
        } else if let Some((key, _)) = bare.split_once(" = ")
            && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        {
            found.insert((table.clone(), key.to_owned()));
        }
    }
    found
}

fn every_key_is_there_and_none_is_made_up(_: &Test) {
    let text = fs::read_to_string(deploy("config.toml")).unwrap();
    let written = written(&text);
    let top = keys_of("");
    assert!(top.contains("grouping") && top.contains("metrics"), "{top:?}");
    for key in top {
        if text.contains(&format!("\n[{key}]\n")) {
            if key == "runtime" {
                // Its keys are those of containerd's runc options: those that make sense for a node are shown.
                continue;
            }
            for inner in keys_of(&key) {
                assert!(
                    written.contains(&(key.clone(), inner.clone())),
                    "[{key}] {inner} is not in deploy/config.toml"
                );
            }
        } else {
            assert!(written.contains(&(String::new(), key.clone())), "{key} is not in deploy/config.toml");
        }
    }
    for (table, key) in &written {
        let known = keys_of(table);
        assert!(known.contains(key), "[{table}] {key} of deploy/config.toml does not exist");
    }
}
