//! One group's text, understood as far as it takes to put it together with others'.

/// A family of metrics in a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Family<'a> {
    pub(super) name: &'a str,
    /// What follows the name on the line `# HELP`; empty if there is none.
    pub(super) help: &'a str,
    /// What follows the name on the line `# TYPE`; empty if there is none.
    pub(super) kind: &'a str,
    /// The lines of its samples.
    pub(super) samples: Vec<&'a str>,
}

/// A line that is not what a manager writes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} {why}")]
pub(crate) struct Malformed {
    /// The line, from 1.
    pub(super) line: usize,
    /// What is wrong with it.
    pub(super) why: &'static str,
}

/// What a family's samples may have behind its name.
const SUFFIXES: [&str; 4] = ["", "_bucket", "_sum", "_count"];

/// Understands a text. `reserved` are labels that it may not use.
pub(super) fn parse<'a>(text: &'a str, reserved: &[&str]) -> Result<Vec<Family<'a>>, Malformed> {
    let mut families: Vec<Family<'a>> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let malformed = |why| Malformed { line: index + 1, why };
        if let Some(comment) = line.strip_prefix("# ") {
            let (word, rest) = comment.split_once(' ').unwrap_or((comment, ""));
            let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            if !matches!(word, "HELP" | "TYPE") || !is_name(name) {
                return Err(malformed("is a comment of another kind"));
            }
            if families.last().is_none_or(|family| family.name != name) {
                if families.iter().any(|family| family.name == name) {
                    return Err(malformed("begins a family for the second time"));
                }
                families.push(Family { name, help: "", kind: "", samples: Vec::new() });
            }
            if let Some(family) = families.last_mut() {
                *(if word == "HELP" { &mut family.help } else { &mut family.kind }) = rest;
            }
            continue;
        }
        let name = sample(line, reserved).map_err(malformed)?;
        let belongs = |family: &&mut Family<'_>| {
            name.strip_prefix(family.name).is_some_and(|suffix| SUFFIXES.contains(&suffix))
        };
        match families.last_mut().filter(belongs) {
            Some(family) => family.samples.push(line),
            None => return Err(malformed("is not of the family that it is in")),
        }
    }
    Ok(families)
}

/// The name of a sample, if its line is one.
fn sample<'a>(line: &'a str, reserved: &[&str]) -> Result<&'a str, &'static str> {
    let end = line.find(['{', ' ']).ok_or("is no sample")?;
    let (name, rest) = line.split_at(end);
    let value = match rest.strip_prefix('{') {
        Some(labels) => labels_end(labels, reserved).ok_or("has labels that are not understood")?,
        None => rest,
    };
    let value = value.strip_prefix(' ').ok_or("has no value")?;
    if !is_name(name) || value.parse::<f64>().is_err() {
        return Err("is no sample");
    }
    Ok(name)
}

/// What follows a list of labels.
fn labels_end<'a>(mut rest: &'a str, reserved: &[&str]) -> Option<&'a str> {
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Some(after);
        }
        let (label, value) = rest.split_once("=\"")?;
        if !is_name(label) || reserved.contains(&label) {
            return None;
        }
        let mut escaped = false;
        let quote = value.find(|one| {
            let ends = one == '"' && !escaped;
            escaped = one == '\\' && !escaped;
            ends
        })?;
        rest = value.get(quote + 1..)?;
        if let Some(next) = rest.strip_prefix(',') {
            rest = next;
        } else if !rest.starts_with('}') {
            return None;
        }
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "# HELP a What a is.\n# TYPE a counter\na 1\na{x=\"}\\\"{,\",y=\"\"} +Inf\n# HELP h H.\n\
                        # TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_sum 0.5\nh_count 2\n";

    #[test]
    fn families_have_their_samples() {
        let families = parse(GOOD, &["group"]).unwrap();
        let seen: Vec<_> = families.iter().map(|one| (one.name, one.kind, one.samples.len())).collect();
        assert_eq!(seen, [("a", "counter", 2), ("h", "histogram", 3)]);
        assert_eq!(families[0].help, "What a is.");
        assert_eq!(parse("", &[]), Ok(vec![]));
    }

    #[test]
    fn what_no_manager_writes_is_refused_with_its_line() {
        let head = "# TYPE a counter\n";
        for bad in [
            "a",
            "a x",
            "a{x=\"1} 2",
            "a{x=\"1\"y=\"2\"} 2",
            "a{x=\"1\"}2",
            "a{group=\"1\"} 2",
            "a{1x=\"1\"} 2",
            "b 1",
            "a_total 1",
            "# EOF",
            "# TYPE a-b counter",
            "",
            "<html>",
            "a 1 2",
        ] {
            let error = parse(&format!("{head}{bad}\n"), &["group"]).unwrap_err();
            assert_eq!(error.line, 2, "{bad}: {error}");
        }
        assert_eq!(parse(&format!("{head}# TYPE b gauge\n{head}"), &[]).unwrap_err().line, 3);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(# TYPE a x\n)?[a{}=\"\\\\, 1\n#é]{0,40}") {
            let _ = parse(&text, &["group"]);
        }
    }
}
