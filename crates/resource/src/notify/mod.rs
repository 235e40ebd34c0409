//! Tells receivers what is wrong: SNMP notifications, mail, and JSON by HTTP.
//!
//! One call is one attempt, within its limit. Whether there is another one is decided elsewhere.

mod encode;
mod http;
mod line;
mod mail;
#[cfg(feature = "snmp")]
mod snmp;
#[cfg(feature = "snmp")]
mod varbinds;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use stead_model::NodeName;
use stead_model::delivery::Message;
use stead_model::plan::{Receiver, SecretFile};

use crate::{Failure, Outcome, files};

/// Who tells: one for each process.
#[derive(Debug)]
pub struct Teller {
    node: NodeName,
    began: Instant,
    #[cfg(feature = "snmp")]
    engine: snmp::Engine,
}

impl Teller {
    /// The process begins. `engine` is the file in which the identity of its SNMP engine is kept.
    pub fn new(node: NodeName, engine: PathBuf) -> Teller {
        #[cfg(feature = "snmp")]
        let engine = snmp::Engine::kept_in(engine);
        #[cfg(not(feature = "snmp"))]
        drop(engine);
        Teller {
            node,
            began: Instant::now(),
            #[cfg(feature = "snmp")]
            engine,
        }
    }

    /// Tells a receiver, once. Of a trap it is known only that it left.
    pub fn tell(&self, receiver: &Receiver, message: &Message, limit: Duration) -> Outcome<Result<(), Failure>> {
        let moment = Instant::now() + limit;
        Outcome::of(|| match receiver {
            Receiver::Snmp(plan) => self.tell_by_snmp(plan, message, moment),
            Receiver::Mail(plan) => mail::send(plan, message, &self.node, moment),
            Receiver::Webhook(plan) => http::post(plan, message.to_json(&self.node).to_string(), moment),
        })
    }

    #[cfg(feature = "snmp")]
    fn tell_by_snmp(
        &self,
        plan: &stead_model::plan::SnmpPlan,
        message: &Message,
        moment: Instant,
    ) -> Result<(), Failure> {
        let uptime = (self.began.elapsed().as_millis() / 10) as u32;
        varbinds::notifications(message, &self.node)
            .into_iter()
            .try_for_each(|notification| snmp::send(plan, &self.engine, uptime, notification, moment))
    }

    #[cfg(not(feature = "snmp"))]
    fn tell_by_snmp(&self, _: &stead_model::plan::SnmpPlan, _: &Message, _: Instant) -> Result<(), Failure> {
        let _ = self.began;
        Err(Failure::Unusable("this build of Stead has no SNMP: build it with the feature snmp".into()))
    }
}

/// Can that file be used? What is wrong with it, and what to do, otherwise.
///
/// # Errors
/// Where it is missing, empty, or a secret that others may read.
pub fn look_at(file: &SecretFile<'_>) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let shown = file.path.display();
    let found = std::fs::metadata(file.path)
        .map_err(|e| format!("{shown} cannot be read ({e}); write it there, for root alone"))?;
    if !found.is_file() || found.len() == 0 {
        return Err(format!("{shown} holds nothing; write it there, for root alone"));
    }
    if file.is_secret && found.permissions().mode() & 0o077 != 0 {
        return Err(format!("{shown} may be read by others; take that away: chmod 600 {shown}"));
    }
    Ok(())
}

fn secret(path: Option<&Path>) -> Result<String, Failure> {
    let path = path.ok_or_else(|| Failure::Unusable("the plan does not name the file of a secret".into()))?;
    files::secret(path)
}
