//! Invitations: one secret, one use, ten minutes, five tries.
//!
//! The line is `stead1:HOST:PORT:FINGERPRINT:SECRET`; only a hash of the secret is kept. Used and expired ones are
//! remembered for a day, so that a refusal can say what is wrong with the line. A secret that fits none costs every open
//! invitation a try.

use std::net::SocketAddr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use stead_api::{Failure, FailureKind};

use super::{StateDir, files};
use crate::peer::Fingerprint;

/// First part of a line: the version of its format.
const VERSION_WORD: &str = "stead1";
const LIFE_SECONDS: u64 = 600;
const REMEMBERED_SECONDS: u64 = 86_400;
const TRIES: u32 = 5;
const SECRET_BYTES: usize = 20;
/// Invitations that are remembered at most; the oldest goes first.
const INVITES_MAX: usize = 64;

/// What `stead invite` prints, and `stead join` reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) secret: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Invite {
    secret_sha256: String,
    /// Seconds since 1970.
    made: u64,
    tries_left: u32,
    used: bool,
}

/// The invitations of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Invites {
    #[serde(default, rename = "invite")]
    list: Vec<Invite>,
}

impl Invites {
    pub(crate) fn load(state: &StateDir) -> Result<Invites, Failure> {
        Ok(files::read_toml(&state.file("invites.toml"))?.unwrap_or_default())
    }

    pub(crate) fn save(&self, state: &StateDir) -> Result<(), Failure> {
        files::write_toml(&state.file("invites.toml"), self)
    }

    /// Makes an invitation to `address`. `now` is in seconds since 1970.
    pub(crate) fn make(&mut self, address: SocketAddr, fingerprint: Fingerprint, now: u64) -> Result<Line, Failure> {
        let secret = random_hex::<SECRET_BYTES>()?;
        self.list.retain(|invite| now.saturating_sub(invite.made) < REMEMBERED_SECONDS);
        if self.list.len() >= INVITES_MAX {
            self.list.remove(0);
        }
        self.list.push(Invite { secret_sha256: hash(&secret), made: now, tries_left: TRIES, used: false });
        Ok(Line { host: address.ip().to_string(), port: address.port(), fingerprint, secret })
    }

    /// Is that the secret of an invitation that still holds? A wrong one costs a try; the right one does not use the
    /// invitation up: that is [`Invites::spend`], once the newcomer is trusted.
    pub(crate) fn check(&mut self, secret: &str, now: u64) -> Result<(), Failure> {
        let Some(invite) = self.list.iter().find(|invite| invite.fits(secret)) else {
            return Err(self.wrong(now));
        };
        if invite.used {
            return Err(refused("the invitation was used already"));
        }
        if invite.is_expired(now) {
            return Err(refused("the invitation has expired: it is valid for 10 minutes"));
        }
        if invite.tries_left == 0 {
            return Err(refused("a wrong secret was given 5 times, so the invitation is void"));
        }
        Ok(())
    }

    /// Uses the invitation up.
    pub(crate) fn spend(&mut self, secret: &str) {
        self.list.iter_mut().filter(|invite| invite.fits(secret)).for_each(|invite| invite.used = true);
    }

    fn wrong(&mut self, now: u64) -> Failure {
        let open = self.list.iter_mut().filter(|i| !i.used && !i.is_expired(now) && i.tries_left > 0);
        let left = open.map(|invite| {
            invite.tries_left -= 1;
            invite.tries_left
        });
        match left.max() {
            Some(left) => refused(&format!("the secret is wrong; {left} tries are left")),
            None => refused("the secret is wrong, and no invitation is open"),
        }
    }
}

impl Invite {
    fn fits(&self, secret: &str) -> bool {
        verify_slices_are_equal(hash(secret).as_bytes(), self.secret_sha256.as_bytes()).is_ok()
    }

    /// Also where the clock was set back.
    fn is_expired(&self, now: u64) -> bool {
        now.abs_diff(self.made) > LIFE_SECONDS
    }
}

impl Line {
    /// As it is printed.
    pub(crate) fn text(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{VERSION_WORD}:{host}:{}:{}:{}", self.port, self.fingerprint, self.secret)
    }

    /// Reads a line.
    pub(crate) fn parse(text: &str) -> Result<Line, Failure> {
        let malformed = |why: &str| {
            let remedy = "Copy the whole line that stead invite printed on the other node";
            Failure::new("this is not an invitation", why, remedy).kind(FailureKind::Usage)
        };
        let (version, rest) = text.trim().split_once(':').ok_or_else(|| malformed("it has no ':'"))?;
        if version != VERSION_WORD && version.starts_with("stead") {
            let why = format!("it begins with {version}, and this build reads {VERSION_WORD}");
            let remedy = "Use releases of Stead that fit together on both nodes";
            return Err(Failure::new("the invitation is of another version", why, remedy));
        }
        if version != VERSION_WORD {
            return Err(malformed(&format!("it does not begin with {VERSION_WORD}:")));
        }
        let (host, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once("]:").ok_or_else(|| malformed("the address has no ']'"))?,
            None => rest.split_once(':').ok_or_else(|| malformed("it ends after the address"))?,
        };
        let parts: Vec<&str> = rest.split(':').collect();
        let [port, fingerprint, secret] = parts[..] else {
            return Err(malformed("it has not the parts HOST:PORT:FINGERPRINT:SECRET"));
        };
        if secret.len() != 2 * SECRET_BYTES {
            return Err(malformed("its secret is cut off"));
        }
        Ok(Line {
            host: host.into(),
            port: port.parse().map_err(|_| malformed("its port is not a number up to 65535"))?,
            fingerprint: fingerprint.parse().map_err(|_| malformed("its fingerprint has not 64 hexadecimal digits"))?,
            secret: secret.into(),
        })
    }
}

fn refused(why: &str) -> Failure {
    Failure::new("the invitation was refused", why, "Make a new one with: stead invite")
}

fn hash(secret: &str) -> String {
    hex(digest(&SHA256, secret.as_bytes()).as_ref())
}

fn random_hex<const N: usize>() -> Result<String, Failure> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Failure::new("no invitation was made", "the system gives no random numbers", ""))?;
    Ok(hex(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_158_900;

    fn made() -> (Invites, Line) {
        let mut invites = Invites::default();
        let line = invites.make("10.0.0.2:7130".parse().unwrap(), Fingerprint([7; 32]), NOW).unwrap();
        (invites, line)
    }

    #[test]
    fn a_line_reads_back_with_either_kind_of_address() {
        for address in ["10.0.0.2:7130", "[fd00::2]:7130"] {
            let mut invites = Invites::default();
            let line = invites.make(address.parse().unwrap(), Fingerprint([7; 32]), NOW).unwrap();
            assert!(line.text().starts_with(&format!("stead1:{address}:0707")), "{}", line.text());
            assert_eq!(Line::parse(&line.text()).unwrap(), line);
        }
    }

    #[test]
    fn an_invitation_works_once() {
        let (mut invites, line) = made();
        invites.check(&line.secret, NOW + 600).unwrap();
        invites.check(&line.secret, NOW).unwrap();
        invites.spend(&line.secret);
        assert!(invites.check(&line.secret, NOW).unwrap_err().why.contains("used"));
    }

    #[test]
    fn it_expires_also_where_the_clock_was_set_back() {
        let (mut invites, line) = made();
        for now in [NOW + 601, NOW - 601] {
            assert!(invites.check(&line.secret, now).unwrap_err().why.contains("expired"));
        }
    }

    #[test]
    fn five_wrong_secrets_void_it() {
        let (mut invites, line) = made();
        for left in (0..5).rev() {
            let why = invites.check("00", NOW).unwrap_err().why;
            assert!(why.contains(&format!("{left} tries")), "{why}");
        }
        assert!(invites.check(&line.secret, NOW).unwrap_err().why.contains("void"));
        assert!(invites.check("00", NOW).unwrap_err().why.contains("no invitation is open"));
    }

    #[test]
    fn what_is_wrong_with_a_line_is_named() {
        let good = made().1.text();
        for (line, expected) in [
            ("", "no ':'"),
            ("hello:world", "begin with stead1"),
            ("stead1:10.0.0.2", "ends after"),
            ("stead1:[fd00::2:7130:ab:c-d", "no ']'"),
            ("stead1:10.0.0.2:7130:ab", "parts"),
            (&good.replace("7130", "71300"), "port"),
            (&good.replacen("07", "", 1), "fingerprint"),
            (&good[..good.len() - 1], "cut off"),
        ] {
            let failure = Line::parse(line).unwrap_err();
            assert!(failure.why.contains(expected), "{line}: {failure}");
            assert_eq!(failure.exit_code(), 2);
        }
        assert!(Line::parse(&good.replace("stead1", "stead2")).unwrap_err().what.contains("another version"));
    }
}
