//! Paths in the words of a plan, where a set lies elsewhere on a node: `/srv/notes/db` is `/standby/notes/db` there.

use std::path::PathBuf;

use super::group::GroupPlan;
use super::resource::ResourcePlan;
use super::share::{NfsPlan, SambaPlan};

/// What may stand before a path within a word, and behind it besides `/`.
const BEFORE: &str = "=:,;\"' ([\t\r\n<>{";
const BEHIND: &str = ":,;\"' )]\t\r\n<>}";

/// The same text with the paths of one node in the place of those of the other, each as a whole: `/srv/notes` is not found
/// in `/srv/notes2`. Of paths within each other the longest counts.
pub fn substituted(text: &str, paths: &[(String, String)]) -> String {
    let (mut done, mut rest) = (String::new(), text);
    loop {
        let found = paths.iter().filter_map(|(from, to)| Some((position(&done, rest, from)?, from, to)));
        let Some((at, from, to)) = found.min_by_key(|(at, from, _)| (*at, std::cmp::Reverse(from.len()))) else {
            return done + rest;
        };
        done += &rest[..at];
        done += to;
        rest = &rest[at + from.len()..];
    }
}

/// The same of the content of a file, in whatever encoding it is that has the characters of paths as ASCII has them.
pub fn substituted_bytes(bytes: &[u8], paths: &[(String, String)]) -> Vec<u8> {
    // A character for each byte, so that what is no UTF-8 stays as it is.
    let widened = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect::<String>();
    let of_paths = |(from, to): &(String, String)| (widened(from.as_bytes()), widened(to.as_bytes()));
    let paths: Vec<_> = paths.iter().map(of_paths).collect();
    substituted(&widened(bytes), &paths).chars().map(|c| c as u8).collect()
}

fn position(done: &str, rest: &str, path: &str) -> Option<usize> {
    let begins = |at: usize| match rest[..at].chars().next_back().or(done.chars().next_back()) {
        None => true,
        Some(before) => BEFORE.contains(before),
    };
    let ends = |at: usize| rest[at + path.len()..].chars().next().is_none_or(|c| c == '/' || BEHIND.contains(c));
    rest.match_indices(path).map(|(at, _)| at).find(|at| begins(*at) && ends(*at))
}

impl GroupPlan {
    /// The same, with the paths of this node in the parameters and commands of its resources, and of the files from which
    /// its role files are made; `paths`: those of its source, each with where it is here.
    pub fn with_paths(&self, paths: &[(String, String)]) -> GroupPlan {
        let resources = self.resources.iter().map(|resource| resource.with_paths(paths)).collect();
        let role_files = self.role_files.iter().map(|file| file.with_paths(paths)).collect();
        GroupPlan { resources, role_files, ..self.clone() }
    }
}

impl ResourcePlan {
    fn with_paths(&self, paths: &[(String, String)]) -> ResourcePlan {
        let words = |words: &[String]| words.iter().map(|word| substituted(word, paths)).collect::<Vec<_>>();
        let parameters = self.parameters.iter().map(|(name, value)| (name.clone(), substituted(value, paths)));
        let mut checks = self.checks.clone();
        checks.iter_mut().for_each(|check| check.command = words(&check.command));
        let path = |path: &PathBuf| path.to_str().map_or(path.clone(), |text| substituted(text, paths).into());
        let samba = self.samba.as_ref().map(|samba| SambaPlan {
            path: path(&samba.path),
            config: samba.config.as_ref().map(path),
            ..samba.clone()
        });
        let nfs = self.nfs.as_ref().map(|nfs| NfsPlan { path: path(&nfs.path), ..nfs.clone() });
        ResourcePlan {
            parameters: parameters.collect(),
            samba,
            nfs,
            start: words(&self.start),
            stop: words(&self.stop),
            status: words(&self.status),
            checks,
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_any_encoding_keep_what_is_no_path() {
        let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        let paths = [pair("/srv/notes", "/standby/nötes"), pair("/standby/nötes", "/standby/nötes")];
        let ini = b"[Notes]\r\nDirectory=/srv/notes/data\r\nOwner=J\xfcrg\r\nLog=/srv/notes\n";
        let made = b"[Notes]\r\nDirectory=/standby/n\xc3\xb6tes/data\r\nOwner=J\xfcrg\r\nLog=/standby/n\xc3\xb6tes\n";
        assert_eq!(substituted_bytes(ini, &paths), made);
        assert_eq!(substituted_bytes(made, &paths), made, "twice is once");
    }

    #[test]
    fn paths_are_replaced_as_a_whole() {
        let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        let paths = [pair("/srv/notes", "/standby/notes"), pair("/srv/notes/db", "/fast/db"), pair("/a", "/a/a")];
        for (text, expected) in [
            ("/srv/notes", "/standby/notes"),
            ("/srv/notes/x", "/standby/notes/x"),
            ("/srv/notes/db/x", "/fast/db/x"),
            ("/srv/notes2", "/srv/notes2"),
            ("/usr/srv/notes", "/usr/srv/notes"),
            ("-D=/srv/notes,/srv/notes/db -k '/a'", "-D=/standby/notes,/fast/db -k '/a/a'"),
            ("host=/srv/notes;x", "host=/standby/notes;x"),
            ("", ""),
        ] {
            assert_eq!(substituted(text, &paths), expected, "{text}");
        }
    }

    #[test]
    fn a_share_is_shared_from_where_it_lies() {
        let plan: ResourcePlan = toml::from_str(
            "name = 'files'\n[samba]\nshare = 'notes'\npath = '/srv/notes/x'\nconfig = '/srv/notes/smb.conf'\n\
             [nfs]\npath = '/srv/notes'\nclients = ['*']\n",
        )
        .unwrap();
        let there = plan.with_paths(&[("/srv/notes".into(), "/standby/notes".into())]);
        let samba = there.samba.unwrap();
        assert_eq!(samba.path, PathBuf::from("/standby/notes/x"));
        assert_eq!(samba.config, Some("/standby/notes/smb.conf".into()));
        assert_eq!(there.nfs.unwrap().path, PathBuf::from("/standby/notes"));
    }
}
