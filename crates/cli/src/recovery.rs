//! Recovery kits: parts of a plan for well-known services, with values to fill in.

use stead_model::nearest;

/// All of them: name and text.
const KITS: [(&str, &str); 11] = [
    ("bind", include_str!("kits/bind.toml")),
    ("bind-zone", include_str!("kits/bind-zone.toml")),
    ("dovecot", include_str!("kits/dovecot.toml")),
    ("mariadb", include_str!("kits/mariadb.toml")),
    ("nfs", include_str!("kits/nfs.toml")),
    ("nfs-ganesha", include_str!("kits/nfs-ganesha.toml")),
    ("nginx", include_str!("kits/nginx.toml")),
    ("postfix", include_str!("kits/postfix.toml")),
    ("postgresql", include_str!("kits/postgresql.toml")),
    ("samba", include_str!("kits/samba.toml")),
    ("systemd", include_str!("kits/systemd.toml")),
];

/// A kit.
#[derive(Clone, Debug)]
pub struct Kit {
    /// Its name.
    pub name: &'static str,
    text: &'static str,
}

/// A value that a kit has filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// Its name.
    pub name: &'static str,
    /// What is taken where none is given.
    pub usual: &'static str,
    /// What it is.
    pub about: &'static str,
}

/// All kits, in the order of their names.
pub fn kits() -> impl Iterator<Item = Kit> {
    KITS.into_iter().map(|(name, text)| Kit { name, text })
}

/// The kit of that name.
///
/// # Errors
/// What is meant instead.
pub fn kit(name: &str) -> Result<Kit, String> {
    let near = nearest(name, KITS.iter().map(|(name, _)| *name)).map(|near| format!("; did you mean {near}?"));
    kits().find(|kit| kit.name == name).ok_or_else(|| format!("there is no kit {name}{}", near.unwrap_or_default()))
}

impl Kit {
    /// What it is for, in a line.
    pub fn about(&self) -> &'static str {
        self.lines("about").next().unwrap_or_default()
    }

    /// What has to be there.
    pub fn needs(&self) -> &'static str {
        self.lines("needs").next().unwrap_or_default()
    }

    /// What it has filled in.
    pub fn values(&self) -> impl Iterator<Item = Value> {
        self.lines("value").filter_map(|line| {
            let (name, rest) = line.split_once('=')?;
            let (usual, about) = rest.split_once("  ")?;
            Some(Value { name, usual, about })
        })
    }

    /// The part of a plan, with those values: `NAME=VALUE`.
    ///
    /// # Errors
    /// One that it does not have, or that a plan cannot hold.
    pub fn filled(&self, given: &[String]) -> Result<String, String> {
        let mut text = self.text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
        let pairs = given.iter().map(|pair| pair.split_once('=').ok_or_else(|| format!("{pair:?} is not NAME=VALUE")));
        let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
        if let Some((name, _)) = pairs.iter().find(|(name, _)| !self.values().any(|value| value.name == *name)) {
            let near = nearest(name, self.values().map(|value| value.name));
            let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            return Err(format!("the kit {} has no value {name}{near}", self.name));
        }
        if let Some((name, _)) = pairs.iter().find(|(_, value)| value.contains(['"', '\\', '\n'])) {
            return Err(format!(
                "the value of {name} holds what would have to be quoted: write it into the plan by hand"
            ));
        }
        for value in self.values() {
            let given = pairs.iter().rev().find(|(name, _)| *name == value.name).map(|(_, given)| *given);
            text = text.replace(&format!("{{{}}}", value.name), given.unwrap_or(value.usual));
        }
        let kept = text.lines().filter(|line| *line != "expect = \"\"").collect::<Vec<_>>();
        Ok(format!("{}\n", kept.join("\n").trim_matches('\n')))
    }

    fn lines(&self, key: &str) -> impl Iterator<Item = &'static str> {
        let prefix = format!("# {key}: ");
        self.text.lines().filter_map(move |line| line.strip_prefix(&prefix))
    }
}

#[cfg(test)]
mod tests {
    use stead_model::plan::Plan;

    use super::*;

    #[test]
    fn every_kit_is_part_of_a_plan_as_it_is() {
        let group = "version = 1\n[[group]]\nname = 'office'\nsource = 'paris'\ntarget = 'lyon'\nsets = []\n";
        for kit in kits() {
            let filled = kit.filled(&[]).unwrap();
            Plan::parse(&format!("{group}{filled}")).unwrap_or_else(|e| panic!("{}: {e}\n{filled}", kit.name));
            assert!(!filled.contains(['{', '#']) || filled.contains("quick = {"), "{filled}");
            assert!(!kit.about().is_empty() && !kit.needs().is_empty() && kit.values().count() > 1);
        }
        assert!(kits().map(|kit| kit.name).is_sorted());
    }

    #[test]
    fn values_are_filled_in_and_wrong_ones_named() {
        let nginx = kit("nginx").unwrap();
        let filled = nginx.filled(&["address=10.1.1.1:80".into(), "expect=well".into()]).unwrap();
        assert!(filled.contains("http = \"http://10.1.1.1:80/\"\nexpect = \"well\""), "{filled}");
        assert!(!nginx.filled(&[]).unwrap().contains("expect"));
        assert_eq!(
            nginx.filled(&["adress=x".into()]).unwrap_err(),
            "the kit nginx has no value adress; did you mean address?"
        );
        assert!(nginx.filled(&["address".into()]).unwrap_err().contains("is not NAME=VALUE"));
        assert!(nginx.filled(&["page=\"".into()]).unwrap_err().contains("by hand"));
        assert_eq!(kit("ngnx").unwrap_err(), "there is no kit ngnx; did you mean nginx?");
    }
}
