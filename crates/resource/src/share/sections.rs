//! The file that Samba includes: a section for each share of a group that is served on this node.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::{Failure, Term};

const NAME: &str = "stead-shares.conf";
const HEAD: &str = "# Written by Stead: shares of the groups that this node serves. What is changed here is lost.\n";
/// Between two tries to be the only one who writes.
const PAUSE: Duration = Duration::from_millis(10);

/// The file, in the directory of the server's own process number: that of each server is its own, and in memory.
pub(super) struct Sections(PathBuf);

impl Sections {
    pub(super) fn of(pid_dir: &Path) -> Sections {
        Sections(pid_dir.join(NAME))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The section of that name, from its head to its last line; none: there is none.
    pub(super) fn get(&self, name: &str) -> io::Result<Option<String>> {
        Ok(parts(&self.read()?).into_iter().find(|part| is_of(part, name)).map(str::to_owned))
    }

    /// Puts the section of that name in the place of the one that is there, or takes it out. The file is whole at any time,
    /// whoever else writes to it.
    pub(super) fn put(&self, name: &str, section: Option<&str>, term: Term<'_>) -> Result<(), Failure> {
        let _alone = self.lock(term)?;
        let written = self.read().and_then(|text| self.write(&replaced(&text, name, section)));
        written.map_err(Failure::at(format!("write {}", self.0.display())))
    }

    fn read(&self) -> io::Result<String> {
        match fs::read_to_string(&self.0) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(String::new()),
            read => read,
        }
    }

    /// Everybody may read it, as any configuration of Samba.
    fn write(&self, text: &str) -> io::Result<()> {
        let new = self.0.with_extension("new");
        fs::write(&new, text)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
        fs::rename(new, &self.0)
    }

    fn lock(&self, term: Term<'_>) -> Result<File, Failure> {
        let path = self.0.with_extension("lock");
        let failed = || Failure::at::<io::Error>(format!("lock {}", path.display()));
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(failed())?;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(e) if e.kind() != ErrorKind::WouldBlock => return Err(failed()(e.into())),
                Err(_) if term.is_over() => return Err(Failure::TimedOut(term.limit)),
                Err(_) => drop(term.stop.wait(Instant::now() + PAUSE)),
            }
        }
    }
}

fn replaced(text: &str, name: &str, section: Option<&str>) -> String {
    let others = parts(text).into_iter().filter(|part| !is_of(part, name));
    [HEAD].into_iter().chain(others).chain(section).collect()
}

/// The sections, each with its head.
fn parts(text: &str) -> Vec<&str> {
    let heads = text.match_indices('[').map(|(at, _)| at).filter(|at| *at == 0 || text[..*at].ends_with('\n'));
    let starts: Vec<usize> = heads.collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts.iter().zip(ends).map(|(start, end)| &text[*start..end]).collect()
}

/// Samba does not mind the case of names.
fn is_of(part: &str, name: &str) -> bool {
    let head = part.lines().next().and_then(|line| line.strip_prefix('[')?.strip_suffix(']'));
    head.is_some_and(|head| head.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stop;

    #[test]
    fn each_share_has_its_section_and_leaves_the_others_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (sections, stop) = (Sections::of(dir.path()), Stop::never());
        let put = |name: &str, section: Option<&str>| {
            sections.put(name, section, Term::new(Duration::from_secs(5), &stop)).unwrap();
        };
        assert_eq!(sections.get("a").unwrap(), None);
        put("a", Some("[a]\n\tpath = /[a]\n"));
        put("ab", Some("[ab]\n\tpath = /ab\n"));
        put("A", Some("[A]\n\tpath = /new\n"));
        assert_eq!(sections.get("a").unwrap().unwrap(), "[A]\n\tpath = /new\n");
        assert_eq!(sections.get("ab").unwrap().unwrap(), "[ab]\n\tpath = /ab\n");
        put("ab", None);
        put("ab", None);
        assert_eq!(fs::read_to_string(sections.path()).unwrap(), format!("{HEAD}[A]\n\tpath = /new\n"));
        assert_eq!(fs::metadata(sections.path()).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn who_holds_the_file_is_waited_for_within_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let (sections, stop) = (Sections::of(dir.path()), Stop::never());
        let held = sections.lock(Term::new(Duration::from_secs(5), &stop)).unwrap();
        let term = Term::new(Duration::from_millis(50), &stop);
        assert!(matches!(sections.put("a", None, term), Err(Failure::TimedOut(_))));
        drop(held);
        sections.put("a", None, Term::new(Duration::from_secs(5), &stop)).unwrap();
    }
}
