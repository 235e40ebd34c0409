//! What kind of thing halts a connection, from what the kernel said about it: the words travel, its numbers do not.

use stead_model::status::Cause;

const WORDS: [(&str, Cause); 8] = [
    ("No space left on device", Cause::NoRoom),
    ("Disk quota exceeded", Cause::NoRoom),
    ("no room to keep", Cause::NoRoom),
    ("Read-only file system", Cause::Denied),
    ("Permission denied", Cause::Denied),
    ("Operation not permitted", Cause::Denied),
    ("File name too long", Cause::TooLong),
    ("File too large", Cause::TooLong),
];

/// The cause behind a reason.
pub(super) fn of(reason: &str) -> Cause {
    WORDS.iter().find(|(words, _)| reason.contains(words)).map_or(Cause::Other, |(_, cause)| *cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn the_words_are_those_of_the_kernel() {
        let said = |errno: Errno| of(&format!("cannot write a: {}", std::io::Error::from(errno)));
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            assert_eq!(said(errno), Cause::NoRoom);
        }
        for errno in [Errno::ROFS, Errno::ACCESS, Errno::PERM] {
            assert_eq!(said(errno), Cause::Denied);
        }
        assert_eq!((said(Errno::NAMETOOLONG), said(Errno::FBIG)), (Cause::TooLong, Cause::TooLong));
        assert_eq!(said(Errno::IO), Cause::Other);
    }
}
