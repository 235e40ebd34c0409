//! Diagnostics to the journal of systemd, in its native protocol, with fields to search by: `STEAD_SET`, `STEAD_GROUP`, and
//! one for each field of the event.

use std::fmt::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

const SOCKET: &str = "/run/systemd/journal/socket";
const IDENTIFIER: &str = "stead";
/// Longest value that is sent whole.
const VALUE_BYTES_MAX: usize = 4 << 10;

/// The way to the journal.
pub(crate) struct Journal(UnixDatagram);

impl Journal {
    /// Where systemd has this process write to the journal anyway.
    pub(crate) fn of_this_service() -> Option<Journal> {
        let stream = std::env::var("JOURNAL_STREAM").ok()?;
        is_stream(&stream, std::io::stderr()).then(|| Journal::at(Path::new(SOCKET)).ok())?
    }

    fn at(socket: &Path) -> std::io::Result<Journal> {
        let journal = UnixDatagram::unbound()?;
        journal.connect(socket)?;
        // A journal that does not read must not hold up the daemon.
        journal.set_nonblocking(true)?;
        Ok(Journal(journal))
    }
}

/// Is that file the stream of the variable, device and inode (systemd.exec(5))? Whatever a service starts has the variable, also
/// where its output goes elsewhere.
fn is_stream(stream: &str, file: impl AsFd) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut entry = Entry::default();
        event.record(&mut entry);
        let metadata = event.metadata();
        let _ = self.0.send(&entry.bytes(priority(*metadata.level()), metadata.target()));
    }
}

/// As `syslog(3)` has it.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

#[derive(Default)]
struct Entry {
    message: String,
    fields: Vec<(String, String)>,
}

impl Entry {
    fn bytes(self, priority: u8, target: &str) -> Vec<u8> {
        let unsaid = self.unsaid();
        let Entry { message, fields } = self;
        let about = [("set", "STEAD_SET"), ("group", "STEAD_GROUP")].into_iter().filter_map(|(word, name)| {
            let is_said = fields.iter().any(|(field, _)| field == name);
            Some((name.to_owned(), about(&message, word).filter(|_| !is_said)?.to_owned()))
        });
        let about: Vec<_> = about.collect();
        let mut bytes = Vec::new();
        add(&mut bytes, "PRIORITY", &priority.to_string());
        add(&mut bytes, "SYSLOG_IDENTIFIER", IDENTIFIER);
        add(&mut bytes, "STEAD_MODULE", target);
        about.iter().chain(&fields).for_each(|(name, value)| add(&mut bytes, name, value));
        add(&mut bytes, "MESSAGE", &(message + &unsaid));
        bytes
    }

    /// What the message does not say: nobody who reads the journal sees its fields.
    fn unsaid(&self) -> String {
        let unsaid = self.fields.iter().filter(|(_, value)| !self.message.contains(value.as_str()));
        unsaid.map(|(name, value)| format!(" {}={value}", name.trim_start_matches("STEAD_").to_lowercase())).collect()
    }
}

/// Messages begin with what they are about: `set notes: …`.
fn about<'a>(message: &'a str, word: &str) -> Option<&'a str> {
    let rest = message.strip_prefix(word)?.strip_prefix(' ')?;
    let name = &rest[..rest.find([':', ' '])?];
    (!name.is_empty()).then_some(name)
}

/// With its length, so that a value may hold anything.
fn add(bytes: &mut Vec<u8>, name: &str, value: &str) {
    let value = &value.as_bytes()[..value.len().min(VALUE_BYTES_MAX)];
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(b'\n');
    bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    bytes.extend_from_slice(value);
    bytes.push(b'\n');
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            let name = field.name().to_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            self.fields.push((format!("STEAD_{name}"), format!("{value:?}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// Fields of the next entry, as the journal reads them.
    fn entry(journal: &UnixDatagram) -> Vec<(String, String)> {
        let mut bytes = vec![0; 64 << 10];
        let len = journal.recv(&mut bytes).unwrap();
        let (mut rest, mut fields) = (&bytes[..len], Vec::new());
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap();
            let size = u64::from_le_bytes(rest[end + 1..end + 9].try_into().unwrap()) as usize;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            fields.push((text(&rest[..end]), text(&rest[end + 9..end + 9 + size])));
            rest = &rest[end + 10 + size..];
        }
        fields
    }

    #[test]
    fn entries_have_fields_to_search_by() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let journal = UnixDatagram::bind(&socket).unwrap();
        let subscriber = tracing_subscriber::registry().with(Journal::at(&socket).unwrap());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!("set notes: late\nby {}", 7);
            tracing::info!(kind = "behind", set = "notes", "raise: behind");
            tracing::error!("group office: no lease");
            tracing::info!(set = "notes", target = "lyon", state = "disconnected", why = "no route", "its state");
            tracing::info!(set = "notes", why = "", "set notes: its state");
        });
        let has = |fields: &[(String, String)], name: &str, value: &str| {
            assert!(fields.iter().any(|field| *field == (name.into(), value.into())), "{name}: {fields:?}");
        };
        let first = entry(&journal);
        has(&first, "MESSAGE", "set notes: late\nby 7");
        has(&first, "STEAD_SET", "notes");
        has(&first, "PRIORITY", "4");
        has(&first, "SYSLOG_IDENTIFIER", "stead");
        let second = entry(&journal);
        has(&second, "STEAD_KIND", "behind");
        has(&second, "STEAD_SET", "notes");
        has(&entry(&journal), "STEAD_GROUP", "office");
        has(&entry(&journal), "MESSAGE", "its state set=notes target=lyon state=disconnected why=no route");
        has(&entry(&journal), "MESSAGE", "set notes: its state");
    }

    #[test]
    fn output_that_goes_elsewhere_is_not_the_journal() {
        let file = tempfile::tempfile().unwrap();
        let stat = rustix::fs::fstat(&file).unwrap();
        assert!(is_stream(&format!("{}:{}", stat.st_dev, stat.st_ino), &file));
        assert!(!is_stream("8:1", &file) && !is_stream("", &file));
    }
}
