//! Postfix and Dovecot: mail is taken in, delivered, and read; what waits in the queue waits on the other node, too.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stead_tests::command::run;
use stead_tests::town::{ADDRESS, Town};

use crate::{Program, Service, Side, is_kept, scene, sides};

struct Mail {
    paris: Side,
    /// Which configurations there are, as it was before.
    _main: MainConfig,
}

const MASTER: &str = "\
smtp inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000 0 flush
proxymap unix - - n - - proxymap
retry unix - - n - - error
error unix - - n - - error
local unix - n n - - local
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
";

impl Mail {
    fn new(town: &Town) -> Mail {
        let sides = sides(town);
        let main = MainConfig::with(sides.each_ref().map(|side| format!("{}/postfix", side.own_by_set())));
        sides.iter().for_each(configure);
        let [paris, _] = sides;
        for (dir, user) in [("queue", "root"), ("data", "postfix"), ("boxes", "mail")] {
            fs::create_dir(paris.set.join(dir)).unwrap();
            run(Command::new("chown").arg(user).arg(paris.set.join(dir))).unwrap();
        }
        run(Command::new("postfix").arg("-c").arg(paris.own.join("postfix")).arg("check")).unwrap();
        Mail { paris, _main: main }
    }
}

/// Paths are those of a machine, as if each had its own.
fn configure(side: &Side) {
    let (set, own) = (side.set.display(), side.own.display());
    let postfix = format!(
        "compatibility_level = 3.6\nqueue_directory = {set}/queue\ndata_directory = {set}/data\n\
         command_directory = /usr/sbin\ndaemon_directory = /usr/lib/postfix/sbin\nmail_owner = postfix\n\
         setgid_group = postdrop\nmaillog_file = {own}/postfix.log\nmaillog_file_prefixes = {own}\n\
         inet_protocols = ipv4\nmyhostname = mail.example.test\nmydestination = example.test\nlocal_recipient_maps =\n\
         alias_maps =\nlocal_transport = lmtp:inet:127.0.0.1:2400\nsmtpd_peername_lookup = no\n\
         transport_maps = inline:{{ late.example.test=lmtp:inet:127.0.0.1:9 }}\nsmtpd_relay_restrictions =\n\
         relay_domains = late.example.test\nsmtpd_recipient_restrictions = reject_unauth_destination\n"
    );
    let dovecot = format!(
        "base_dir = {own}/dovecot\nlog_path = {own}/dovecot.log\nprotocols = imap lmtp\nssl = no\n\
         disable_plaintext_auth = no\nmail_location = maildir:{set}/boxes/%n\nmail_uid = mail\nmail_gid = mail\n\
         first_valid_uid = 1\nauth_username_format = %n\nstate_dir = {own}/dovecot-state\n\
         passdb {{\n driver = static\n args = password=secret\n}}\nuserdb {{\n driver = static\n args = home={set}/boxes/%n\n}}\n\
         service imap-login {{\n inet_listener imap {{\n port = 143\n }}\n inet_listener imaps {{\n port = 0\n }}\n}}\n\
         service lmtp {{\n inet_listener lmtp {{\n address = 127.0.0.1\n port = 2400\n }}\n}}\n"
    );
    fs::create_dir(side.own.join("postfix")).unwrap();
    for (name, text) in [("postfix/main.cf", &*postfix), ("postfix/master.cf", MASTER), ("dovecot.conf", &*dovecot)] {
        fs::write(side.own.join(name), text).unwrap();
    }
    // Messages are renamed by their new inodes before the first start on a side; whoever does that writes here, or fails.
    let log = side.own.join("postfix.log");
    fs::write(&log, "").unwrap();
    run(Command::new("chown").arg("postfix").arg(&log)).unwrap();
}

impl Service for Mail {
    fn kits(&self) -> Vec<Vec<String>> {
        let own = self.paris.own_by_set();
        let dovecot = [
            format!("config={own}/dovecot.conf"),
            format!("pid={own}/dovecot/master.pid"),
            format!("address={ADDRESS}:143"),
        ];
        let postfix = [format!("config={own}/postfix"), format!("address={ADDRESS}:25")];
        vec![
            ["dovecot".to_owned()].into_iter().chain(dovecot).collect(),
            ["postfix".to_owned()].into_iter().chain(postfix).collect(),
        ]
    }

    /// All that is in the mailbox.
    fn asked(&self, town: &Town) -> Result<String> {
        let read = || -> Result<String> {
            let mut client = Dialogue::open(143)?;
            for (line, end) in [("", "* OK"), ("a LOGIN anna secret", "a "), ("b SELECT INBOX", "b ")] {
                client.says(line, |answer| answer.starts_with(end))?;
            }
            client.says("c FETCH 1:* BODY[TEXT]", |answer| answer.starts_with("c "))
        };
        town.berne.inside(read)?
    }

    fn told(&self, town: &Town, word: &str) -> Result<bool> {
        let sends = || -> Result<()> {
            let mut client = Dialogue::open(25)?;
            let to = ["RCPT TO:<anna@example.test>", "RCPT TO:<carl@late.example.test>"];
            for line in ["", "HELO berne", "MAIL FROM:<bert@example.test>"].into_iter().chain(to).chain(["DATA"]) {
                let answer = client.says(line, |answer| answer.as_bytes().get(3) == Some(&b' '))?;
                ensure!(answer.starts_with(['2', '3']), "{line}: {answer}");
            }
            let answer = client.says(&format!("Subject: {word}\r\n\r\n{word}\r\n."), |answer| !answer.is_empty())?;
            ensure!(answer.starts_with("250"), "{answer}");
            Ok(())
        };
        town.berne.inside(sends)??;
        Ok(true)
    }

    fn programs(&self) -> Vec<Program> {
        vec![
            Program { name: "postfix", pid_file: self.paris.set.join("queue/pid/master.pid") },
            Program { name: "dovecot", pid_file: self.paris.own.join("dovecot/master.pid") },
        ]
    }

    /// What could not be delivered yet waits here as it did there.
    fn holds(&self, side: &Side, words: usize) -> Result<()> {
        let queue = run(Command::new("postqueue").arg("-c").arg(side.own.join("postfix")).arg("-p"))?;
        let waiting = queue.matches("carl@late.example.test").count();
        ensure!(waiting == words, "{waiting} of {words} wait:\n{queue}");
        Ok(())
    }
}

/// A dialogue line by line.
struct Dialogue(BufReader<TcpStream>);

impl Dialogue {
    fn open(port: u16) -> Result<Dialogue> {
        let address = format!("{ADDRESS}:{port}").parse()?;
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(Dialogue(BufReader::new(stream)))
    }

    /// All lines of the answer, up to that one.
    fn says(&mut self, line: &str, is_last: impl Fn(&str) -> bool) -> Result<String> {
        if !line.is_empty() {
            self.0.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
        }
        let mut all = String::new();
        loop {
            let mut line = String::new();
            ensure!(self.0.read_line(&mut line)? > 0, "it hung up after {all}");
            all += &line;
            if is_last(&line) {
                return Ok(all);
            }
        }
    }
}

/// The configuration that says where others are, with these; it is put back.
struct MainConfig {
    before: Option<Vec<u8>>,
}

const MAIN: &str = "/etc/postfix/main.cf";

impl MainConfig {
    fn with([paris, lyon]: [String; 2]) -> MainConfig {
        let before = fs::read(MAIN).ok();
        let mut text = before.clone().unwrap_or_default();
        text.extend_from_slice(format!("\nalternate_config_directories = {paris} {lyon}\n").as_bytes());
        fs::write(MAIN, text).with_context(|| MAIN).unwrap();
        MainConfig { before }
    }
}

impl Drop for MainConfig {
    fn drop(&mut self) {
        let _ = match &self.before {
            Some(before) => fs::write(MAIN, before),
            None => fs::remove_file(MAIN),
        };
    }
}

#[test]
fn mail_is_kept_up_moved_and_brought_back() {
    is_kept(&mut scene(Mail::new)).unwrap();
}
