//! Texts with places for values: `{group}` is one, any other brace stands for itself.

/// The names that may stand in braces.
pub const NAMES: [&str; 6] = ["group", "node", "other", "event", "epoch", "address"];

/// The names in braces, as they come. A name is of small letters.
pub fn names(text: &str) -> impl Iterator<Item = &str> {
    parts(text).filter_map(|(_, name)| name)
}

/// The text with a value in the place of each name.
pub fn filled(text: &str, value: impl Fn(&str) -> String) -> String {
    let part = |(before, name): (&str, Option<&str>)| before.to_owned() + &name.map(&value).unwrap_or_default();
    parts(text).map(part).collect()
}

/// Each piece of the text as it stands, and the name behind it; the last has none.
fn parts(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let found = text.match_indices('{').find_map(|(at, _)| {
            let (name, after) = text[at + 1..].split_once('}')?;
            let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase());
            is_name.then_some((&text[..at], name, after))
        });
        match found {
            Some((before, name, after)) => {
                rest = Some(after);
                Some((before, Some(name)))
            }
            None => Some((text, None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_among_other_braces() {
        let json = "{\"text\": \"{group} went to {node}\", \"{Not}\": {}, \"n\": {\"e\": {epoch}}}";
        assert_eq!(names(json).collect::<Vec<_>>(), ["group", "node", "epoch"]);
        let filled = filled(json, |name| name.to_uppercase());
        assert_eq!(filled, "{\"text\": \"GROUP went to NODE\", \"{Not}\": {}, \"n\": {\"e\": EPOCH}}");
        for text in ["", "{", "}", "{}", "{{", "plain", "{A}"] {
            assert_eq!((names(text).count(), super::filled(text, |_| "x".into()).as_str()), (0, text));
        }
        assert_eq!(super::filled("{{a}}", |_| "x".into()), "{x}");
    }
}
