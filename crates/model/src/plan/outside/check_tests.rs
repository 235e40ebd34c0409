use crate::plan::Plan;

const PLAN: &str = r#"version = 1

[[group]]
name = "office"
source = "paris"
target = "lyon"
takeover = "approve"
sets = []

[[group.address]]
address = "10.0.0.100/24"

[[group.dns]]
zone = "example.org"
name = "www.example.org"
type = "A"
ttl = "20s"
servers = ["10.0.0.53", "[fd00::53]:5353"]
key-file = "/etc/stead/dns.key"

[group.dns.values]
lyon = "10.0.1.1"
paris = "10.0.0.1"

[[group.dns]]
zone = "0.10.in-addr.arpa"
name = "100.0.0.10.in-addr.arpa"
type = "PTR"
key-file = "/etc/stead/dns.key"

[group.dns.values]
lyon = "lyon.example.org"
paris = "paris.example.org."

[[group.hook]]
url = "https://pager.example.org/moved/{group}"
method = "PUT"
body = '{"text": "{group} went to {node}: {event}, {epoch}"}'
expect = [200, 202]
secret-file = "/etc/stead/pager"
secret-header = "X-Token"
timeout = "5s"

[group.hook.headers]
Content-Type = "application/json"

[[group.hook]]
url = "http://10.0.0.9:8080"
"#;

#[test]
fn registrations_are_written_as_they_were_read() {
    let plan = Plan::parse(PLAN).unwrap();
    assert_eq!(plan.to_toml(), PLAN);
    let servers = plan.groups[0].dns[0].server_addresses();
    assert_eq!(servers, ["10.0.0.53:53", "[fd00::53]:5353"].map(|server| server.parse().unwrap()));
    assert_eq!(plan.groups[0].dns[0].values_of_others(&"lyon".parse().unwrap()), ["10.0.0.1"]);
}

#[test]
fn what_is_wrong_with_a_registration_is_named_with_its_line() {
    let good = PLAN;
    for (from, to, expected) in [
        ("zone = \"example.org\"", "zone = \"example..org\"", "line 14: group office: dns 1: zone is not the name"),
        ("\"www.example.org\"", "\"www.example.com\"", "line 15: group office: dns 1: name is not in zone example.org"),
        ("\"www.example.org\"", "\"wwwexample.org\"", "name is not in zone"),
        ("\"www.example.org\"", "\"w w.example.org\"", "name is not a name"),
        ("\"A\"", "\"MX\"", "unknown variant"),
        ("\"20s\"", "\"2d\"", "line 17: group office: dns 1: ttl is not between 1s and 1d"),
        ("\"20s\"", "\"1500ms\"", "ttl is not between"),
        ("\"10.0.0.53\"", "\"ns.example.org\"", "line 18: group office: dns 1: servers names one that is not like"),
        ("\"10.0.0.53\"", "\"10.0.0.53:0\"", "servers names one"),
        ("\"/etc/stead/dns.key\"", "\"dns.key\"", "line 19: group office: dns 1: key-file needs its absolute path"),
        ("lyon = \"10.0.1.1\"", "lyon = \"fd00::1\"", "line 21: group office: dns 1: values has \"fd00::1\" for lyon"),
        ("lyon = \"10.0.1.1\"\n", "", "values has none for lyon"),
        ("lyon = \"10.0.1.1\"\n", "lyon = \"10.0.1.1\"\nrome = \"10.0.2.1\"\n", "values names rome"),
        ("\"10.0.1.1\"", "\"10.0.0.1\"", "values has the same for both nodes"),
        ("paris.example.org.", "a b", "dns 2: values has \"a b\" for paris"),
        ("https://pager", "ftp://pager", "line 36: group office: hook 1: url is not like"),
        ("moved/{group}", "moved/{groups}", "hook 1: url has {groups}, which stands for nothing; there are {group}, "),
        ("{event}", "{when}", "line 38: group office: hook 1: body has {when}"),
        ("\"PUT\"", "\"put\"", "hook 1: method is not like"),
        ("[200, 202]", "[20]", "hook 1: expect has a code"),
        ("\"/etc/stead/pager\"", "\"pager\"", "hook 1: secret-file needs"),
        ("secret-file = \"/etc/stead/pager\"\n", "", "secret-header is there without secret-file"),
        ("Content-Type", "Content-Length", "hook 1: headers has \"Content-Length\""),
        ("application/json", "a\\nb", "is not one line"),
        ("\"5s\"", "\"2h\"", "hook 1: timeout is not between"),
        (":8080", ":0", "line 48: group office: hook 2: url is not like"),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        let message = Plan::parse(&text).expect_err(to).to_string();
        assert!(message.contains(expected), "{from} → {to}: {message}");
    }
}

#[test]
fn a_record_goes_with_one_group() {
    let good = PLAN;
    let (head, group) = good.split_once("\n[[group]]").unwrap();
    let more =
        group.replace("office", "web").replace("0.100/24", "0.101/24").replace("www.example.org", "WWW.example.org.");
    let message = Plan::parse(&format!("{head}\n[[group]]{group}\n[[group]]{more}")).unwrap_err().to_string();
    assert!(message.contains("group web: dns 1: name WWW.example.org. goes with group office already"), "{message}");
    let mut plan = Plan::parse(good).unwrap();
    let again = plan.groups[0].dns[0].clone();
    plan.groups[0].dns.push(again);
    assert!(plan.check().unwrap_err().to_string().contains("dns 3: name is in it twice"));
}
