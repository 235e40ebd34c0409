//! Nodes that a plan names and that nobody knows.

use std::collections::BTreeSet;

use super::place::{Place, field, in_group, item};
use super::{Plan, PlanError};
use crate::NodeName;

impl Plan {
    /// Refuses a plan that names other nodes than those; `text` is what it was read from.
    ///
    /// # Errors
    /// The first that is not among them, with its line.
    pub fn check_nodes(&self, known: &BTreeSet<NodeName>, text: &str) -> Result<(), PlanError> {
        let stranger = self.named_nodes().into_iter().find(|named| !known.contains(named.node));
        let Some(Named { of, field, node, place }) = stranger else { return Ok(()) };
        let question = question(node, known);
        Err(PlanError::Stranger { of, field, node: node.clone(), question }.at(text, &[place]))
    }

    /// All nodes that it names.
    pub fn nodes(&self) -> BTreeSet<NodeName> {
        self.named_nodes().into_iter().map(|named| named.node.clone()).collect()
    }

    fn named_nodes(&self) -> Vec<Named<'_>> {
        let mut named = Vec::new();
        for set in &self.sets {
            let place = vec![field("set"), item([("name", set.name.as_str())]), field("source")];
            named.push(Named { of: format!("set {}", set.name), field: "source", node: &set.source, place });
        }
        for connection in &self.connections {
            let values = [("set", connection.set.as_str()), ("target", connection.target.as_str())];
            let place = vec![field("connection"), item(values), field("target")];
            let of = format!("set {}", connection.set);
            named.push(Named { of, field: "target", node: &connection.target, place });
        }
        for group in &self.groups {
            let nodes = [("source", Some(&group.source)), ("target", Some(&group.target))];
            for (name, node) in nodes.into_iter().chain([("witness", group.witness.as_ref())]) {
                let Some(node) = node else { continue };
                let place = in_group(&group.name, [field(name)]);
                named.push(Named { of: format!("group {}", group.name), field: name, node, place });
            }
        }
        named
    }
}

struct Named<'a> {
    of: String,
    field: &'static str,
    node: &'a NodeName,
    place: Place,
}

fn question(node: &NodeName, known: &BTreeSet<NodeName>) -> String {
    let near = crate::nearest(node.as_str(), known.iter().map(NodeName::as_str));
    near.map_or(String::new(), |near| format!("; did you mean {near}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = "version = 1\n\n[[group]]\nname = \"office\"\nsource = \"paris\"\ntarget = \"lyon\"\n\
                        witness = \"rome\"\nsets = []\n\n[[group.service]]\nunit = \"notes\"\n";

    #[test]
    fn a_node_that_nobody_knows_is_named_with_its_line() {
        let plan = Plan::parse(PLAN).unwrap();
        let known = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<BTreeSet<NodeName>>();
        plan.check_nodes(&known(&["paris", "lyon", "rome"]), PLAN).unwrap();
        let refused = plan.check_nodes(&known(&["paris", "lyons", "rome"]), PLAN).unwrap_err().to_string();
        let meant = "line 6: group office: target is lyon, which is no node that is trusted here; did you mean lyons?";
        assert_eq!(refused, meant);
        let refused = plan.check_nodes(&known(&["paris", "lyon"]), PLAN).unwrap_err().to_string();
        assert_eq!(refused, "line 7: group office: witness is rome, which is no node that is trusted here");
        assert_eq!(plan.nodes(), known(&["paris", "lyon", "rome"]));
    }
}
