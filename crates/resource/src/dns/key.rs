//! Keys of BIND: `key "name" { algorithm hmac-sha256; secret "…"; };`, as `tsig-keygen` writes them.

use std::fmt;
use std::fs;
use std::path::Path;

use crate::Failure;

/// Longest file of a key.
const BYTES_MAX: u64 = 64 << 10;

/// What a key signs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// `hmac-sha256`
    Sha256,
    /// `hmac-sha384`
    Sha384,
    /// `hmac-sha512`
    Sha512,
}

/// A key that a server knows by its name.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// What it signs with.
    pub algorithm: Algorithm,
    /// In base 64.
    pub(super) secret: String,
}

/// A word or a mark of the file, and its line.
type Word = (usize, String);

impl Key {
    /// Reads the only key of a file.
    ///
    /// # Errors
    /// What is wrong, in which line, and what to do.
    pub fn read(file: &Path) -> Result<Key, Failure> {
        let unread = |why: String| Failure::Unusable(format!("key file {} cannot be read: {why}", file.display()));
        let len = fs::metadata(file).map_err(|e| unread(e.to_string()))?.len();
        if len > BYTES_MAX {
            return Err(unread(format!("it has {len} bytes, which is more than a key")));
        }
        let text = fs::read_to_string(file).map_err(|e| unread(e.to_string()))?;
        Key::parse(&text).map_err(|(line, why)| {
            Failure::Unusable(format!("key file {}, line {line}: {why}; write it by: tsig-keygen NAME", file.display()))
        })
    }

    fn parse(text: &str) -> Result<Key, (usize, String)> {
        let last = text.lines().count().max(1);
        let mut words = words(text).into_iter().peekable();
        let mut next = |what: &str| words.next().ok_or_else(|| (last, format!("the file ends where {what} should be")));
        expect(next("key")?, "key")?;
        let name = next("the name of the key")?;
        expect(next("{")?, "{")?;
        let (mut algorithm, mut secret) = (None, None);
        loop {
            let (line, word) = next("}")?;
            match word.as_str() {
                "}" => break,
                "algorithm" => algorithm = Some(self::algorithm(next("an algorithm")?)?),
                "secret" => secret = Some(self::secret(next("a secret")?)?),
                other => return Err((line, format!("{other:?} is neither algorithm nor secret"))),
            }
            expect(next(";")?, ";")?;
        }
        expect(next(";")?, ";")?;
        if let Some((line, _)) = words.next() {
            return Err((line, "more follows after the key; keep each key in a file of its own".into()));
        }
        let missing = |what: &str| (name.0, format!("the key has no {what}"));
        Ok(Key {
            algorithm: algorithm.ok_or_else(|| missing("algorithm"))?,
            secret: secret.ok_or_else(|| missing("secret"))?,
            name: name.1,
        })
    }
}

fn expect((line, word): Word, wanted: &str) -> Result<(), (usize, String)> {
    if word == wanted { Ok(()) } else { Err((line, format!("{word:?} stands where {wanted} should be"))) }
}

fn algorithm((line, word): Word) -> Result<Algorithm, (usize, String)> {
    match word.to_ascii_lowercase().trim_end_matches('.') {
        "hmac-sha256" => Ok(Algorithm::Sha256),
        "hmac-sha384" => Ok(Algorithm::Sha384),
        "hmac-sha512" => Ok(Algorithm::Sha512),
        "hmac-md5" | "hmac-md5.sig-alg.reg.int" | "hmac-sha1" | "hmac-sha224" => {
            Err((line, format!("{word} is too weak; use hmac-sha256, hmac-sha384 or hmac-sha512")))
        }
        _ => Err((line, format!("{word:?} is none of hmac-sha256, hmac-sha384 and hmac-sha512"))),
    }
}

/// What it is must not be told.
fn secret((line, word): Word) -> Result<String, (usize, String)> {
    let body = word.trim_end_matches('=');
    let is_base64 = body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte));
    match !body.is_empty() && word.len() % 4 == 0 && word.len() - body.len() <= 2 && is_base64 {
        true => Ok(word),
        false => Err((line, "the secret is not written in base 64".into())),
    }
}

/// Words, without their quotation marks and without comments, and the marks `{`, `}` and `;`.
fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let mut rest = text.trim_start();
        while let Some((word, after)) = first_word(rest) {
            words.push((line, word.to_owned()));
            rest = after.trim_start();
        }
    }
    words
}

/// The first word and what follows it; none: there is only a comment.
fn first_word(text: &str) -> Option<(&str, &str)> {
    let is_mark = |c: char| "{};".contains(c);
    let first = text.chars().next().filter(|_| !text.starts_with("//") && !text.starts_with('#'))?;
    if let Some(quoted) = text.strip_prefix('"') {
        return Some(quoted.split_once('"').unwrap_or((quoted, "")));
    }
    let len =
        if is_mark(first) { 1 } else { text.find(|c: char| c.is_whitespace() || is_mark(c)).unwrap_or(text.len()) };
    Some(text.split_at(len))
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Algorithm::Sha256 => "hmac-sha256",
            Algorithm::Sha384 => "hmac-sha384",
            Algorithm::Sha512 => "hmac-sha512",
        })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} {})", self.name, self.algorithm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "key \"stead\" {\n\talgorithm hmac-sha256;\n\tsecret \"c2VjcmV0IQ==\";\n};\n";

    #[test]
    fn a_key_is_read_as_bind_writes_it() {
        let key = Key::parse(GOOD).unwrap();
        assert_eq!(
            (key.name.as_str(), key.algorithm, key.secret.as_str()),
            ("stead", Algorithm::Sha256, "c2VjcmV0IQ==")
        );
        assert!(!format!("{key:?}").contains("c2VjcmV0"), "a secret is not told");
        let terse = "# mine\nkey stead{algorithm HMAC-SHA512;secret c2Vj//8A;}; // end";
        let key = Key::parse(terse).unwrap();
        assert_eq!((key.algorithm, key.secret.as_str()), (Algorithm::Sha512, "c2Vj//8A"));
    }

    #[test]
    fn what_is_wrong_with_a_key_is_told_with_its_line() {
        for (from, to, line, expected) in [
            ("key", "kee", 1, "\"kee\" stands where key should be"),
            ("hmac-sha256", "hmac-md5", 2, "hmac-md5 is too weak"),
            ("hmac-sha256", "hmac-sha1", 2, "too weak"),
            ("hmac-sha256", "sha", 2, "is none of"),
            ("hmac-sha256;", "hmac-sha256", 3, "stands where ; should be"),
            ("algorithm", "algorythm", 2, "is neither algorithm nor secret"),
            ("c2VjcmV0IQ==", "secret!", 3, "not written in base 64"),
            ("\talgorithm hmac-sha256;\n", "", 1, "the key has no algorithm"),
            ("};\n", "", 3, "the file ends where }"),
            ("};\n", "};\nkey x {};", 5, "more follows"),
        ] {
            let (at, why) = Key::parse(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(at == line && why.contains(expected), "{from} → {to}: line {at}: {why}");
        }
    }

    #[test]
    fn a_key_that_is_not_there_is_told_with_its_file() {
        let why = Key::read(Path::new("/no/such.key")).unwrap_err().to_string();
        assert!(why.contains("key file /no/such.key cannot be read"), "{why}");
    }
}
