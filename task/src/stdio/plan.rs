//! What the standard streams of a process are to be, read from containerd's words for them.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::StdioError;
use crate::telemetry::Stream;

/// What a process's standard streams are connected to. Making one makes nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub(super) terminal: bool,
    /// The FIFO that is read.
    pub(super) stdin: Option<PathBuf>,
    pub(super) outputs: Outputs,
}

/// Where a process prints to. The scheme of stdout decides for both streams; a stream without a URI is not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outputs {
    Fifos { stdout: Option<PathBuf>, stderr: Option<PathBuf> },
    Files { stdout: Option<PathBuf>, stderr: Option<PathBuf> },
    Logger { program: Program, stdout: bool, stderr: bool },
}

/// A logger's command line.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) args: Vec<OsString>,
    /// Whether it must say that it is ready (`binary-v2`), or only close its descriptor.
    pub(super) says_ready: bool,
}

impl fmt::Debug for Program {
    // The arguments may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} with {} arguments", self.path, self.args.len())
    }
}

impl Plan {
    /// Reads the four fields of a Create or Exec request.
    ///
    /// A stream is a path or `fifo:///path` (a FIFO), `file:///path` (appended to) or `binary:///path?k=v` and
    /// `binary-v2:///path?k=v` (a logger with the arguments `k v`); stdin is a FIFO; an empty string is no stream. With a
    /// terminal stderr is not looked at, as there is none.
    ///
    /// # Errors
    /// [`StdioError::Scheme`] and [`StdioError::Uri`].
    pub fn parse(terminal: bool, stdin: &str, stdout: &str, stderr: &str) -> Result<Self, StdioError> {
        let stdin = match Target::parse(Stream::Stdin, stdin)? {
            None => None,
            Some(Target::Fifo(path)) => Some(path),
            Some(other) => {
                let scheme = other.scheme().to_owned();
                return Err(StdioError::Scheme { stream: Stream::Stdin, scheme });
            }
        };
        let stdout = Target::parse(Stream::Stdout, stdout)?;
        let stderr = if terminal { None } else { Target::parse(Stream::Stderr, stderr)? };
        Ok(Self { terminal, stdin, outputs: Outputs::of(stdout, stderr)? })
    }
}

impl Outputs {
    fn of(stdout: Option<Target>, stderr: Option<Target>) -> Result<Self, StdioError> {
        let wanted = stderr.is_some();
        Ok(match (stdout, stderr) {
            (None, None) => Self::Fifos { stdout: None, stderr: None },
            (Some(Target::Fifo(path)), None) => Self::Fifos { stdout: Some(path), stderr: None },
            (None, Some(Target::Fifo(path))) => Self::Fifos { stdout: None, stderr: Some(path) },
            (Some(Target::Fifo(stdout)), Some(Target::Fifo(stderr))) => {
                Self::Fifos { stdout: Some(stdout), stderr: Some(stderr) }
            }
            (Some(Target::Fifo(_)), Some(other)) => {
                return Err(StdioError::Scheme { stream: Stream::Stderr, scheme: other.scheme().to_owned() });
            }
            (Some(Target::File(stdout)), Some(Target::File(stderr))) => {
                Self::Files { stdout: Some(stdout), stderr: Some(stderr) }
            }
            (None, Some(Target::File(path))) => Self::Files { stdout: None, stderr: Some(path) },
            (Some(Target::File(path)), _) => {
                Self::Files { stderr: wanted.then(|| path.clone()), stdout: Some(path) }
            }
            (Some(Target::Logger(program)), _) => Self::Logger { program, stdout: true, stderr: wanted },
            (None, Some(Target::Logger(program))) => Self::Logger { program, stdout: false, stderr: true },
        })
    }
}

enum Target {
    Fifo(PathBuf),
    File(PathBuf),
    Logger(Program),
}

impl Target {
    fn parse(stream: Stream, text: &str) -> Result<Option<Self>, StdioError> {
        let wrong = |why| StdioError::Uri { stream, why };
        if text.is_empty() {
            return Ok(None);
        }
        if text.starts_with('/') {
            return Ok(Some(Self::Fifo(path(text.as_bytes().to_vec()).map_err(wrong)?)));
        }
        let Some((scheme, rest)) = text.split_once(':') else { return Err(wrong("is a relative path")) };
        if !is_scheme(scheme) {
            return Err(wrong("is a relative path"));
        }
        if !matches!(scheme, "fifo" | "file" | "binary" | "binary-v2") {
            return Err(StdioError::Scheme { stream, scheme: scheme.chars().take(64).collect() });
        }
        let Some(rest) = rest.strip_prefix("//") else { return Err(wrong("has no // after its scheme")) };
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !place.starts_with('/') {
            return Err(wrong("has a host or a relative path"));
        }
        let place = path(decode(place, false).map_err(wrong)?).map_err(wrong)?;
        Ok(Some(match scheme {
            "fifo" => Self::Fifo(place),
            "file" => Self::File(place),
            _ => Self::Logger(Program {
                path: place,
                args: arguments(query).map_err(wrong)?,
                says_ready: scheme == "binary-v2",
            }),
        }))
    }

    fn scheme(&self) -> &'static str {
        match self {
            Self::Fifo(_) => "fifo",
            Self::File(_) => "file",
            Self::Logger(_) => "binary",
        }
    }
}

/// RFC 3986, 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

fn path(bytes: Vec<u8>) -> Result<PathBuf, &'static str> {
    if bytes.contains(&0) {
        return Err("has a NUL in its path");
    }
    if bytes.ends_with(b"/") {
        return Err("is the path of a directory");
    }
    Ok(OsString::from_vec(bytes).into())
}

/// A key, and its value if it has an equals sign, for each pair of the query, in its order.
fn arguments(query: &str) -> Result<Vec<OsString>, &'static str> {
    let mut args = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').map_or((pair, None), |(key, value)| (key, Some(value)));
        for word in std::iter::once(key).chain(value) {
            let word = decode(word, true)?;
            if word.contains(&0) {
                return Err("has a NUL in its query");
            }
            args.push(OsString::from_vec(word));
        }
    }
    Ok(args)
}

/// Undoes percent-encoding; in a query a plus sign is a space.
fn decode(text: &str, query: bool) -> Result<Vec<u8>, &'static str> {
    const MALFORMED: &str = "has a percent sign that is not followed by two hexadecimal digits";
    let digit = |byte: Option<u8>| {
        let digit = byte.and_then(|byte| char::from(byte).to_digit(16)).ok_or(MALFORMED)?;
        u8::try_from(digit).map_err(|_| MALFORMED)
    };
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => (digit(bytes.next())? << 4) | digit(bytes.next())?,
            b'+' if query => b' ',
            other => other,
        });
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(stdout: &str, stderr: &str) -> Outputs {
        Plan::parse(false, "", stdout, stderr).unwrap().outputs
    }

    #[test]
    fn c18_an_empty_uri_is_no_stream() {
        let plan = Plan::parse(false, "", "", "").unwrap();
        assert_eq!(plan.stdin, None);
        assert_eq!(plan.outputs, Outputs::Fifos { stdout: None, stderr: None });
        let only = Plan::parse(false, "", "", "/e").unwrap();
        assert_eq!(only.outputs, Outputs::Fifos { stdout: None, stderr: Some("/e".into()) });
    }

    #[test]
    fn a_path_without_a_scheme_is_taken_as_it_is() {
        let plan = Plan::parse(false, "/a%20b:c?d", "fifo:///x%20y", "").unwrap();
        assert_eq!(plan.stdin, Some("/a%20b:c?d".into()));
        assert_eq!(plan.outputs, Outputs::Fifos { stdout: Some("/x y".into()), stderr: None });
    }

    #[test]
    fn a_logger_gets_the_query_in_its_order() {
        let uri = "binary:///bin/log%67er?b=1+2&a=%26%3d&k2&e=&b=3";
        let Outputs::Logger { program, stdout, stderr } = outputs(uri, uri) else { panic!("no logger") };
        assert_eq!(program.path, PathBuf::from("/bin/logger"));
        assert_eq!(program.args, ["b", "1 2", "a", "&=", "k2", "e", "", "b", "3"]);
        assert!(stdout && stderr && !program.says_ready);
        assert!(!format!("{program:?}").contains("&="), "a value of the query is shown");
    }

    #[test]
    fn the_scheme_of_stdout_decides() {
        let both = Outputs::Files { stdout: Some("/a".into()), stderr: Some("/a".into()) };
        assert_eq!(outputs("file:///a", "/fifo"), both);
        let apart = Outputs::Files { stdout: Some("/a".into()), stderr: Some("/b".into()) };
        assert_eq!(outputs("file:///a", "file:///b"), apart);
        assert!(matches!(outputs("binary-v2:///a", "file:///b"), Outputs::Logger { stderr: true, .. }));
        assert!(Plan::parse(false, "", "/fifo", "file:///b").unwrap_err().is_refusal());
    }

    #[test]
    fn what_is_not_served_is_refused_and_its_query_not_shown() {
        for bad in [
            "relative",
            "relative/path:x",
            "ttrpc+unix:///run/x?streaming_id=secret",
            "http://host/secret",
            "file://host/secret",
            "file:relative?secret",
            "file://relative",
            "file:///a%0",
            "file:///a%zz",
            "file:///a%00b",
            "file:///dir/",
            "binary://",
            "binary:///log?secret=%0",
            "binary:///log?secret=%00",
            "/nul\0",
            ":",
            "://",
        ] {
            for (stdin, stdout, stderr) in [(bad, "", ""), ("", bad, ""), ("", "", bad), ("", "/a", bad)] {
                let error = Plan::parse(false, stdin, stdout, stderr).expect_err(bad);
                assert!(error.is_refusal(), "{bad}: {error}");
                assert!(!error.to_string().contains("secret"), "{error}");
            }
        }
        assert!(Plan::parse(false, "file:///a", "", "").unwrap_err().is_refusal());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_parsing_panic(text in ".{0,60}", scheme in "(binary|file|fifo|)(://|:|)/?") {
            let _ = Plan::parse(false, &text, &format!("{scheme}{text}"), &text);
        }
    }
}
