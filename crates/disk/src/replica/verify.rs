//! Verify: compares and reports; changes nothing.

use std::path::PathBuf;

use stead_model::{Attr, FileId, Record};

use super::names::checked_name;
use super::scan::extras;
use super::{ApplyError, Difference, Outcome, Replica, What};
use crate::read::describe;

impl Replica {
    /// Compares the name, the attributes and the xattrs of a node with the replica.
    pub(super) fn verify_node(&mut self, record: &Record<'_>, out: &mut Outcome) -> Result<(), ApplyError> {
        let file = record.file;
        if !record.parent.is_none() {
            let name = checked_name(record, record.name)?;
            let here = match self.dir(record.parent)? {
                Some(dir) => {
                    let here = self.is_at(file, &dir, &name)?;
                    self.stated(&dir, &name);
                    here
                }
                None => false,
            };
            if !here {
                self.report(record, What::Missing, out);
                return Ok(());
            }
        }
        if self.is_borrowed(file) {
            return Ok(());
        }
        let Some(handle) = self.handle(file)? else {
            self.report(record, What::Missing, out);
            return Ok(());
        };
        // What is pending on the file is as good as set.
        self.settle()?;
        let described = describe(handle.fd(), handle.path_only);
        let (attr, found, _) = described.map_err(|errno| self.failed("read the attributes of", file, errno))?;
        let wanted = extras(record)?;
        let mut lines = differing_attributes(&record.attr, &attr);
        if wanted.target != found.target {
            lines.push("symlink target".into());
        }
        if !lines.is_empty() {
            self.report(record, What::Attributes(lines), out);
        }
        let mut names: Vec<Vec<u8>> = Vec::new();
        for (name, value) in wanted.xattrs.iter().chain(&found.xattrs) {
            let has = |list: &[(Vec<u8>, Vec<u8>)]| list.iter().any(|(n, v)| n == name && v == value);
            let same = has(&wanted.xattrs) && has(&found.xattrs);
            if !same && !names.contains(name) {
                names.push(name.clone());
            }
        }
        if !names.is_empty() {
            self.report(record, What::Xattrs(names), out);
        }
        Ok(())
    }

    fn report(&mut self, record: &Record<'_>, what: What, out: &mut Outcome) {
        let path = self.path_of_record(record);
        let is_name = what == What::Missing;
        let (parent, name) = if is_name { (record.parent, record.name) } else { (FileId::NONE, &b""[..]) };
        out.differs.push(Difference { file: record.file, parent, name: name.to_vec(), path, what });
    }

    fn path_of_record(&mut self, record: &Record<'_>) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        let dir = if record.parent == FileId::NONE { record.file } else { record.parent };
        let mut path = self.path_of(dir).unwrap_or_default();
        if !record.parent.is_none() {
            path.push(std::ffi::OsStr::from_bytes(record.name));
        }
        path
    }
}

/// One line for each attribute that differs. Not compared are times of access and of inode change, link counts, and
/// sizes: the hashes end with the size.
fn differing_attributes(wanted: &Attr, found: &Attr) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = |what: &str, found: String, wanted: String| {
        if found != wanted {
            lines.push(format!("{what} {found}, should be {wanted}"));
        }
    };
    line("type", format!("{:o}", found.mode >> 12), format!("{:o}", wanted.mode >> 12));
    line("mode", format!("{:o}", found.permissions()), format!("{:o}", wanted.permissions()));
    line("owner", format!("{}:{}", found.uid, found.gid), format!("{}:{}", wanted.uid, wanted.gid));
    line("flags", format!("{:#x}", found.flags), format!("{:#x}", wanted.flags));
    if found.file_type() == wanted.file_type() && !wanted.is_file() && !wanted.is_dir() {
        line("device", found.rdev.to_string(), wanted.rdev.to_string());
    }
    let time = |attr: &Attr| format!("{}.{:09}", attr.mtime().sec, attr.mtime().nsec);
    line("mtime", time(found), time(wanted));
    lines
}
