use crate::plan::{Plan, Receiver};

const GOOD: &str = r#"version = 1

[[alerts.snmp]]
name = "old"
address = "10.0.0.9"
version = "v2c"
community-file = "/etc/stead/community"

[[alerts.snmp]]
name = "noc"
address = "[2001:db8::9]:10162"
inform = true
user = "stead"
auth-password-file = "/etc/stead/auth"
privacy-password-file = "/etc/stead/privacy"

[[alerts.mail]]
name = "admins"
server = "mail.example.org"
from = "stead@example.org"
to = ["admins@example.org"]
user = "stead"
password-file = "/etc/stead/mail"

[[alerts.webhook]]
name = "chat"
url = "https://chat.example.org/hooks/7"
token-file = "/etc/stead/token"
per-minute = 10
"#;

#[test]
fn receivers_are_read_and_written() {
    let plan = Plan::parse(GOOD).unwrap();
    assert_eq!(Plan::parse(&plan.to_toml()).unwrap(), plan);
    let places: Vec<_> = plan.alerts.snmp.iter().map(|snmp| snmp.host_and_port().unwrap()).collect();
    assert_eq!(places, [("10.0.0.9", 162), ("2001:db8::9", 10162)]);
    assert_eq!(plan.alerts.mail[0].host_and_port(), Some(("mail.example.org", 587)));
    assert_eq!(plan.alerts.webhook[0].parts(), Some((true, "chat.example.org", 443, "/hooks/7")));
    let policies = plan.alerts.receivers().policies();
    assert_eq!((policies["noc"].batch_max, policies["chat"].per_minute), (1, 10));
    assert!(matches!(plan.alerts.receivers().named("admins"), Some(Receiver::Mail(_))));
}

#[test]
fn what_cannot_work_is_named_with_its_line() {
    let cases = [
        ("address = \"10.0.0.9\"", "address = \"10.0.0.900\"", 5, "is not like HOST or HOST:PORT"),
        ("address = \"10.0.0.9\"", "address = \"snmp://10.0.0.9\"", 5, "is not like HOST"),
        ("community-file = \"/etc/stead/community\"\n", "", 3, "name it with community-file"),
        ("community-file = \"/etc", "community-file = \"etc", 7, "is not an absolute path"),
        ("version = \"v2c\"\ncommunity-file", "community-file", 6, "version v3 has no community"),
        ("privacy-password-file = \"/etc/stead/privacy\"\n", "", 9, "the password for encryption, at least 8"),
        ("name = \"noc\"", "name = \"old\"", 10, "another receiver has that name"),
        ("name = \"noc\"", "name = \"command\"", 10, "another receiver has that name"),
        ("to = [\"admins@example.org\"]", "to = []", 21, "nobody gets the mail"),
        ("from = \"stead@example.org\"", "from = \"Stead <stead@example.org>\"", 20, "is not like NAME@HOST"),
        ("to = [", "encryption = \"none\"\nto = [", 21, "sent in the clear"),
        ("user = \"stead\"\npassword-file = \"/etc/stead/mail\"", "user = \"stead\"", 22, "has no password"),
        ("https://chat", "http://chat", 28, "the token would be sent in the clear"),
        ("https://chat", "ftp://chat", 27, "is not like https://HOST"),
        ("per-minute = 10", "per-minute = 0", 29, "not between 1 and 6000"),
    ];
    for (from, to, line, why) in cases {
        let said = Plan::parse(&GOOD.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(said.starts_with(&format!("line {line}: ")) && said.contains(why), "{to}: {said}");
    }
}

#[test]
fn files_are_looked_at_with_their_place() {
    let plan = Plan::parse(GOOD).unwrap();
    let look = |missing: &'static str| {
        let found = plan.alerts.receivers().check_files(|file| {
            let is_there = file.path != std::path::Path::new(missing);
            if is_there { Ok(()) } else { Err(format!("{missing} is missing")) }
        });
        found.map_err(|e| e.in_text(GOOD).to_string())
    };
    assert_eq!(look("/none"), Ok(()));
    let said = look("/etc/stead/privacy").unwrap_err();
    assert_eq!(said, "line 15: the plan's alerts: snmp receiver noc: /etc/stead/privacy is missing");
}
