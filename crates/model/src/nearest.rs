//! What was meant by a name that is not known.

/// At most that many letters lie between what was written and what was meant.
const LETTERS_MAX: usize = 2;

/// The known name that is most like an unknown one; none: none is near enough to have been meant.
pub fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (letters, name) = known.map(|name| (strsim::osa_distance(unknown, name), name)).min()?;
    (letters <= LETTERS_MAX && letters < unknown.chars().count()).then_some(name)
}
