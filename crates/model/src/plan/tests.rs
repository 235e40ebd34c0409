use super::*;

const GOLDEN: &str = r#"version = 1

[[set]]
name = "notes"
source = "paris"
capture = "auto"
order = "strict"

[set.rules]
exclude = ["*.tmp"]

[[set.path]]
path = "/srv/notes"
volume = "0b1f0a4e-8f3c-4a57-9d2b-6f1f6a2f9c11"

[[set.path]]
path = "/srv/notes/big"
volume = "0b1f0a4e-8f3c-4a57-9d2b-6f1f6a2f9c12/256"

[[connection]]
set = "notes"
target = "lyon"
route = "10.0.0.2:7130"
mode = "async"
without = ["acls"]

[[connection.mapping]]
from = "/srv/notes"
to = "/srv/notes"

[[connection.mapping]]
from = "/srv/notes/big"
to = "/data/big"
"#;

#[test]
fn a_plan_is_written_as_it_was_read() {
    assert_eq!(Plan::parse(GOLDEN).unwrap().to_toml(), GOLDEN);
    assert_eq!(Plan::parse(&Plan::default().to_toml()).unwrap(), Plan::default());
}

#[test]
fn what_is_wrong_is_named() {
    let cases: &[(&str, &str, &str)] = &[
        ("version = 1", "version = 2", "version 2"),
        ("order = \"strict\"", "order = \"stict\"", "stict"),
        ("order = \"strict\"", "ordre = \"strict\"", "ordre"),
        ("path = \"/srv/notes\"", "path = \"srv/notes\"", "not absolute"),
        ("path = \"/srv/notes\"", "path = \"/srv/../notes\"", "'..'"),
        ("path = \"/srv/notes\"", "path = \"/srv/notes/\"", "trailing"),
        ("path = \"/srv/notes\"", "path = \"/\"", "root directory"),
        ("-6f1f6a2f9c12/256", "-6f1f6a2f9c11", "already protected"),
        ("-6f1f6a2f9c12/256", "", "not a volume"),
        ("\"*.tmp\"", "\"a[\"", "a["),
        ("set = \"notes\"", "set = \"mail\"", "no set mail"),
        ("target = \"lyon\"", "target = \"paris\"", "own source"),
        ("target = \"lyon\"", "target = \"ly/on\"", "ly/on"),
        ("to = \"/data/big\"", "to = \"/srv/notes/big\"", "inside each other"),
        ("from = \"/srv/notes/big\"", "from = \"/srv/other\"", "where /srv/notes/big goes"),
    ];
    for (from, to, expected) in cases {
        let text = GOLDEN.replacen(from, to, 1);
        assert_ne!(text, GOLDEN, "{from}");
        let message = Plan::parse(&text).expect_err(to).to_string();
        assert!(message.contains(expected), "{to}: {message}");
    }
}

#[test]
fn edits_leave_the_old_plan_alone() {
    let plan = Plan::parse(GOLDEN).unwrap();
    let name: SetName = "notes".parse().unwrap();
    assert_eq!(plan.without_set(&name).unwrap(), Plan::default());
    assert!(plan.with_paused(&name, true).unwrap().connections[0].paused);
    assert!(plan.with_set(plan.sets[0].clone(), vec![]).is_err());
    assert!(plan.without_set(&"mail".parse().unwrap()).is_err());
    assert_eq!(plan.to_toml(), GOLDEN);
}
