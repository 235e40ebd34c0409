//! Is there room for what follows a takeover?

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Less than that much of a file system is little.
const PERCENT_MIN: u64 = 10;
/// And so are fewer bytes.
const BYTES_MIN: u64 = 1 << 30;

/// The file systems of those places on which there is little room, each once, by the first of its places.
pub(super) fn findings(places: &[PathBuf]) -> Vec<String> {
    let mut devices = BTreeSet::new();
    let is_first = |place: &&PathBuf| fs::metadata(place).is_ok_and(|meta| devices.insert(meta.dev()));
    places.iter().filter(is_first).filter_map(|place| finding(place)).collect()
}

fn finding(place: &Path) -> Option<String> {
    let told = rustix::fs::statvfs(place).ok()?;
    short(told.f_bavail.saturating_mul(told.f_frsize), told.f_blocks.saturating_mul(told.f_frsize), place)
}

/// What is said of so many free bytes of so many.
fn short(free: u64, all: u64, place: &Path) -> Option<String> {
    let percent = u128::from(free) * 100 / u128::from(all.max(1));
    let is_short = free < BYTES_MIN || percent < PERCENT_MIN.into();
    let (free, all) = (gib(free), gib(all));
    is_short.then(|| format!("{free} of {all} are free at {} ({percent} %); make room", place.display()))
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / BYTES_MIN as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_room_is_told_with_its_figures() {
        let (place, gib) = (Path::new("/srv"), 1 << 30);
        assert_eq!(short(10 * gib, 100 * gib, place), None);
        assert_eq!(short(9 * gib, 100 * gib, place).unwrap(), "9.0 GiB of 100.0 GiB are free at /srv (9 %); make room");
        assert_eq!(short(gib / 2, gib, place).unwrap(), "0.5 GiB of 1.0 GiB are free at /srv (50 %); make room");
        assert_eq!(short(gib, 2 * gib, place), None);
        assert!(short(0, 0, place).is_some());
    }

    #[test]
    fn a_file_system_is_told_of_once() {
        let dir = tempfile::tempdir().unwrap();
        let places = [dir.path().to_path_buf(), dir.path().to_path_buf(), PathBuf::from("/no/such/place")];
        assert!(findings(&places).len() <= 1);
    }
}
