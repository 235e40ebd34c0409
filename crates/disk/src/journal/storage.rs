//! Where segments are kept: a directory, or for tests a memory that can be frozen as a crash would leave it.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Files by name. Written bytes are durable after [`Storage::sync`] of their file, names after [`Storage::sync_names`].
pub trait Storage {
    /// Names of all files.
    ///
    /// # Errors
    /// What the kernel said; so for all methods.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Makes a file, or takes one that is there, and sees to it that `len` bytes have been written, new ones as zeros.
    #[allow(missing_docs, clippy::missing_errors_doc)]
    fn allocate(&mut self, name: &str, len: u64) -> io::Result<()>;
    /// Gives back what lies behind the first `len` bytes; where the storage cannot, nothing happens.
    #[allow(missing_docs, clippy::missing_errors_doc)]
    fn trim(&mut self, _name: &str, _len: u64) -> io::Result<()> {
        Ok(())
    }
    /// Length in bytes.
    #[allow(missing_docs, clippy::missing_errors_doc)]
    fn len(&mut self, name: &str) -> io::Result<u64>;
    /// Fills `out` from `offset` on; returns how many bytes there were.
    #[allow(missing_docs, clippy::missing_errors_doc)]
    fn read(&mut self, name: &str, offset: u64, out: &mut [u8]) -> io::Result<usize>;
    /// Writes all parts, one after the other, from `offset` on.
    #[allow(missing_docs, clippy::missing_errors_doc)]
    fn write(&mut self, name: &str, offset: u64, parts: &[&[u8]]) -> io::Result<()>;
    /// Makes what was written to the file durable.
    #[allow(missing_docs, clippy::missing_errors_doc)]
    fn sync(&mut self, name: &str) -> io::Result<()>;
    /// Makes names durable.
    #[allow(missing_docs, clippy::missing_errors_doc)]
    fn sync_names(&mut self) -> io::Result<()>;
    /// Renames a file over another or none.
    #[allow(missing_docs, clippy::missing_errors_doc)]
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    #[allow(missing_docs, clippy::missing_errors_doc)]
    fn remove(&mut self, name: &str) -> io::Result<()>;
}

/// A directory.
#[derive(Debug)]
pub struct DirStorage {
    dir: PathBuf,
    open: HashMap<String, File>,
}

impl DirStorage {
    /// Files in `dir`, which exists.
    pub fn new(dir: &Path) -> DirStorage {
        DirStorage { dir: dir.into(), open: HashMap::new() }
    }

    fn file(&mut self, name: &str) -> io::Result<&File> {
        if !self.open.contains_key(name) {
            let file = OpenOptions::new().read(true).write(true).open(self.dir.join(name))?;
            self.open.insert(name.into(), file);
        }
        Ok(&self.open[name])
    }
}

impl Storage for DirStorage {
    fn names(&self) -> io::Result<Vec<String>> {
        std::fs::read_dir(&self.dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn allocate(&mut self, name: &str, len: u64) -> io::Result<()> {
        let path = self.dir.join(name);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let zeros = vec![0; 1 << 20];
        let mut at = file.metadata()?.len();
        while at < len {
            let part = (len - at).min(zeros.len() as u64);
            file.write_all_at(&zeros[..part as usize], at)?;
            at += part;
        }
        // Its length must be durable before fdatasync may leave the inode alone.
        file.sync_all()?;
        self.open.insert(name.into(), file);
        Ok(())
    }

    fn trim(&mut self, name: &str, len: u64) -> io::Result<()> {
        self.file(name)?.set_len(len)
    }

    fn len(&mut self, name: &str) -> io::Result<u64> {
        Ok(self.file(name)?.metadata()?.len())
    }

    fn read(&mut self, name: &str, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let file = self.file(name)?;
        let mut done = 0;
        while done < out.len() {
            match file.read_at(&mut out[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(len) => done += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write(&mut self, name: &str, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        let file = self.file(name)?;
        let slices: Vec<_> = parts.iter().map(|part| io::IoSlice::new(part)).collect();
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let done = rustix::io::pwritev(file, &slices, offset)?;
        if done == total {
            return Ok(());
        }
        let rest = parts.concat();
        file.write_all_at(&rest[done..], offset + done as u64)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.file(name)?.sync_data()
    }

    fn sync_names(&mut self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.dir.join(from), self.dir.join(to))?;
        if let Some(file) = self.open.remove(from) {
            self.open.insert(to.into(), file);
        }
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.open.remove(name);
        std::fs::remove_file(self.dir.join(name))
    }
}
