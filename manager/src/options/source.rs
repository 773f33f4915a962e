//! Options as TOML.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

use super::{Named, OptionsError};
use crate::config::complaint;

/// The largest file of options, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Reads `toml`, which came from `place`.
pub(super) fn parse(place: &str, toml: &[u8]) -> Result<Named, OptionsError> {
    let text = std::str::from_utf8(toml).map_err(|_| OptionsError::NotText(place.to_owned()))?;
    toml::from_str(text).map_err(|e| {
        let (line, message) = complaint(text, &e);
        OptionsError::Toml { place: place.to_owned(), line, message }
    })
}

/// Reads the file that containerd's `ConfigPath` names.
pub(super) fn read(path: &Path) -> Result<Named, OptionsError> {
    let bad = |why| OptionsError::BadFile { path: path.to_owned(), why };
    let failed = |source| OptionsError::Read { path: path.to_owned(), source };
    if !path.is_absolute() {
        return Err(bad("is not an absolute path"));
    }
    // A FIFO in its place would otherwise hold the caller for ever.
    let file =
        OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(bad("is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(bad("has more than 1 MiB"));
    }
    parse(&path.display().to_string(), &bytes)
}
