//! A tree as it can be compared.

use std::collections::BTreeMap;

use stead_model::FileId;

/// What a file is, without its names.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Meta {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) mtime: i64,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) content: Vec<u8>,
}

/// Names (the root is empty) and files.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Image {
    pub(super) names: BTreeMap<Vec<u8>, FileId>,
    pub(super) files: BTreeMap<FileId, Meta>,
}

impl Image {
    /// What differs, for people.
    pub(super) fn difference(&self, other: &Image) -> Option<String> {
        let mut found = Vec::new();
        let paths = self.names.keys().chain(other.names.keys());
        for path in paths {
            let (ours, theirs) = (self.names.get(path), other.names.get(path));
            let shown = String::from_utf8_lossy(path);
            if ours != theirs {
                found.push(format!("{shown:?}: {} != {}", show(ours), show(theirs)));
                continue;
            }
            let Some(file) = ours else { continue };
            let (ours, theirs) = (self.files.get(file), other.files.get(file));
            if ours != theirs {
                found.push(format!("{shown:?} {file}: {ours:?} != {theirs:?}"));
            }
        }
        found.dedup();
        if found.is_empty() { None } else { Some(found.join("\n  ")) }
    }
}

fn show(file: Option<&FileId>) -> String {
    file.map_or("none".into(), |file| file.to_string())
}
