//! What was meant by a name that serde does not know.

/// The question that follows a message of serde about an unknown name; none: no known name is near, or none was listed.
pub(super) fn question(message: &str) -> Option<String> {
    let mut names = message.strip_prefix("unknown ")?.split('`').skip(1).step_by(2);
    let unknown = names.next()?;
    crate::nearest(unknown, names).map(|near| format!("; did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_asked_for() {
        let listed = "unknown field `ordre`, expected one of `name`, `source`, `order`, `path`";
        assert_eq!(question(listed).as_deref(), Some("; did you mean `order`?"));
        assert_eq!(
            question("unknown variant `stict`, expected `strict` or `flush`").unwrap(),
            "; did you mean `strict`?"
        );
        for none in ["unknown field `colour`, expected `name` or `path`", "unknown field `x`", "missing field `to`", ""]
        {
            assert_eq!(question(none), None, "{none}");
        }
    }
}
