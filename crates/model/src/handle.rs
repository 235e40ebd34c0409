//! File handles (`name_to_handle_at(2)`): how a file system writes inode and generation into one, so that a [`FileId`]
//! can be made from a handle and a handle from a [`FileId`].

use crate::FileId;

/// Longest handle of the known shapes.
pub const HANDLE_BYTES_MAX: usize = 20;

/// How a file system lays a file handle out (kernel: `fs/*/export.c`, `include/linux/exportfs.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HandleShape {
    /// ext4, and xfs where inode numbers are small: ino u32, generation u32; type 1.
    Ino32,
    /// xfs: ino u64, generation u32; type 0x81.
    Ino64,
    /// tmpfs: generation u32, ino u64 in two halves; type 1.
    Shmem,
    /// btrfs: objectid u64, root u64, generation u32; type 0x4d.
    Btrfs {
        /// Id of the subvolume.
        root: u64,
    },
}

/// A file handle of a known shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle {
    /// `handle_type` of `struct file_handle`.
    pub kind: i32,
    /// Used bytes of `bytes`.
    pub len: usize,
    /// `f_handle`.
    pub bytes: [u8; HANDLE_BYTES_MAX],
}

impl HandleShape {
    /// Recognises the shape of a handle; `None` for a file system whose handles are not known here.
    pub fn of(kind: i32, bytes: &[u8]) -> Option<HandleShape> {
        match (kind, bytes.len()) {
            (1, 8) => Some(HandleShape::Ino32),
            (1, 12) => Some(HandleShape::Shmem),
            (0x81, 12) => Some(HandleShape::Ino64),
            (0x4d, 20) => Some(HandleShape::Btrfs { root: u64_at(bytes, 8) }),
            _ => None,
        }
    }

    /// The file that a handle of this shape names. `None` where the handle has another shape.
    pub fn file(self, kind: i32, bytes: &[u8], volume: u32) -> Option<FileId> {
        if HandleShape::of(kind, bytes) != Some(self) {
            return None;
        }
        let (ino, generation) = match self {
            HandleShape::Ino32 => (u32_at(bytes, 0).into(), u32_at(bytes, 4)),
            HandleShape::Ino64 => (u64_at(bytes, 0), u32_at(bytes, 8)),
            HandleShape::Shmem => (u64_at(bytes, 4), u32_at(bytes, 0)),
            HandleShape::Btrfs { .. } => (u64_at(bytes, 0), u32_at(bytes, 16)),
        };
        Some(FileId { ino, generation, volume })
    }

    /// The handle of that file.
    pub fn handle(self, file: FileId) -> Handle {
        let mut bytes = [0; HANDLE_BYTES_MAX];
        let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
        let generation = file.generation.to_le_bytes();
        let (kind, len) = match self {
            HandleShape::Ino32 => {
                put(0, &(file.ino as u32).to_le_bytes());
                put(4, &generation);
                (1, 8)
            }
            HandleShape::Ino64 => {
                put(0, &file.ino.to_le_bytes());
                put(8, &generation);
                (0x81, 12)
            }
            HandleShape::Shmem => {
                put(0, &generation);
                put(4, &file.ino.to_le_bytes());
                (1, 12)
            }
            HandleShape::Btrfs { root } => {
                put(0, &file.ino.to_le_bytes());
                put(8, &root.to_le_bytes());
                put(16, &generation);
                (0x4d, 20)
            }
        };
        Handle { kind, len, bytes }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_names_the_file_that_made_it() {
        let shapes = [HandleShape::Ino32, HandleShape::Ino64, HandleShape::Shmem, HandleShape::Btrfs { root: 256 }];
        for shape in shapes {
            let file = FileId { ino: 77, generation: 0xdead_beef, volume: 3 };
            let handle = shape.handle(file);
            assert_eq!(shape.file(handle.kind, &handle.bytes[..handle.len], 3), Some(file), "{shape:?}");
        }
    }
}
