//! Are the parameters such as the agent wants?

use std::collections::BTreeMap;

use super::metadata::{Kind, Metadata, Parameter, time};

/// What is wrong with the parameters that an agent is to be given, one line for each, with what to do; empty: nothing.
pub fn check(metadata: &Metadata, given: &BTreeMap<String, String>) -> Vec<String> {
    let unknown = given.keys().filter(|name| metadata.parameter(name).is_none());
    let unknown = unknown.map(|name| format!("{} has no parameter {name}{}", metadata.name, meant(metadata, name)));
    let missing = metadata.parameters.iter().filter(|known| known.is_required && !given.contains_key(&known.name));
    let missing = missing.map(|known| {
        format!("{} needs the parameter {}: {}", metadata.name, known.name, known.about.trim_end_matches('.'))
    });
    let wrong = given.iter().filter_map(|(name, value)| wrong(metadata.parameter(name)?, value));
    unknown.chain(missing).chain(wrong).collect()
}

fn wrong(parameter: &Parameter, value: &str) -> Option<String> {
    if value.contains('\0') {
        return Some(format!("the parameter {} holds a NUL", parameter.name));
    }
    let kind = match &parameter.kind {
        Kind::Text => return None,
        Kind::Integer if value.trim().parse::<i64>().is_ok() => return None,
        Kind::Integer => "a whole number".to_owned(),
        Kind::Boolean if is_boolean(value) => return None,
        Kind::Boolean => "true or false".to_owned(),
        Kind::Time if time(value).is_some() => return None,
        Kind::Time => "a time, as 20s".to_owned(),
        Kind::Select(options) if options.iter().any(|option| option == value) => return None,
        Kind::Select(options) => format!("one of {}", options.join(", ")),
    };
    Some(format!("the parameter {} is {kind}, not {value:?}", parameter.name))
}

/// The words of `ocf_is_true` and their opposites.
fn is_boolean(value: &str) -> bool {
    let words = ["yes", "true", "1", "on", "ja", "no", "false", "0", "off"];
    words.iter().any(|word| word.eq_ignore_ascii_case(value))
}

fn meant(metadata: &Metadata, name: &str) -> String {
    let known = metadata.parameters.iter().map(|parameter| parameter.name.as_str());
    stead_model::nearest(name, known).map(|near| format!("; did you mean {near}?")).unwrap_or_default()
}
