//! The reading of mount options, open to tests/fuzz, and built for it only.

use super::layers;
use super::options::Options;

/// Reads the options of a mount, and shortens the layers in what is left for the file system. Answers how long that was
/// and has become, in bytes; none where the options are refused.
#[must_use]
pub fn options(kind: &str, words: &[String]) -> Option<(usize, usize)> {
    let mut options = Options::parse(kind, words).ok()?;
    let length = |data: &[String]| data.iter().map(String::len).sum();
    let before = length(&options.data);
    let _ = (options.is_bind(), options.per_mount(), layers::shorten(&mut options.data));
    Some((before, length(&options.data)))
}
