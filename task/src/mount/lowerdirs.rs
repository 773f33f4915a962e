//! Overlays of many layers: their data is longer than a page, so lower directories are named relative to the directory
//! that they share.

use std::path::{Path, PathBuf};

use super::LONGEST;

/// Data that was made shorter, and the directory in which it holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shortened {
    pub(super) directory: PathBuf,
    pub(super) data: String,
}

impl Shortened {
    /// Shortens the data of an overlay that is too long; none where it is short, or cannot be shortened.
    pub(super) fn of(kind: &str, data: &[String]) -> Option<Self> {
        let length: usize = data.iter().map(|option| option.len().saturating_add(1)).sum();
        if kind != "overlay" || length <= LONGEST {
            return None;
        }
        let lower = data.iter().find_map(|option| option.strip_prefix("lowerdir="))?;
        let directories: Vec<&Path> = lower.split(':').map(Path::new).collect();
        let shared = shared(&directories)?;
        let relative: Vec<&str> = directories
            .iter()
            .map(|path| path.strip_prefix(&shared).ok()?.to_str())
            .collect::<Option<_>>()?;
        let relative = relative.iter().map(|path| if path.is_empty() { "." } else { path });
        let lower = relative.collect::<Vec<_>>().join(":");
        let data: Vec<String> =
            data.iter()
                .map(|option| {
                    if option.starts_with("lowerdir=") { format!("lowerdir={lower}") } else { option.clone() }
                })
                .collect();
        Some(Self { directory: shared, data: data.join(",") })
    }
}

/// The longest directory that all are in.
fn shared(paths: &[&Path]) -> Option<PathBuf> {
    let (first, rest) = paths.split_first()?;
    let mut shared = first.parent()?;
    while !rest.iter().all(|path| path.starts_with(shared)) {
        shared = shared.parent()?;
    }
    (shared.is_absolute() && shared != Path::new("/")).then(|| shared.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lowerdirs_are_named_from_the_directory_they_share() {
        let layers: Vec<String> =
            (0..200).map(|number| format!("/var/lib/snapshots/{number:040}/fs")).collect();
        let data = vec![format!("lowerdir={}", layers.join(":")), "upperdir=/u".into(), "workdir=/w".into()];
        let short = Shortened::of("overlay", &data).unwrap();
        assert_eq!(short.directory, Path::new("/var/lib/snapshots"));
        assert!(short.data.starts_with(&format!("lowerdir={:040}/fs:", 0)));
        assert!(short.data.ends_with(",upperdir=/u,workdir=/w"));
        assert_eq!(Shortened::of("overlay", &["lowerdir=/a:/b".into()]), None);
        assert_eq!(Shortened::of("ext4", &data), None);
    }
}
