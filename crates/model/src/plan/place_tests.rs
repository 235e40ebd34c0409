use crate::plan::Plan;
use crate::plan::line_of_address;

const PLAN: &str = concat!(
    include_str!("notes.toml"),
    r#"
[[group]]
name = "office"
source = "paris"
target = "lyon"
witness = "rome"
heartbeat = "500ms"
timeout = "3s"
wait = "4s"
sets = ["notes"]

[[group.address]]
address = "10.0.0.100/24"

[[group.service]]
unit = "notes"

[[group.resource]]
name = "mail"
agent = "ocf:heartbeat:mail"

[group.resource.identity]
host = "rome"
hosts = ["10.0.0.100 rome"]

[group.scripts.pre-failover]
command = ["/bin/page"]

[group.fence.paris]
agent = ["fence_ipmilan"]

[[group]]
name = "web"
source = "rome"
target = "oslo"
sets = []

[[group.address]]
address = "10.1.0.100/24"
"#
);

/// The line that is told of the plan with that change is the one in which `found` is then; the last of them.
fn is_told(from: &str, to: &str, found: &str) {
    let text = PLAN.replacen(from, to, 1);
    assert_ne!(text, PLAN, "{from}");
    let message = Plan::parse(&text).expect_err(to).to_string();
    let line = text.lines().enumerate().filter(|(_, line)| *line == found).last().expect(found).0 + 1;
    assert!(message.starts_with(&format!("line {line}: ")), "{from} → {to}: line {line} is meant: {message}");
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    is_told("version = 1", "version = 2", "version = 2");
    is_told("path = \"/srv/notes\"", "path = \"srv/notes\"", "path = \"srv/notes\"");
    let volume = "volume = \"0b1f0a4e-8f3c-4a57-9d2b-6f1f6a2f9c1\"";
    is_told("9c11\"", "9c1\"", volume);
    is_told("to = \"/srv/notes\"", "to = \"/srv/notes\"\nvolume = \"x\"", "volume = \"x\"");
    is_told("set = \"notes\"", "set = \"mail\"", "set = \"mail\"");
    is_told("target = \"lyon\"", "target = \"paris\"", "target = \"paris\"");
    is_told("from = \"/srv/notes\"", "from = \"/srv/other\"", "[[connection]]");
    is_told("target = \"lyon\"", "target = \"lyon\"\nqueue-limit = \"1KiB\"", "[[connection]]");
    is_told("name = \"web\"", "name = \"office\"", "name = \"office\"");
    is_told("target = \"oslo\"", "target = \"rome\"", "target = \"rome\"");
    is_told("witness = \"rome\"", "witness = \"lyon\"", "witness = \"lyon\"");
    is_told("sets = []", "sets = [\"notes\"]", "sets = [\"notes\"]");
    is_told("timeout = \"3s\"", "timeout = \"1s\"", "timeout = \"1s\"");
    is_told("wait = \"4s\"", "wait = \"1500ms\"", "wait = \"1500ms\"");
    is_told("heartbeat = \"500ms\"\ntimeout = \"3s\"", "heartbeat = \"2s\"", "heartbeat = \"2s\"");
    is_told("10.1.0.100/24", "10.0.0.100/16", "address = \"10.0.0.100/16\"");
    is_told("unit = \"notes\"", "unit = \"-h\"", "[[group.service]]");
    is_told("host = \"rome\"", "host = \"ro_me\"", "host = \"ro_me\"");
    is_told("10.0.0.100 rome", "rome", "hosts = [\"rome\"]");
    is_told("agent = \"ocf:heartbeat:mail\"", "unit = \"mail\"", "host = \"rome\"");
    let two = "sets = []\n[[group.resource]]\nname = 'a'\nsamba = { share = 'x', path = '/a' }\n[[group.resource]]\n\
               name = 'b'\n[group.resource.samba]\npath = '/b'\nshare = 'X'";
    is_told("sets = []", two, "share = 'X'");
    is_told("\"/bin/page\"", "\"page\"", "[group.scripts.pre-failover]");
    is_told("[group.fence.paris]", "[group.fence.rome]", "[group.fence.rome]");
}

#[test]
fn an_address_is_found_in_its_group() {
    let line = |group: &str, address| line_of_address(PLAN, &group.parse().unwrap(), address);
    let text = |line: Option<usize>| PLAN.lines().nth(line.unwrap() - 1).unwrap();
    assert_eq!(text(line("office", "10.0.0.100/24")), "address = \"10.0.0.100/24\"");
    assert_eq!(text(line("web", "10.1.0.100/24")), "address = \"10.1.0.100/24\"");
    assert_eq!(line_of_address("no plan", &"web".parse().unwrap(), "10.1.0.100/24"), None);
}
