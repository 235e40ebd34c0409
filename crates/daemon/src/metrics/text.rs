//! The text format of Prometheus, version 0.0.4.

use std::fmt::Write;

/// Metrics of one name.
pub(super) struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    samples: Vec<(Vec<(&'static str, String)>, f64)>,
}

impl Family {
    pub(super) fn gauge(name: &'static str, help: &'static str) -> Family {
        Family { name, kind: "gauge", help, samples: Vec::new() }
    }

    pub(super) fn counter(name: &'static str, help: &'static str) -> Family {
        Family { name, kind: "counter", help, samples: Vec::new() }
    }

    pub(super) fn add(&mut self, labels: &[(&'static str, &str)], value: f64) {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.samples.push((labels, value));
    }

    /// The same, where there is a value.
    pub(super) fn add_some(&mut self, labels: &[(&'static str, &str)], value: Option<f64>) {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            self.add(labels, value);
        }
    }

    /// Nothing where there is no sample.
    pub(super) fn write(&self, text: &mut String) {
        if self.samples.is_empty() {
            return;
        }
        let Family { name, kind, help, samples } = self;
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (labels, value) in samples {
            let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
