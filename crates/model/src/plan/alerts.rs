//! Whom this node tells that something is wrong.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PlanError;
use super::amount::Span;
use super::receivers::{MailPlan, Receivers, SnmpPlan, WebhookPlan};

/// The table `[alerts]` of the plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct AlertsPlan {
    /// Run by `/bin/sh -c` for every raise and every clear; none: nobody is told, `stead alerts` lists them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// How long it may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Lag beyond which a connection counts as behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind: Option<Span>,
    /// How long a connection may be without a session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disconnected: Option<Span>,
    /// Managers that get SNMP notifications.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub snmp: Vec<SnmpPlan>,
    /// People who get mail.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mail: Vec<MailPlan>,
    /// Programs that get JSON by HTTP.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub webhook: Vec<WebhookPlan>,
}

impl AlertsPlan {
    /// How long the command may run: 30 s where the plan does not say.
    pub fn timeout(&self) -> Duration {
        self.timeout.map_or(Duration::from_secs(30), |span| span.0)
    }

    /// Lag beyond which a connection counts as behind: 5 min where the plan does not say.
    pub fn behind(&self) -> Duration {
        self.behind.map_or(Duration::from_secs(300), |span| span.0)
    }

    /// How long a connection may be without a session: 1 min where the plan does not say.
    pub fn disconnected(&self) -> Duration {
        self.disconnected.map_or(Duration::from_secs(60), |span| span.0)
    }

    /// All receivers but the command.
    pub fn receivers(&self) -> Receivers<'_> {
        Receivers(self)
    }

    pub(super) fn check(&self) -> Result<(), PlanError> {
        if self.command.as_ref().is_some_and(|command| command.trim().is_empty()) {
            return Err(PlanError::Alerts("the command is empty; leave it out where nobody is to be told"));
        }
        if self.timeout().is_zero() || self.timeout() > Duration::from_secs(3600) {
            return Err(PlanError::Alerts("timeout is not between 1ms and 1h"));
        }
        self.receivers().check()
    }
}
