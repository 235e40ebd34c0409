//! Mail and web hooks, with encryption and without, as real servers take them (`tests/receivers`).

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use stead_model::alert::{Alert, Edge, Wrong};
use stead_model::delivery::{Message, Notice};
use stead_model::plan::Plan;
use stead_resource::Failure;
use stead_resource::notify::Teller;

const LIMIT: Duration = Duration::from_secs(10);

/// A server in a directory of its own, with a certificate for `localhost`.
struct Server {
    dir: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl Server {
    fn start(script: &str, more: &[&str]) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let own = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let key = own.signing_key.serialize_pem();
        for (name, text) in [("cert.pem", own.cert.pem()), ("key.pem", key), ("secret", "pass word\n".into())] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let script = root().join("tests/receivers").join(script);
        // Debian's, which has what the scripts import.
        let mut python = Command::new("/usr/bin/python3");
        python.arg(script).args(["127.0.0.1", &port.to_string(), "told"]).args(more).current_dir(dir.path());
        python.stderr(Stdio::null());
        let server = Server { child: python.spawn().unwrap(), dir, port };
        let end = Instant::now() + 3 * LIMIT;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "the server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// Tells the receiver of that plan; `DIR` and `PORT` stand for those of the server.
    fn tell(&self, plan: &str, message: &Message) -> Result<(), Failure> {
        let dir = self.dir.path().display().to_string();
        let text = format!("version = 1\n{plan}").replace("DIR", &dir).replace("PORT", &self.port.to_string());
        let receiver = Plan::parse(&text).unwrap().alerts.receivers().named("noc").unwrap();
        Teller::new("paris".parse().unwrap(), self.dir.path().join("engine")).tell(&receiver, message, LIMIT).value
    }

    fn told(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.dir.path().join("told")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

fn message(text: &str) -> Message {
    let alert = Alert {
        wrong: Wrong::Halted,
        set: "notes".parse().unwrap(),
        source: "paris".parse().unwrap(),
        target: "lyon".parse().unwrap(),
        since: "2026-11-20T07:15:30.250Z".parse().unwrap(),
        text: text.into(),
    };
    let notice = Notice { number: 7, event: Edge::Raise, at: alert.since, node: "paris".parse().unwrap(), alert };
    Message { receiver: "noc".into(), notices: vec![notice], held_back: 2 }
}

const MAIL: &str = "[[alerts.mail]]\nname = \"noc\"\nserver = \"localhost:PORT\"\nfrom = \"stead@example.org\"\n\
                    to = [\"a@example.org\", \"b@example.org\"]\n";
const LOGIN: &str = "user = \"stead\"\npassword-file = \"DIR/secret\"\nca-file = \"DIR/cert.pem\"\n";

#[test]
fn a_mail_arrives_whole_whatever_it_says() {
    let server = Server::start("mailbox.py", &[]);
    let text = "Größe → 3 MiB\r\n.\r\nQUIT\r\n.hidden ".to_owned() + &"x".repeat(3000);
    server.tell(&format!("{MAIL}encryption = \"none\"\n"), &message(&text)).unwrap();
    let told = &server.told()[0];
    assert_eq!((&told["from"], told["to"].as_array().unwrap().len()), (&"stead@example.org".into(), 2));
    let subject = told["subject"].as_str().unwrap();
    assert!(
        subject.starts_with("[stead paris] critical: halted, set notes from paris to lyon: Größe → 3 MiB"),
        "{told}"
    );
    let body = told["text"].as_str().unwrap().replace('\r', "");
    assert!(body.contains(&text.replace('\r', "")), "{body}");
    assert!(body.contains("paris/halted/notes/lyon") && body.contains("2 more events were held back"), "{body}");
    assert!(told["date"].as_str().unwrap().ends_with("+0000"), "{told}");
}

#[test]
fn mail_servers_are_trusted_before_they_get_the_password() {
    for how in ["starttls", "tls"] {
        let server = Server::start("mailbox.py", &["cert.pem", "key.pem", how, "stead", "pass word"]);
        let plan = format!("{MAIL}{LOGIN}encryption = \"{how}\"\n");
        server.tell(&plan, &message("full")).unwrap_or_else(|e| panic!("{how}: {e}"));
        let told = &server.told()[0];
        assert_eq!((&told["encrypted"], &told["user"]), (&true.into(), &"stead".into()), "{how}");
        let stranger = server.tell(&plan.replace("ca-file = \"DIR/cert.pem\"\n", ""), &message("full"));
        assert!(stranger.unwrap_err().to_string().contains("certificate"), "{how}");
        fs::write(server.dir.path().join("secret"), "wrong").unwrap();
        let refused = server.tell(&plan, &message("full")).unwrap_err().to_string();
        assert!(
            refused.contains("535") && refused.contains("AUTH PLAIN") && !refused.contains("wrong"),
            "{how}: {refused}"
        );
        assert_eq!(server.told().len(), 1);
    }
}

#[test]
fn a_server_without_starttls_gets_no_mail() {
    let server = Server::start("mailbox.py", &[]);
    let refused = server.tell(&format!("{MAIL}ca-file = \"DIR/cert.pem\"\n"), &message("full")).unwrap_err();
    assert!(refused.to_string().contains("STARTTLS"), "{refused}");
    assert!(server.told().is_empty());
}

const HOOK: &str = "[[alerts.webhook]]\nname = \"noc\"\nurl = \"http://127.0.0.1:PORT/hooks/7\"\n";

#[test]
fn a_web_hook_gets_json() {
    let server = Server::start("hook.py", &[]);
    server.tell(HOOK, &message("full")).unwrap();
    let told = &server.told()[0];
    assert_eq!((&told["path"], &told["type"]), (&"/hooks/7".into(), &"application/json".into()));
    assert_eq!(told["body"], message("full").to_json(&"paris".parse().unwrap()));
    let refused = server.tell(&HOOK.replace("/hooks/7", "/broken"), &message("full")).unwrap_err();
    assert!(refused.to_string().contains("503"), "{refused}");
}

#[test]
fn a_web_hook_is_trusted_before_it_gets_the_token() {
    let server = Server::start("hook.py", &["cert.pem", "key.pem"]);
    let plan = HOOK.replace("http://127.0.0.1", "https://localhost") + "token-file = \"DIR/secret\"\n";
    let stranger = server.tell(&plan, &message("full")).unwrap_err();
    assert!(stranger.to_string().contains("certificate"), "{stranger}");
    server.tell(&format!("{plan}ca-file = \"DIR/cert.pem\"\n"), &message("full")).unwrap();
    assert_eq!(server.told()[0]["authorization"], "Bearer pass word");
}

#[test]
fn a_server_that_says_nothing_is_given_up_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let plan = format!("version = 1\n{MAIL}encryption = \"none\"\n{HOOK}");
    let plan = plan.replacen("\"noc\"", "\"mail\"", 1).replace("PORT", &port.to_string());
    let plan = Plan::parse(&plan.replace("localhost", "127.0.0.1")).unwrap();
    let teller = Teller::new("paris".parse().unwrap(), "/nonexistent/engine".into());
    for name in ["mail", "noc"] {
        let receiver = plan.alerts.receivers().named(name).unwrap();
        let told = teller.tell(&receiver, &message("full"), Duration::from_millis(300));
        assert!(told.value.is_err() && told.took < LIMIT / 2, "{name}: {told:?}");
    }
}
