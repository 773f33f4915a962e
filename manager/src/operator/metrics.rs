//! `gam metrics`: what Prometheus would be told.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::managers::{self, Found, PATIENCE};
use super::table::plain;
use super::{OperatorError, print, print_json};
use crate::group::Group;
use crate::metrics::{Merged, Source, merge};

/// The longest answer, in bytes.
const LONGEST: u64 = 16 << 20;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Where there is more than one manager, every sample has the labels `group` and `group_id`, as at the node's \
    address.\nIt exits with 1 if a manager does not tell, as where its configuration turns metrics off."
)]
pub(super) struct Args {
    /// Print JSON: a value for each name with its labels
    #[arg(long)]
    json: bool,
    /// Only of this group: its name, the last word of it, or the beginning of its directory's name
    #[arg(long)]
    group: Option<String>,
}

/// What a manager tells.
struct Page<'f> {
    found: &'f Found,
    text: String,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, OperatorError> {
    let found = managers::living(args.group.as_deref())?;
    let mut pages: Vec<Page<'_>> = Vec::new();
    let mut failed = false;
    for found in &found {
        match get(&Group::at("", &found.directory).metrics_socket()) {
            Ok(text) => pages.push(Page { found, text }),
            Err(error) => {
                failed = true;
                let group = found.group();
                eprintln!("gam: the manager of {}: its metrics cannot be read: {error}", plain(&group));
            }
        }
    }
    if args.json {
        let row = |Page { found, text }: &Page<'_>| json!({"manager": found.pid(), "group": found.group(), "metrics": values(text)});
        print_json(&pages.iter().map(row).collect::<Vec<Value>>())?;
    } else {
        let Merged { text, refused } = text(pages, found.len());
        for error in &refused {
            failed = true;
            eprintln!("gam: {error}");
        }
        print(&text)?;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The pages as one text: where `asked` managers are more than one, as the node's address puts them together.
fn text(mut pages: Vec<Page<'_>>, asked: usize) -> Merged {
    match pages.pop() {
        Some(page) if asked == 1 => Merged { text: page.text, refused: Vec::new() },
        last => {
            let source = |page: Page<'_>| Source::new(&page.found.group(), &page.found.directory, page.text);
            merge(&pages.into_iter().chain(last).map(source).collect::<Vec<_>>())
        }
    }
}

/// The body of `GET /metrics` at a unix socket, by HTTP/1.0, which has no chunks.
fn get(socket: &Path) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: gam\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    match head.lines().next() {
        Some(first) if first.contains(" 200 ") => Ok(body.to_owned()),
        first => Err(io::Error::other(format!("the answer is {:?}", first.unwrap_or_default()))),
    }
}

/// The values of a text for Prometheus, by name and labels.
fn values(text: &str) -> Map<String, Value> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            // What JSON has no number for stays text.
            let value = value
                .parse::<f64>()
                .ok()
                .and_then(serde_json::Number::from_f64)
                .map_or_else(|| value.into(), Value::Number);
            Some((name.to_owned(), value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Answer;

    #[test]
    fn values_are_found_by_name_and_labels() {
        let values = values("# HELP a b\na 1\nb{le=\"+Inf\"} 2.5\nc NaN\n");
        assert_eq!(values["a"], json!(1.0));
        assert_eq!(values["b{le=\"+Inf\"}"], json!(2.5));
        assert_eq!(values["c"], json!("NaN"));
    }

    #[test]
    fn only_more_than_one_manager_are_told_apart() {
        let found = ["/run/gam/1", "/run/gam/2"].map(|directory| Found {
            directory: directory.into(),
            pid: None,
            identity: None,
            called: Some("g".into()),
            answer: Ok(Answer::Unknown),
        });
        let pages = |count| {
            let text = "# HELP x X.\n# TYPE x gauge\nx 1\n".to_owned();
            found.iter().take(count).map(|found| Page { found, text: text.clone() }).collect()
        };
        assert_eq!(text(pages(1), 1).text, "# HELP x X.\n# TYPE x gauge\nx 1\n");
        let one = "# HELP x X.\n# TYPE x gauge\nx{group=\"g\",group_id=\"1\"} 1\n";
        assert_eq!(text(pages(1), 2).text, one, "the other did not tell");
        assert_eq!(text(pages(2), 2).text, format!("{one}x{{group=\"g\",group_id=\"2\"}} 1\n"));
        assert_eq!(text(pages(0), 1).text, "");
    }

    #[test]
    fn a_body_is_taken_and_another_status_is_an_error() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("m");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            for answer in ["HTTP/1.0 200 OK\r\nA: b\r\n\r\na 1\n", "HTTP/1.0 500 No\r\n\r\nwhy\n"] {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 512]).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        assert_eq!(get(&path).unwrap(), "a 1\n");
        assert!(get(&path).unwrap_err().to_string().contains("500"));
        server.join().unwrap();
        assert!(get(&place.path().join("none")).is_err());
    }
}
