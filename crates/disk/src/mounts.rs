//! The table of mounts (/proc/self/mountinfo).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::DiskError;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub id: u64,
    pub parent: u64,
    /// Major and minor number of the device.
    pub device: (u32, u32),
    /// What of the file system is mounted.
    pub root: PathBuf,
    pub point: PathBuf,
    pub read_only: bool,
    pub file_system: String,
    /// What is mounted, as whoever mounted it called it.
    pub source: String,
}

/// All mounts of this process, in the order of mounting: a later one lies over an earlier one at the same point.
pub(crate) fn mounts() -> Result<Vec<Mount>, DiskError> {
    let path = "/proc/self/mountinfo";
    let text = std::fs::read(path).map_err(DiskError::at("read", path))?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

pub(crate) fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let text = |field: Option<&[u8]>| Some(std::str::from_utf8(field?).ok()?.to_owned());
    let id = text(fields.next())?.parse().ok()?;
    let parent = text(fields.next())?.parse().ok()?;
    let device = text(fields.next())?;
    let (major, minor) = device.split_once(':')?;
    let root = unescape(fields.next()?);
    let point = unescape(fields.next()?);
    let options = text(fields.next())?;
    let mut after = fields.skip_while(|field| *field != b"-").skip(1);
    let file_system = text(after.next())?;
    let source = text(after.next())?;
    Some(Mount {
        id,
        parent,
        device: (major.parse().ok()?, minor.parse().ok()?),
        root,
        point,
        read_only: options.split(',').any(|option| option == "ro"),
        file_system,
        source,
    })
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal.filter(|_| byte == b'\\') {
            Some(code) => {
                out.push(code);
                rest = &after[3..];
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

/// The topmost mount at exactly that point.
pub(crate) fn topmost_at<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    mounts.iter().rfind(|mount| mount.point == path)
}

/// The mount that `path` is on.
pub(crate) fn mount_of<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    path.ancestors().find_map(|ancestor| topmost_at(mounts, ancestor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_its_escapes() {
        let line = br"36 35 98:7 /mnt1 /mnt\0402\134 rw,noatime master:1 - ext3 /dev/root ro,errors=continue";
        let mount = parse(line).unwrap();
        assert_eq!((mount.id, mount.parent, mount.device), (36, 35, (98, 7)));
        assert_eq!(mount.point, Path::new("/mnt 2\\"));
        assert!(!mount.read_only);
        assert_eq!((&*mount.file_system, &*mount.source), ("ext3", "/dev/root"));
        assert_eq!(parse(b"36 35"), None);
    }
}
