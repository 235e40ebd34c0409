//! Walks over trees: how large one is, what lies in it. One file system only; names of any bytes.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use stead_model::Rules;

/// How much a tree holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// Bytes that its content takes on the file system: holes take none.
    pub(super) bytes: u64,
    /// Files and directories.
    pub(super) files: u64,
}

/// How large the part of the tree at `root` is that the rules take. What vanishes meanwhile counts nothing.
pub(super) fn measure(root: &Path, rules: &Rules) -> io::Result<Size> {
    let mut size = Size::default();
    let mut linked = HashSet::new();
    walk(root, |path, meta| {
        if !path.as_os_str().is_empty() && !rules.take(path.as_os_str().as_bytes(), meta.is_dir()) {
            return Step::Skip;
        }
        size.files += 1;
        if meta.is_dir() || meta.nlink() < 2 || linked.insert(meta.ino()) {
            size.bytes += meta.blocks() * 512;
        }
        Step::Into
    })?;
    Ok(size)
}

/// What lies beneath `root`, relative to it, parents first, at most `max` of it; and whether there is more.
pub(super) fn list(root: &Path, max: usize) -> io::Result<(Vec<PathBuf>, bool)> {
    let mut found = Vec::new();
    let mut cut = false;
    walk(root, |path, _| {
        if path.as_os_str().is_empty() {
            return Step::Into;
        }
        cut = found.len() >= max;
        if cut {
            return Step::End;
        }
        found.push(path.to_path_buf());
        Step::Into
    })?;
    Ok((found, cut))
}

enum Step {
    Into,
    Skip,
    End,
}

fn walk(root: &Path, mut visit: impl FnMut(&Path, &fs::Metadata) -> Step) -> io::Result<()> {
    let device = fs::symlink_metadata(root)?.dev();
    let mut waiting = vec![PathBuf::new()];
    while let Some(path) = waiting.pop() {
        let full = if path.as_os_str().is_empty() { root.to_path_buf() } else { root.join(&path) };
        let meta = match fs::symlink_metadata(&full) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            meta => meta?,
        };
        if meta.dev() != device {
            continue;
        }
        match visit(&path, &meta) {
            Step::End => return Ok(()),
            Step::Into if meta.is_dir() => {
                let names = match fs::read_dir(&full) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                    names => names?,
                };
                for name in names {
                    waiting.push(path.join(name?.file_name()));
                }
            }
            Step::Into | Step::Skip => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_measured_by_rules_and_links_count_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/x"), vec![1; 8192]).unwrap();
        fs::hard_link(dir.path().join("a/x"), dir.path().join("y")).unwrap();
        fs::write(dir.path().join("a/z.tmp"), vec![1; 1 << 20]).unwrap();
        let spec = stead_model::RulesSpec { exclude: vec!["*.tmp".into()], ..Default::default() };
        let size = measure(dir.path(), &Rules::new(&spec).unwrap()).unwrap();
        assert_eq!(size.files, 4);
        assert!((8192..64 << 10).contains(&size.bytes), "{size:?}");
    }

    #[test]
    fn a_listing_names_parents_first_and_says_where_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        let (found, cut) = list(dir.path(), 10).unwrap();
        assert_eq!((found, cut), (vec!["a".into(), "a/b".into()], false));
        assert!(list(dir.path(), 1).unwrap().1);
    }
}
