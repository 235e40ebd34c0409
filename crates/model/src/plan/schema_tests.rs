use serde_json::Value;

use super::*;
use crate::plan::tests;

const GOLDEN: [&str; 3] = [tests::GOLDEN, tests::SETTINGS, include_str!("group/golden.toml")];

fn faults(text: &str) -> Vec<String> {
    let schema: Value = serde_json::from_str(&schema()).unwrap();
    let plan: Value = serde_json::to_value(toml::from_str::<toml::Value>(text).unwrap()).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    validator.iter_errors(&plan).map(|fault| format!("{}: {fault}", fault.instance_path())).collect()
}

#[test]
fn plans_that_are_read_are_accepted() {
    for text in GOLDEN {
        Plan::parse(text).unwrap();
        assert_eq!(faults(text), Vec::<String>::new());
    }
    assert!(faults("version = 1\n").is_empty());
}

#[test]
fn what_is_refused_by_its_shape_is_refused_by_the_schema() {
    let [sets, settings, groups] = GOLDEN;
    for (text, from, to) in [
        (sets, "order = \"strict\"", "ordre = \"strict\""),
        (sets, "order = \"strict\"", "order = \"stict\""),
        (sets, "name = \"notes\"", "name = \"no/tes\""),
        (sets, "name = \"notes\"", "name = 7"),
        (sets, "version = 1", "version = 2"),
        (sets, "route = ", "rout = "),
        (sets, "to = \"/data/big\"\n", ""),
        (settings, "queue-limit = \"4GiB\"", "queue-limt = \"4GiB\""),
        (settings, "queue-limit = \"4GiB\"", "queue-limit = \"4kiB\""),
        (settings, "sync-timeout = \"5s\"", "sync-timeout = \"5\""),
        (settings, "sync-timeout = \"5s\"", "sync-timeout = 5"),
        (settings, "bandwidth = \"10MiB/s\"", "bandwith = \"10MiB/s\""),
        (settings, "bandwidth = \"10MiB/s\"", "bandwidth = \"10MiB/h\""),
        (settings, "deletions = \"off\"", "deletions = \"of\""),
        (settings, "window = \"1m\"", "window = \"1 m\""),
        (groups, "heartbeat = \"500ms\"", "heartbeat = \"0.5s\""),
        (groups, "takeover = \"automatic\"", "takeover = \"auto\""),
        (groups, "take = true", "take = \"yes\""),
        (groups, "10.0.0.100/24", "10.0.0.100"),
        (groups, "failures = 2", "failures = -2"),
        (groups, "host = \"rome\"", "hostname = \"rome\""),
        (groups, "host = \"rome\"", "host = \"ro_me\""),
        (groups, "unit = \"notes.service\"", "units = \"notes.service\""),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        assert!(Plan::parse(&changed).is_err(), "{to}");
        assert!(!faults(&changed).is_empty(), "{to}");
    }
}

#[test]
fn every_field_says_what_it_is() {
    fn undescribed(schema: &Value, path: &str, found: &mut Vec<String>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            if !field["description"].is_string() {
                found.push(format!("{path}{name}"));
            }
        }
        for (name, part) in schema["$defs"].as_object().into_iter().flatten() {
            undescribed(part, &format!("{name}."), found);
        }
    }
    let mut found = Vec::new();
    undescribed(&serde_json::from_str(&schema()).unwrap(), "", &mut found);
    assert_eq!(found, Vec::<String>::new());
}
