//! Single files: the `watch` driver says that one changed, not what changed in it. What differs from the last version is
//! what a connection would send.

use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use stead_model::{FileId, Kind, Record};

/// What is compared at a time.
const BLOCK_BYTES: usize = 4096;

/// The watched files, each as it was last seen.
#[derive(Debug, Default)]
pub(super) struct Singles(Vec<Single>);

#[derive(Debug, Default)]
struct Single {
    path: PathBuf,
    ino: u64,
    /// ctime and size.
    seen: (i64, i64, u64),
    hashes: Vec<u64>,
}

impl Singles {
    /// Takes stock of the files.
    pub(super) fn of(paths: &[PathBuf]) -> Singles {
        let mut singles =
            Singles(paths.iter().map(|path| Single { path: path.clone(), ..Single::default() }).collect());
        singles.append_changes(&mut Vec::new());
        singles
    }

    /// Appends a write for every block that differs from what was last seen. A file that is gone, or cannot be read now,
    /// is looked at again the next time.
    pub(super) fn append_changes(&mut self, out: &mut Vec<u8>) {
        for single in &mut self.0 {
            let _ = single.look(out);
        }
    }
}

impl Single {
    fn look(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let mut file = File::open(&self.path)?;
        let meta = file.metadata()?;
        let now = (meta.ctime(), meta.ctime_nsec(), meta.len());
        if now == self.seen && meta.ino() == self.ino {
            return Ok(());
        }
        if meta.ino() != self.ino {
            // Another file took the name: all of it travels.
            self.hashes.clear();
        }
        let mut hashes = Vec::with_capacity(self.hashes.len());
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            let len = read_block(&mut file, &mut block)?;
            if len == 0 {
                break;
            }
            let hash = hash(&block[..len]);
            if self.hashes.get(hashes.len()) != Some(&hash) {
                let file = FileId { ino: meta.ino(), generation: 0, volume: u32::MAX };
                let a = (hashes.len() * BLOCK_BYTES) as u64;
                Record { a, data: &block[..len], ..Record::new(Kind::Write, file) }.append_to(out);
            }
            hashes.push(hash);
        }
        (self.ino, self.seen, self.hashes) = (meta.ino(), now, hashes);
        Ok(())
    }
}

fn read_block(file: &mut File, block: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < block.len() {
        match file.read(&mut block[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(len)
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use stead_model::record::records;

    fn written(singles: &mut Singles) -> Vec<(u64, usize)> {
        let mut out = Vec::new();
        singles.append_changes(&mut out);
        records(&out).map(|record| record.unwrap()).map(|record| (record.a, record.data.len())).collect()
    }

    #[test]
    fn only_blocks_that_differ_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let path = path.as_path();
        std::fs::write(path, vec![1; 10_000]).unwrap();
        let mut singles = Singles::of(&[path.into()]);
        assert_eq!(written(&mut singles), []);
        let mut content = vec![1; 10_000];
        content[5_000] = 2;
        std::fs::write(path, &content).unwrap();
        assert_eq!(written(&mut singles), [(4096, 4096)]);
        assert_eq!(written(&mut singles), []);
        content.push(3);
        std::fs::write(path, &content).unwrap();
        assert_eq!(written(&mut singles), [(8192, 10_001 - 8192)]);
    }

    #[test]
    fn a_file_that_took_the_name_counts_as_a_whole_and_one_that_is_gone_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let (path, new) = (dir.path().join("file"), dir.path().join("new"));
        std::fs::write(&path, vec![1; 5_000]).unwrap();
        let mut singles = Singles::of(std::slice::from_ref(&path));
        std::fs::write(&new, vec![1; 5_000]).unwrap();
        std::fs::rename(&new, &path).unwrap();
        assert_eq!(written(&mut singles), [(0, 4096), (4096, 904)]);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(written(&mut singles), []);
    }
}
