//! The `lowerdir` option of overlay, which names every layer of an image and grows with it.

use std::path::{Path, PathBuf};

const OPTION: &str = "lowerdir=";

/// Where the one `lowerdir` option is in `data`, and the layers in it. None if there is not exactly one, or a layer is
/// no plain absolute path: escaped characters and data-only layers mean something only in the option as it is.
pub(super) fn find(data: &[String]) -> Option<(usize, Vec<PathBuf>)> {
    let mut found = data.iter().enumerate().filter(|(_, word)| word.starts_with(OPTION));
    let (index, word) = found.next()?;
    if found.next().is_some() || word.contains('\\') {
        return None;
    }
    let layers: Vec<_> = word.strip_prefix(OPTION)?.split(':').map(PathBuf::from).collect();
    layers.iter().all(|layer| layer.is_absolute()).then_some((index, layers))
}

/// The option that names these layers. Layers are paths from options, and so are UTF-8.
pub(super) fn option<'a>(layers: impl IntoIterator<Item = &'a Path>) -> String {
    let layers: Vec<_> = layers.into_iter().map(Path::to_string_lossy).collect();
    format!("{OPTION}{}", layers.join(":"))
}

/// Rewrites the layers relative to the longest directory that has them all in it, and answers that directory: the mount
/// is to be made from there. None, and nothing changed, if they have only the root in common.
pub(super) fn shorten(data: &mut [String]) -> Option<PathBuf> {
    let (index, layers) = find(data)?;
    let mut parents = layers.iter().map(|layer| layer.parent());
    let mut common = parents.next()??.to_path_buf();
    for parent in parents {
        let parent = parent?;
        while !parent.starts_with(&common) {
            common.pop();
        }
    }
    if common == Path::new("/") {
        return None;
    }
    let shortened: Option<Vec<_>> = layers.iter().map(|layer| layer.strip_prefix(&common).ok()).collect();
    *data.get_mut(index)? = option(shortened?);
    Some(common)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn layers_become_relative_to_their_longest_common_directory() {
        let mut words = data(&[
            "index=off",
            "lowerdir=/s/snapshots/12/fs:/s/snapshots/1/fs",
            "upperdir=/s/snapshots/3/fs",
        ]);
        assert_eq!(shorten(&mut words), Some(PathBuf::from("/s/snapshots")));
        assert_eq!(words, ["index=off", "lowerdir=12/fs:1/fs", "upperdir=/s/snapshots/3/fs"]);
    }

    #[test]
    fn a_layer_is_never_shortened_to_nothing() {
        let mut words = data(&["lowerdir=/s/a:/s/a/b"]);
        assert_eq!(shorten(&mut words), Some(PathBuf::from("/s")));
        assert_eq!(words, ["lowerdir=a:a/b"]);
        let mut words = data(&["lowerdir=/s/a"]);
        assert_eq!(shorten(&mut words), Some(PathBuf::from("/s")));
        assert_eq!(words, ["lowerdir=a"]);
    }

    #[test]
    fn what_cannot_be_shortened_is_left() {
        for words in [
            &["lowerdir=/a/b:/c/d"][..],
            &["lowerdir=/s/a:relative"],
            &["lowerdir=/s/a::/s/b"],
            &["lowerdir=/s/a\\:x:/s/b"],
            &["lowerdir=/s/a:/s/b", "lowerdir=/s/c"],
            &["lowerdir=/"],
            &["upperdir=/s/a"],
            &[],
        ] {
            let mut changed = data(words);
            assert_eq!(shorten(&mut changed), None, "{words:?}");
            assert_eq!(changed, words);
        }
    }
}
