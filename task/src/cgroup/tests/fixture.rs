//! Trees of files that look like a cgroup, and messages field by field.

use std::fmt::Debug;
use std::fs;
use std::path::Path;

/// Writes files of `(name, text)` below `directory`.
pub(super) fn tree(directory: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// Every field of a message and of those in it, set or not, as `path=value`. The messages have no reflection, but their
/// debug text has every field.
pub(super) fn fields(message: &impl Debug) -> Vec<String> {
    let text = format!("{message:#?}");
    let mut path: Vec<&str> = Vec::new();
    let mut found = Vec::new();
    for line in text.lines().map(|line| line.trim().trim_end_matches(',')) {
        let (name, value) = line.split_once(": ").unwrap_or(("", line));
        match value.chars().next_back() {
            Some('{' | '(' | '[') => path.push(name),
            Some('}' | ')' | ']') if value.len() == 1 => {
                path.pop();
            }
            _ => {
                path.push(name);
                if !path.contains(&"special_fields") {
                    let names: Vec<&str> = path.iter().copied().filter(|name| !name.is_empty()).collect();
                    found.push(format!("{}={value}", names.join(".")));
                }
                path.pop();
            }
        }
    }
    found
}

/// The paths of those that are unset or zero.
pub(super) fn unset(fields: &[String]) -> Vec<&str> {
    let empty =
        |field: &&String| ["=0", "=0.0", "=\"\"", "=None", "=[]"].iter().any(|value| field.ends_with(value));
    fields.iter().filter(empty).map(|field| field.split('=').next().unwrap()).collect()
}

/// The same list from `name {name: value name: value}`, in which fields that are unset are left out.
pub(super) fn expected(text: &str) -> Vec<String> {
    let text = text.replace('{', " { ").replace('}', " } ");
    let mut words = text.split_whitespace();
    let mut path: Vec<&str> = Vec::new();
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        match word.strip_suffix(':') {
            Some(name) => {
                path.push(name);
                found.push(format!("{}={}", path.join("."), words.next().unwrap()));
                path.pop();
            }
            None if word == "}" => {
                path.pop();
            }
            None if word == "{" => {}
            None => path.push(word),
        }
    }
    found
}
