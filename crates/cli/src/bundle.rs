//! A tar file of texts, in the format of POSIX (ustar).

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

const BLOCK: usize = 512;
const NAME_BYTES_MAX: usize = 100;

/// A tar file that grows in memory.
pub struct Bundle {
    time: u64,
    bytes: Vec<u8>,
}

impl Bundle {
    /// An empty one; its entries carry that time, in seconds since 1970.
    pub fn new(time: u64) -> Bundle {
        Bundle { time, bytes: Vec::new() }
    }

    /// Adds a text. A name that tar cannot hold loses its beginning.
    pub fn add(&mut self, name: &str, text: &str) {
        let name = name.as_bytes();
        let name = &name[name.len().saturating_sub(NAME_BYTES_MAX)..];
        self.bytes.extend(header(name, text.len(), self.time));
        self.bytes.extend(text.as_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
    }

    /// All of it.
    pub fn end(mut self) -> Vec<u8> {
        self.bytes.extend([0; 2 * BLOCK]);
        self.bytes
    }
}

fn header(name: &[u8], len: usize, time: u64) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name);
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{len:011o}\0").as_bytes());
    put(136, format!("{time:011o}\0").as_bytes());
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// The last bytes of a file as text, or why there are none.
pub fn shown(path: &Path, bytes_max: u64) -> String {
    let read = || {
        let mut file = File::open(path)?;
        // Files of /proc have no length.
        let start = file.metadata()?.len().saturating_sub(bytes_max);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(bytes_max).read_to_end(&mut bytes)?;
        std::io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|e| format!("{}: {e}\n", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tar_reads_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut bundle = Bundle::new(1_700_000_000);
        bundle.add("one", "first\n");
        bundle.add("dir/two", &"x".repeat(1_000));
        bundle.add(&format!("{}/three", "long".repeat(50)), "");
        let file = dir.path().join("b.tar");
        std::fs::write(&file, bundle.end()).unwrap();
        let tar = |args: &[&str]| {
            let output = std::process::Command::new("tar").args(args).arg("-f").arg(&file).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let listed = tar(&["-t"]);
        assert_eq!(listed.lines().count(), 3, "{listed}");
        assert!(listed.ends_with("/three\n"));
        assert_eq!(tar(&["-xO", "one"]).len() + tar(&["-xO", "dir/two"]).len(), 1_006);
    }
}
