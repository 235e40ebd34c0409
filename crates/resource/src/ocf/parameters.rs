//! Are the parameters such as the agent wants?

use std::collections::BTreeMap;

use super::metadata::{Kind, Metadata, Parameter, time};

/// A parameter that an agent cannot be given, or that it lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Its name.
    pub parameter: String,
    /// Why, in one line, with what to do.
    pub why: String,
}

/// What is wrong with the parameters that an agent is to be given; empty: nothing.
pub fn check(metadata: &Metadata, given: &BTreeMap<String, String>) -> Vec<Wrong> {
    let one = |parameter: &String, why| Wrong { parameter: parameter.clone(), why };
    let unknown = given.keys().filter(|name| metadata.parameter(name).is_none());
    let unknown =
        unknown.map(|name| one(name, format!("{} has no parameter {name}{}", metadata.name, meant(metadata, name))));
    let missing = metadata.parameters.iter().filter(|known| known.is_required && !given.contains_key(&known.name));
    let missing = missing.map(|known| {
        let about = known.about.trim_end_matches('.');
        one(&known.name, format!("{} needs the parameter {}: {about}", metadata.name, known.name))
    });
    let wrong = given.iter().filter_map(|(name, value)| Some(one(name, wrong(metadata.parameter(name)?, value)?)));
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
