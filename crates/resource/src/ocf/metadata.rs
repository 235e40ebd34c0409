//! What an agent says of itself (OCF resource agent API 1.1, "Meta-data").

use std::time::Duration;

use roxmltree::{Document, Node, ParsingOptions};

/// Elements of one document; agents have some hundreds.
const NODES_MAX: u32 = 20_000;

/// Of one kind of agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// As the agent calls itself.
    pub name: String,
    /// The agent's own version, where it tells one.
    pub version: String,
    /// In one line.
    pub about: String,
    /// At length, without the agent's line ends; blank lines part paragraphs.
    pub details: String,
    /// What it can be given, in the agent's order.
    pub parameters: Vec<Parameter>,
    /// What it can do, in the agent's order.
    pub actions: Vec<Offer>,
}

/// What an agent can be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// It has to be given.
    pub is_required: bool,
    /// No two instances may have the same.
    pub is_unique: bool,
    /// What it can be.
    pub kind: Kind,
    /// What the agent takes where it is not given.
    pub default: Option<String>,
    /// In one line.
    pub about: String,
    /// It goes in a later version; by which parameters it is replaced.
    pub deprecated: Option<Vec<String>>,
}

/// What a parameter can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A whole number.
    Integer,
    /// `true`, `false` and the other words that agents take for these.
    Boolean,
    /// A number with a unit.
    Time,
    /// One of these.
    Select(Vec<String>),
}

/// An action of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// `start`, `stop`, `monitor` …
    pub name: String,
    /// The least time that it should be given.
    pub timeout: Option<Duration>,
    /// How often it should be done.
    pub interval: Option<Duration>,
    /// How deeply a monitor looks: 0, 10, 20 …
    pub depth: u32,
    /// The role of which it is, where it is not of all.
    pub role: Option<String>,
}

impl Metadata {
    /// Reads the XML document in what an agent wrote; what it complained of before and after does not belong to it.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(written: &str) -> Result<Metadata, String> {
        let begin = ["<?xml", "<!DOCTYPE", "<resource-agent"].iter().filter_map(|tag| written.find(tag)).min();
        let end = written.rfind(END).map(|at| at + END.len());
        let (Some(begin), Some(end)) = (begin, end) else { return Err("it holds no <resource-agent>".into()) };
        let text = written.get(begin..end).ok_or("it ends before it begins")?;
        let options = ParsingOptions { allow_dtd: true, nodes_limit: NODES_MAX, ..ParsingOptions::default() };
        let document = Document::parse_with_options(text, options).map_err(|e| e.to_string())?;
        Metadata::of(document.root_element())
    }

    /// The parameter of that name.
    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }

    /// The action of that name, for every role.
    pub fn action(&self, name: &str) -> Option<&Offer> {
        self.actions.iter().find(|action| action.name == name && action.role.is_none())
    }

    /// The monitor that looks as deeply as that, or the next less deep one; one of a role only where there is no other.
    pub fn monitor(&self, depth: u32) -> Option<&Offer> {
        let monitors = self.actions.iter().filter(|action| action.name == "monitor" && action.depth <= depth);
        monitors.max_by_key(|action| (action.role.is_none(), action.depth))
    }

    fn of(root: Node<'_, '_>) -> Result<Metadata, String> {
        if !root.has_tag_name("resource-agent") {
            return Err(format!("it is a <{}>, not a <resource-agent>", root.tag_name().name()));
        }
        let metadata = Metadata {
            name: root.attribute("name").ok_or("<resource-agent> has no name")?.to_owned(),
            version: root.attribute("version").unwrap_or_default().to_owned(),
            about: text_of(root, "shortdesc"),
            details: text_of(root, "longdesc"),
            parameters: all(root, "parameters", "parameter").map(Parameter::of).collect::<Result<_, _>>()?,
            actions: all(root, "actions", "action").map(Offer::of).collect::<Result<_, _>>()?,
        };
        let lacks = MANDATORY.iter().find(|name| !metadata.actions.iter().any(|action| action.name == **name));
        lacks.map_or(Ok(()), |name| Err(format!("it has no action {name}")))?;
        Ok(metadata)
    }
}

const END: &str = "</resource-agent>";
/// Without these it is no resource agent.
const MANDATORY: [&str; 3] = ["start", "stop", "monitor"];

impl Parameter {
    fn of(node: Node<'_, '_>) -> Result<Parameter, String> {
        let name = node.attribute("name").ok_or("a <parameter> has no name")?.to_owned();
        let is_set = |name| matches!(node.attribute(name), Some("1" | "true" | "yes"));
        let content = child(node, "content");
        let replaced = child(node, "deprecated");
        Ok(Parameter {
            is_required: is_set("required"),
            is_unique: is_set("unique") || node.attribute("unique-group").is_some(),
            kind: content.map_or(Kind::Text, Kind::of),
            default: content.and_then(|content| content.attribute("default")).map(str::to_owned),
            about: text_of(node, "shortdesc"),
            deprecated: replaced.map(|deprecated| {
                let names = deprecated.children().filter(|child| child.has_tag_name("replaced-with"));
                names.filter_map(|by| by.attribute("name")).map(str::to_owned).collect()
            }),
            name,
        })
    }
}

impl Kind {
    fn of(content: Node<'_, '_>) -> Kind {
        match content.attribute("type") {
            Some("integer") => Kind::Integer,
            Some("boolean") => Kind::Boolean,
            Some("time" | "duration") => Kind::Time,
            Some("select") => {
                let options = content.children().filter(|child| child.has_tag_name("option"));
                Kind::Select(options.filter_map(|option| option.attribute("value")).map(str::to_owned).collect())
            }
            _ => Kind::Text,
        }
    }
}

impl Offer {
    fn of(node: Node<'_, '_>) -> Result<Offer, String> {
        let name = node.attribute("name").ok_or("an <action> has no name")?.to_owned();
        let time = |name| node.attribute(name).map(|text| time(text).ok_or(format!("{text:?} is no time")));
        let depth = node.attribute("depth").map_or(Ok(0), |depth| depth.trim().parse());
        Ok(Offer {
            timeout: time("timeout").transpose()?,
            interval: time("interval").transpose()?,
            depth: depth.map_err(|_| format!("the depth of action {name} is no number"))?,
            role: node.attribute("role").map(str::to_owned),
            name,
        })
    }
}

/// A time as agents write it: a number, seconds without a unit.
pub(super) fn time(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    match text[digits..].trim() {
        "" | "s" | "sec" => Some(Duration::from_secs(number)),
        "ms" | "msec" => Some(Duration::from_millis(number)),
        "us" | "usec" => Some(Duration::from_micros(number)),
        "m" | "min" => number.checked_mul(60).map(Duration::from_secs),
        "h" | "hr" => number.checked_mul(3_600).map(Duration::from_secs),
        _ => None,
    }
}

fn all<'a, 'b>(root: Node<'a, 'b>, list: &str, each: &'a str) -> impl Iterator<Item = Node<'a, 'b>> {
    child(root, list).into_iter().flat_map(move |list| list.children().filter(move |node| node.has_tag_name(each)))
}

fn child<'a, 'b>(node: Node<'a, 'b>, name: &str) -> Option<Node<'a, 'b>> {
    node.children().find(|child| child.has_tag_name(name))
}

/// The text of a child: English where there are several, its lines joined within paragraphs.
fn text_of(node: Node<'_, '_>, name: &str) -> String {
    let mut texts = node.children().filter(|child| child.has_tag_name(name));
    let first = texts.clone().next();
    let english = texts.find(|text| text.attribute("lang").is_some_and(|lang| lang.starts_with("en")));
    let text = english.or(first).and_then(|text| text.text()).unwrap_or_default();
    let joined = |lines: &[&str]| lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    let lines: Vec<_> = text.trim().lines().collect();
    lines.split(|line| line.trim().is_empty()).map(joined).collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIONS: &str = "<actions><action name='start' timeout='20s'/><action name='stop' timeout='1min'/>\
        <action name='monitor' timeout='30' interval='10s' depth='0'/><action name='monitor' timeout='45s' depth='20'/>\
        <action name='monitor' depth='10' role='Promoted'/></actions>";

    fn agent(inner: &str) -> String {
        format!("<resource-agent name='Thing' version='0.1'>{inner}{ACTIONS}</resource-agent>")
    }

    #[test]
    fn parameters_have_kinds_defaults_and_what_replaces_them() {
        let text = agent(
            "<shortdesc lang='de'>Ein Ding</shortdesc><shortdesc lang='en'>A\nthing</shortdesc><parameters>\
             <parameter name='port' required='1'><content type='integer' default='80'/></parameter>\
             <parameter name='old' unique='1'><deprecated><replaced-with name='new'/></deprecated>\
             <content type='select'><option value='a'/><option value='b'/></content></parameter></parameters>",
        );
        let metadata = Metadata::parse(&format!(
            "a warning\n<?xml version='1.0'?>\n<!DOCTYPE resource-agent SYSTEM \
                                                 'ra-api-1.dtd'>\n{text}\nanother\n"
        ))
        .unwrap();
        assert_eq!((metadata.name.as_str(), metadata.about.as_str()), ("Thing", "A thing"));
        let [port, old] = &metadata.parameters[..] else { panic!("{metadata:?}") };
        assert_eq!((port.is_required, &port.kind, port.default.as_deref()), (true, &Kind::Integer, Some("80")));
        assert_eq!((old.is_unique, &old.deprecated), (true, &Some(vec!["new".to_owned()])));
        assert_eq!(old.kind, Kind::Select(vec!["a".into(), "b".into()]));
    }

    #[test]
    fn a_depth_that_is_missing_falls_to_the_next_lower_one() {
        let metadata = Metadata::parse(&agent("")).unwrap();
        let depth = |depth| metadata.monitor(depth).map(|monitor| (monitor.depth, monitor.timeout.unwrap().as_secs()));
        assert_eq!(
            (depth(0), depth(10), depth(20), depth(99)),
            (Some((0, 30)), Some((0, 30)), Some((20, 45)), Some((20, 45)))
        );
        assert_eq!(metadata.action("stop").unwrap().timeout, Some(Duration::from_secs(60)));
    }

    #[test]
    fn what_is_no_agent_is_refused_with_its_reason() {
        let refused = |text: &str| Metadata::parse(text).unwrap_err();
        assert_eq!(refused("usage: thing {start|stop}"), "it holds no <resource-agent>");
        assert_eq!(refused("<resource-agent name='x'></resource-agent>"), "it has no action start");
        assert!(!refused("</resource-agent><resource-agent>").is_empty());
        assert!(refused(&agent("<parameters><parameter/></parameters>")).contains("no name"));
        assert!(refused(&agent("<open>")).contains("open"));
    }

    #[test]
    fn entities_that_grow_without_bound_are_refused() {
        let levels: String = (1..30).map(|n| format!("<!ENTITY e{n} \"&e{m};&e{m};&e{m};\">", m = n - 1)).collect();
        let bomb = format!("<!DOCTYPE x [<!ENTITY e0 \"ha\">{levels}]>{}", agent("<longdesc>&e29;</longdesc>"));
        assert!(Metadata::parse(&bomb).is_err());
    }
}
