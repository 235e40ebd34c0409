//! Where a hook is called.

use std::fmt;
use std::str::FromStr;

/// `http://HOST[:PORT]/PATH`, or the same with `https`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Is it encrypted?
    pub is_https: bool,
    /// A name or an address; one of IPv6 in brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Path with what is asked, from its slash on.
    pub path: String,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Url, String> {
        parse(text).ok_or_else(|| format!("{text:?} is not like https://HOST:PORT/PATH"))
    }
}

fn parse(text: &str) -> Option<Url> {
    let (scheme, rest) = text.split_once("://")?;
    let is_https = match scheme {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let (place, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let usual = if is_https { 443 } else { 80 };
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok().filter(|port| *port > 0)?),
        _ => (place, usual),
    };
    let is_host =
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte));
    let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic());
    let path = if path.is_empty() { "/" } else { path };
    (is_host && is_plain).then(|| Url { is_https, host: host.into(), port, path: path.into() })
}

impl fmt::Display for Url {
    /// Without what is asked: that may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        let path = self.path.split('?').next().unwrap_or_default();
        write!(f, "{scheme}://{}:{}{path}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (text, expected) in [
            ("http://10.0.0.1/a?b=c", "http://10.0.0.1:80/a"),
            ("https://pager.example.org", "https://pager.example.org:443/"),
            ("http://[fd00::1]:8080/x", "http://[fd00::1]:8080/x"),
            ("https://[fd00::1]/x", "https://[fd00::1]:443/x"),
        ] {
            assert_eq!(text.parse::<Url>().unwrap().to_string(), expected);
        }
        for text in
            ["", "ftp://a/", "http://", "http://a:0/", "http://a:x/", "http://a b/", "http://a/ b", "http://u@a/"]
        {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
    }
}
