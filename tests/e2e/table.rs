//! BEHAVIOUR.md beside this crate's Cargo.toml: which test proves which row.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use gam_tests::suite::Test;
use gam_tests::target::workspace;

gam_tests::tests![every_row_is_in_the_table, every_test_of_the_table_exists, every_row_test_is_in_the_table];

/// The sections and how many rows each has; section 0 is written O.
const SECTIONS: [(char, u32); 12] = [
    ('O', 8),
    ('A', 17),
    ('B', 7),
    ('C', 19),
    ('D', 20),
    ('E', 13),
    ('F', 8),
    ('G', 6),
    ('H', 11),
    ('I', 6),
    ('J', 11),
    ('K', 10),
];

/// The table: a row's id, and the rest of its line.
fn table() -> BTreeMap<String, String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("BEHAVIOUR.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let is_id = |id: &str| id.len() > 1 && id[1..].chars().all(|one| one.is_ascii_digit());
    rows.filter(|(id, _)| is_id(id)).map(|(id, rest)| (id.to_owned(), rest.to_owned())).collect()
}

/// The names in backticks that are those of row tests.
fn named(rest: &str) -> Vec<&str> {
    rest.split('`').skip(1).step_by(2).filter(|name| name.contains('_') && !name.contains(':')).collect()
}

fn sources(directory: &Path, text: &mut String) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

fn every_row_is_in_the_table(_: &Test) {
    let table = table();
    for (section, count) in SECTIONS {
        for number in 1..=count {
            let row = table.get(&format!("{section}{number}"));
            let row = row.unwrap_or_else(|| panic!("BEHAVIOUR.md has no row {section}{number}"));
            assert!(row.trim_matches(['|', ' ']).len() > 3, "the row {section}{number} says nothing");
        }
    }
}

fn every_test_of_the_table_exists(_: &Test) {
    let mut text = String::new();
    for directory in ["tests", "task", "manager"] {
        sources(&workspace().join(directory), &mut text);
    }
    for (row, rest) in table() {
        for name in named(&rest) {
            assert!(text.contains(&format!("fn {name}(")), "{row} names {name}, which no source has");
        }
    }
}

fn every_row_test_is_in_the_table(_: &Test) {
    let table = table();
    let all: BTreeSet<&str> = table.values().flat_map(|rest| named(rest)).collect();
    let mut text = String::new();
    sources(&workspace().join("tests/e2e"), &mut text);
    for line in text.lines() {
        let Some((name, _)) = line.strip_prefix("fn ").and_then(|rest| rest.split_once("(t: &Test)")) else {
            continue;
        };
        if name.chars().nth(1).is_some_and(|one| one.is_ascii_digit()) {
            assert!(all.contains(name), "{name} is not in BEHAVIOUR.md");
        }
    }
}
