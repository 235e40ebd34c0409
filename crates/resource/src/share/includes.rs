//! Where a configuration of Samba includes a file.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// So many files are looked at.
const FILES_MAX: usize = 64;

/// Where it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Where no parameter follows: what the file says is of its own sections alone.
    Last,
    /// Where a parameter follows, which would be one of the last section of the file.
    Amid,
    Nowhere,
}

/// As far as it can be read without knowing Samba's variables: an include with one may be any file.
pub(super) fn place(config: &Path, file: &Path) -> Place {
    let (mut left, mut seen, mut may_be) = (vec![config.to_owned()], BTreeSet::new(), false);
    while let Some(path) = left.pop() {
        if seen.len() >= FILES_MAX || !seen.insert(path.clone()) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<_> = text.lines().map(str::trim).filter(|line| says_something(line)).collect();
        for (at, included) in lines.iter().enumerate().filter_map(|(at, line)| Some((at, included(line)?))) {
            if included == file {
                let is_last = lines.get(at + 1).is_none_or(|next| next.starts_with('['));
                return if is_last { Place::Last } else { Place::Amid };
            }
            may_be |= included.to_string_lossy().contains('%');
            left.push(included);
        }
    }
    if may_be { Place::Last } else { Place::Nowhere }
}

fn says_something(line: &str) -> bool {
    !line.is_empty() && !line.starts_with(['#', ';'])
}

fn included(line: &str) -> Option<PathBuf> {
    let (key, value) = line.split_once('=')?;
    key.trim().eq_ignore_ascii_case("include").then(|| value.trim().trim_matches('"').into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_include_is_found_through_others_and_through_rings() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second] = ["first.conf", "second.conf"].map(|name| dir.path().join(name));
        let file = Path::new("/run/samba/stead-shares.conf");
        let ours = format!("include = {}\n", file.display());
        fs::write(&first, format!("[global]\n  Include={}\n", second.display())).unwrap();
        fs::write(&second, format!("include = {}\n# {ours};{ours}", first.display())).unwrap();
        assert_eq!(place(&first, file), Place::Nowhere);
        fs::write(&second, &ours).unwrap();
        assert_eq!(place(&first, file), Place::Last);
        fs::write(&first, "include = /etc/samba/%m.conf\n").unwrap();
        assert_eq!(place(&first, file), Place::Last, "who knows what that is");
        for (more, expected) in [("\n; end\n", Place::Last), ("[homes]\n", Place::Last), ("a = b\n", Place::Amid)] {
            fs::write(&first, format!("[global]\n{ours}{more}")).unwrap();
            assert_eq!(place(&first, file), expected, "{more}");
        }
    }
}
