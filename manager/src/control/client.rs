//! The side that asks: short-lived commands, so it blocks.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Answer, LONGEST, Question};

/// Why a manager did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens: there is no manager, or it is dead.
    #[error("no manager listens on {path}")]
    Absent {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It listens and does not answer, or cannot be asked.
    #[error("the manager at {path} does not answer: {source}")]
    Silent {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It answers that it cannot, or something that is no answer to the question.
    #[error("the manager at {path} refuses: {answer}")]
    Refused {
        /// The socket.
        path: PathBuf,
        /// What it said.
        answer: String,
    },
}

/// A connection to a manager.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: UnixStream,
}

impl Client {
    /// Connects to the manager that listens on `path`; an answer may take `patience`.
    ///
    /// # Errors
    /// [`ControlError::Absent`] if nobody listens, [`ControlError::Silent`] if that cannot be told.
    pub fn connect(path: &Path, patience: Duration) -> Result<Self, ControlError> {
        let connected = UnixStream::connect(path).and_then(|stream| {
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => Ok(Self { path: path.to_path_buf(), stream }),
            // Nothing else means that there is no manager: whoever thinks so starts a second one.
            Err(source)
                if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                Err(ControlError::Absent { path: path.to_path_buf(), source })
            }
            Err(source) => Err(ControlError::Silent { path: path.to_path_buf(), source }),
        }
    }

    /// Asks one question.
    ///
    /// # Errors
    /// [`ControlError::Silent`] if no answer comes in time, or none that is understood.
    pub fn ask(&mut self, question: &Question) -> Result<Answer, ControlError> {
        self.exchange(question).map_err(|source| ControlError::Silent { path: self.path.clone(), source })
    }

    /// Asks for what happens from now on, which is then read for as long as it takes.
    ///
    /// # Errors
    /// [`ControlError::Silent`] if no answer comes in time, [`ControlError::Refused`] if it is another than that they follow.
    pub fn follow(mut self) -> Result<Followed, ControlError> {
        let silent = |path: &Path, source| ControlError::Silent { path: path.to_path_buf(), source };
        self.send(&Question::Events).map_err(|source| silent(&self.path, source))?;
        let mut followed = Followed { reader: BufReader::new(self.stream) };
        let answer = match followed.next_line() {
            Ok(Some(line)) => serde_json::from_slice(&line).map_err(|error| error.to_string()),
            Ok(None) => return Err(silent(&self.path, io::ErrorKind::UnexpectedEof.into())),
            Err(source) => return Err(silent(&self.path, source)),
        };
        let refused = |answer| Err(ControlError::Refused { path: self.path.clone(), answer });
        match answer {
            Ok(Answer::Following) => {}
            Ok(Answer::Failed(text)) | Err(text) => return refused(text),
            Ok(other) => return refused(format!("{other:?}")),
        }
        followed.reader.get_ref().set_read_timeout(None).map_err(|source| silent(&self.path, source))?;
        Ok(followed)
    }

    fn send(&mut self, question: &Question) -> io::Result<()> {
        let mut line = serde_json::to_vec(question)?;
        line.push(b'\n');
        self.stream.write_all(&line)
    }

    fn exchange(&mut self, question: &Question) -> io::Result<Answer> {
        self.send(question)?;
        let mut answer = String::new();
        BufReader::new(&self.stream).take(LONGEST << 10).read_line(&mut answer)?;
        if answer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&answer)?)
    }
}

/// What a manager tells one who follows it.
#[derive(Debug)]
pub struct Followed {
    reader: BufReader<UnixStream>,
}

impl Followed {
    /// Waits for what happens next; none once the manager has left. A line that is not understood is passed over: a
    /// manager of a later build may tell more.
    ///
    /// # Errors
    /// What reading answers.
    pub fn next_answer(&mut self) -> io::Result<Option<Answer>> {
        while let Some(line) = self.next_line()? {
            if let Ok(answer) = serde_json::from_slice(&line) {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let read = (&mut self.reader).take(LONGEST).read_until(b'\n', &mut line)?;
        Ok((read > 0).then_some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_not_understood_is_passed_over() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"{\"later\":1}\n\xff\n{\"lost\":\n{\"lost\":2}\n{\"lost\":").unwrap();
        drop(theirs);
        let mut followed = Followed { reader: BufReader::new(ours) };
        assert_eq!(followed.next_answer().unwrap(), Some(Answer::Lost(2)));
        assert_eq!(followed.next_answer().unwrap(), None);
    }

    #[test]
    fn k2_only_a_socket_that_nobody_serves_means_that_there_is_no_manager() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("control.sock");
        let connect = |path: &Path| Client::connect(path, Duration::from_secs(1)).unwrap_err();
        assert!(matches!(connect(&path), ControlError::Absent { .. }));
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(matches!(connect(&path), ControlError::Absent { .. }));
        let long = place.path().join("x".repeat(200));
        assert!(matches!(connect(&long), ControlError::Silent { .. }));
    }
}
