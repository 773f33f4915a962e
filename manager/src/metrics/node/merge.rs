//! Several groups' texts put together: each family once, each sample with the labels of its group.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::page::{Family, Malformed, parse};

/// The labels that samples get here.
const LABELS: [&str; 2] = ["group", "group_id"];
/// How much of the name of a group is shown, in characters.
const NAME: usize = 128;
/// How much of the name of its directory.
const ID: usize = 8;

/// One group's text.
#[derive(Debug)]
pub(crate) struct Source {
    id: String,
    /// The labels of its samples.
    labels: String,
    text: String,
}

/// What all have told.
#[derive(Debug)]
pub(crate) struct Merged {
    pub(crate) text: String,
    /// The groups that were left out.
    pub(crate) refused: Vec<RefusedError>,
}

/// A group's text that does not fit in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefusedError {
    /// one that is not understood
    #[error("the metrics of the group {group} are not understood: {source}")]
    Malformed { group: String, source: Malformed },
    /// one in which a name means something else
    #[error("the metrics of the group {group} have {family} as another kind")]
    Kind { group: String, family: String },
}

impl Source {
    /// The text of the group `name` with this directory.
    pub(crate) fn new(name: &str, directory: &Path, text: String) -> Self {
        let id = directory.file_name().unwrap_or_default().to_string_lossy();
        let id: String = id.chars().take(ID).collect();
        let name: String = if name.is_empty() { id.clone() } else { name.chars().take(NAME).collect() };
        let name = name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let [group, group_id] = LABELS;
        let labels = format!("{group}=\"{name}\",{group_id}=\"{id}\"");
        Self { id, labels, text }
    }
}

/// Puts them together. One that does not fit is left out whole, and the first counts: it is the caller's own.
pub(crate) fn merge(sources: &[Source]) -> Merged {
    let mut all: BTreeMap<&str, Vec<(&Source, Family<'_>)>> = BTreeMap::new();
    let mut refused = Vec::new();
    let mut size = 0;
    for source in sources {
        let families = match parse(&source.text, &LABELS) {
            Ok(families) => families,
            Err(malformed) => {
                refused.push(RefusedError::Malformed { group: source.id.clone(), source: malformed });
                continue;
            }
        };
        let differs = |family: &&Family<'_>| {
            all.get(family.name)
                .and_then(|same| same.first())
                .is_some_and(|(_, first)| first.kind != family.kind)
        };
        if let Some(family) = families.iter().find(differs) {
            refused.push(RefusedError::Kind { group: source.id.clone(), family: family.name.to_owned() });
            continue;
        }
        for family in families {
            size += family.samples.len() * (source.labels.len() + 3);
            all.entry(family.name).or_default().push((source, family));
        }
        size += source.text.len();
    }
    let mut text = String::with_capacity(size);
    for (name, parts) in &all {
        if let Some((_, first)) = parts.first() {
            // Writing into a string does not fail.
            let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {}", first.help, first.kind);
        }
        for (source, family) in parts {
            family.samples.iter().for_each(|sample| label(&mut text, sample, &source.labels));
        }
    }
    Merged { text, refused }
}

/// Writes a sample's line with more labels.
fn label(text: &mut String, sample: &str, labels: &str) {
    let (name, rest) = sample.split_at(sample.find(['{', ' ']).unwrap_or(sample.len()));
    text.push_str(name);
    text.push('{');
    text.push_str(labels);
    match rest.strip_prefix('{') {
        Some(more) if more.starts_with('}') => text.push_str(more),
        Some(more) => {
            text.push(',');
            text.push_str(more);
        }
        None => {
            text.push('}');
            text.push_str(rest);
        }
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, directory: &str, text: &str) -> Source {
        Source::new(name, Path::new(directory), text.to_owned())
    }

    #[test]
    fn each_family_is_told_once_and_each_sample_has_its_group() {
        let one = source(
            "namespace k8s.io a\"b",
            "/run/0123456789",
            "# HELP x X.\n# TYPE x gauge\nx 1\nx{l=\"v\"} 2\n",
        );
        let two =
            source("", "/run/abc", "# HELP w W.\n# TYPE w gauge\nw{} 4\n# HELP x X.\n# TYPE x gauge\nx 3\n");
        let merged = merge(&[one, two]);
        assert!(merged.refused.is_empty(), "{merged:?}");
        let first = "group=\"namespace k8s.io a\\\"b\",group_id=\"01234567\"";
        let second = "group=\"abc\",group_id=\"abc\"";
        let expected = format!(
            "# HELP w W.\n# TYPE w gauge\nw{{{second}}} 4\n# HELP x X.\n# TYPE x gauge\nx{{{first}}} 1\n\
             x{{{first},l=\"v\"}} 2\nx{{{second}}} 3\n"
        );
        assert_eq!(merged.text, expected);
    }

    #[test]
    fn a_text_that_does_not_fit_costs_only_itself() {
        let good = "# HELP x X.\n# TYPE x gauge\nx 1\n";
        let sources = [
            source("own", "/run/1", good),
            source("bad", "/run/2", "# HELP x X.\n# TYPE x gauge\nx one\n"),
            source("old", "/run/3", "# HELP x X.\n# TYPE x counter\nx 5\n"),
            source("same", "/run/4", good),
        ];
        let merged = merge(&sources);
        let refused: Vec<String> = merged.refused.iter().map(ToString::to_string).collect();
        assert_eq!(refused.len(), 2, "{refused:?}");
        assert!(refused[0].contains("group 2") && refused[0].contains("line 3"), "{refused:?}");
        assert!(refused[1].contains("group 3") && refused[1].contains("x as another kind"), "{refused:?}");
        assert_eq!(merged.text.lines().filter(|line| line.starts_with("x{")).count(), 2);
    }
}
