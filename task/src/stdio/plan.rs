//! What streams are asked for: URIs, understood.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use super::StdioError;

/// The streams of a process, as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub(super) terminal: bool,
    /// The FIFO of its input.
    pub(super) stdin: Option<PathBuf>,
    pub(super) outputs: Outputs,
}

/// Where its output goes. The scheme of stdout decides for both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outputs {
    /// To FIFOs.
    Fifos { stdout: Option<PathBuf>, stderr: Option<PathBuf> },
    /// To the ends of files.
    Files { stdout: Option<PathBuf>, stderr: Option<PathBuf> },
    /// To a program.
    Logger { program: Program, stdout: bool, stderr: bool },
}

/// A logger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) args: Vec<OsString>,
    /// Whether it says with a byte that it is ready (`binary-v2`, C16).
    pub(super) says_ready: bool,
}

/// One URI.
enum Target {
    Nothing,
    Fifo(PathBuf),
    File(PathBuf),
    Logger(Program),
}

impl Plan {
    /// Understands what is asked for. Nothing is made yet.
    ///
    /// # Errors
    /// [`StdioError`] for a scheme that is not served or a path that is not absolute.
    pub fn parse(terminal: bool, stdin: &str, stdout: &str, stderr: &str) -> Result<Self, StdioError> {
        let stdin = match target("stdin", stdin)? {
            Target::Nothing => None,
            Target::Fifo(path) => Some(path),
            Target::File(_) | Target::Logger(_) => {
                return Err(StdioError::Uri { stream: "stdin", why: "it can only be a FIFO" });
            }
        };
        // A terminal has one output.
        let stderr = if terminal { "" } else { stderr };
        let outputs = outputs(target("stdout", stdout)?, target("stderr", stderr)?)?;
        Ok(Self { terminal, stdin, outputs })
    }
}

fn outputs(stdout: Target, stderr: Target) -> Result<Outputs, StdioError> {
    let mixed = StdioError::Uri { stream: "stderr", why: "it is of another kind than stdout" };
    Ok(match (stdout, stderr) {
        (Target::Nothing, Target::Nothing) => Outputs::Fifos { stdout: None, stderr: None },
        (Target::Fifo(out), Target::Nothing) => Outputs::Fifos { stdout: Some(out), stderr: None },
        (Target::Nothing, Target::Fifo(err)) => Outputs::Fifos { stdout: None, stderr: Some(err) },
        (Target::Fifo(out), Target::Fifo(err)) => Outputs::Fifos { stdout: Some(out), stderr: Some(err) },
        (Target::File(out), Target::Nothing) => Outputs::Files { stdout: Some(out), stderr: None },
        (Target::Nothing, Target::File(err)) => Outputs::Files { stdout: None, stderr: Some(err) },
        (Target::File(out), Target::File(err)) => Outputs::Files { stdout: Some(out), stderr: Some(err) },
        (Target::Logger(program), Target::Nothing) => {
            Outputs::Logger { program, stdout: true, stderr: false }
        }
        (Target::Nothing, Target::Logger(program)) => {
            Outputs::Logger { program, stdout: false, stderr: true }
        }
        (Target::Logger(program), Target::Logger(_)) => {
            Outputs::Logger { program, stdout: true, stderr: true }
        }
        _ => return Err(mixed),
    })
}

fn target(stream: &'static str, uri: &str) -> Result<Target, StdioError> {
    if uri.is_empty() {
        return Ok(Target::Nothing);
    }
    if uri.contains('\0') {
        return Err(StdioError::Uri { stream, why: "it holds a NUL" });
    }
    let Some((scheme, rest)) = uri.split_once("://") else {
        return Ok(Target::Fifo(absolute(stream, uri.into())?));
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = absolute(stream, decoded(stream, path)?.into())?;
    match scheme {
        "fifo" => Ok(Target::Fifo(path)),
        "file" => Ok(Target::File(path)),
        "binary" | "binary-v2" => Ok(Target::Logger(Program {
            path,
            args: arguments(stream, query)?,
            says_ready: scheme == "binary-v2",
        })),
        _ => Err(StdioError::Scheme { stream, scheme: scheme.chars().take(64).collect() }),
    }
}

fn absolute(stream: &'static str, path: PathBuf) -> Result<PathBuf, StdioError> {
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(StdioError::Uri { stream, why: "its path is not absolute" })
    }
}

/// `?k=v&l` is the arguments `k v l`, in their order.
fn arguments(stream: &'static str, query: &str) -> Result<Vec<OsString>, StdioError> {
    let mut arguments = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        arguments.push(decoded(stream, &name.replace('+', " "))?);
        if !value.is_empty() {
            arguments.push(decoded(stream, &value.replace('+', " "))?);
        }
    }
    Ok(arguments)
}

/// Undoes percent-encoding.
fn decoded(stream: &'static str, text: &str) -> Result<OsString, StdioError> {
    let bad = || StdioError::Uri { stream, why: "its percent-encoding is broken" };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (high, low) = (digit().ok_or_else(bad)?, digit().ok_or_else(bad)?);
        match u8::try_from(high << 4 | low) {
            Ok(byte) if byte != 0 => bytes.push(byte),
            _ => return Err(bad()),
        }
    }
    Ok(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scheme_is_understood() {
        let fifos = Plan::parse(false, "/in", "/out", "fifo:///err").unwrap();
        assert_eq!(fifos.stdin.as_deref(), Some("/in".as_ref()));
        assert_eq!(
            fifos.outputs,
            Outputs::Fifos { stdout: Some("/out".into()), stderr: Some("/err".into()) }
        );
        let file = Plan::parse(false, "", "file:///a%20b", "").unwrap();
        assert_eq!(file.outputs, Outputs::Files { stdout: Some("/a b".into()), stderr: None });
        let logger = Plan::parse(false, "", "binary:///l?k=v&flag&x=%41", "binary:///l?k=v").unwrap();
        let Outputs::Logger { program, stdout: true, stderr: true } = logger.outputs else {
            panic!("{logger:?}")
        };
        assert_eq!(program.args, ["k", "v", "flag", "x", "A"]);
        assert!(!program.says_ready);
        let second = Plan::parse(true, "", "binary-v2:///l", "ignored with a terminal").unwrap();
        assert!(matches!(second.outputs, Outputs::Logger { program: Program { says_ready: true, .. }, .. }));
    }

    #[test]
    fn what_is_not_served_is_refused_and_no_query_is_shown() {
        for bad in [
            "relative",
            "http://x/",
            "ttrpc+unix:///s?streaming_id=secret",
            "file://relative",
            "file:///%0",
            "file:///%00",
            "binary:///l?k=%zz",
            "/nul\0",
            "://",
        ] {
            let error = Plan::parse(false, "", bad, "").unwrap_err();
            assert!(error.is_invalid(), "{bad}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        assert!(Plan::parse(false, "file:///in", "", "").is_err());
        assert!(Plan::parse(false, "", "/fifo", "file:///f").is_err());
    }
}
