//! One SNMP notification to one manager.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_snmp::v3::{AuthoritativeEngine, PersistedAuthoritativeEngine, generate_engine_id};
use async_snmp::{Auth, AuthProtocol, Client, PrivProtocol, Retry, UsmConfig};
use stead_model::plan::{SnmpAuth, SnmpPlan, SnmpPrivacy, SnmpVersion};

use super::line::left;
use super::secret;
use super::varbinds::Notification;
use crate::Failure;
use crate::files::write_durably;

/// An inform that is not confirmed is sent again after that time, within its limit.
const INFORM_AGAIN: Duration = Duration::from_secs(2);
const INFORM_RETRIES: u32 = 3;

/// The sender of traps of version 3: its id stays, its count of boots rises with each process that sends one.
pub(super) struct Engine {
    file: PathBuf,
    begun: Mutex<Option<AuthoritativeEngine>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "engine kept in {}", self.file.display())
    }
}

impl Engine {
    pub(super) fn kept_in(file: PathBuf) -> Engine {
        Engine { file, begun: Mutex::new(None) }
    }

    fn get(&self) -> Result<AuthoritativeEngine, Failure> {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = &*begun {
            return Ok(engine.clone());
        }
        let engine = self.begin()?;
        *begun = Some(engine.clone());
        Ok(engine)
    }

    fn begin(&self) -> Result<AuthoritativeEngine, Failure> {
        let cannot = || format!("begin the SNMP engine of {}", self.file.display());
        let file = self.file.clone();
        let keep = move |kept: &PersistedAuthoritativeEngine| -> io::Result<()> {
            write_durably(&file, written(kept).as_bytes())
        };
        let engine = match fs::read_to_string(&self.file) {
            Ok(text) => {
                let kept = read(&text).ok_or_else(|| {
                    Failure::Unusable(format!("{} is damaged; remove it for a new engine id", self.file.display()))
                })?;
                AuthoritativeEngine::restart(kept, keep)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                generate_engine_id().and_then(|id| AuthoritativeEngine::install(id, keep))
            }
            Err(e) => return Err(Failure::at(cannot())(e)),
        };
        engine.map_err(Failure::at(cannot()))
    }
}

/// `0x8000…`, then the count of boots.
fn written(kept: &PersistedAuthoritativeEngine) -> String {
    let id: String = kept.engine_id().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{id}\n{}\n", kept.engine_boots())
}

fn read(text: &str) -> Option<PersistedAuthoritativeEngine> {
    let (id, boots) = text.strip_prefix("0x")?.trim_end().split_once('\n')?;
    let byte = |at: usize| u8::from_str_radix(id.get(at..at + 2)?, 16).ok();
    let id: Option<Vec<u8>> = (0..id.len()).step_by(2).map(byte).collect();
    PersistedAuthoritativeEngine::new(id?, boots.parse().ok()?).ok()
}

/// Sends it; an inform is waited for until it is confirmed.
pub(super) fn send(
    plan: &SnmpPlan,
    engine: &Engine,
    uptime: u32,
    notification: Notification,
    moment: Instant,
) -> Result<(), Failure> {
    let unusable = || Failure::Unusable(format!("{:?} is not like HOST:PORT", plan.address));
    let (host, port) = plan.host_and_port().ok_or_else(unusable)?;
    let auth = auth(plan)?;
    let needs_engine = plan.version == SnmpVersion::V3 && !plan.inform;
    let engine = if needs_engine { Some(engine.get()?) } else { None };
    let cannot = |e| Failure::Failed(format!("{} cannot be told: {e}", plan.address));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Failure::at("wait for the network"))?;
    let work = async {
        let again = Retry::fixed(INFORM_RETRIES, Duration::ZERO).unwrap_or_default();
        let mut client = Client::builder((host, port), auth).request_timeout(INFORM_AGAIN).retry(again);
        if let Some(engine) = engine {
            client = client.local_authoritative_engine(engine);
        }
        let client = client.connect().await.map_err(|e| cannot(e.to_string()))?;
        let Notification { oid, varbinds } = notification;
        let sent = match plan.inform {
            true => client.send_inform(&oid, uptime, varbinds).await.map(drop),
            false => client.send_trap(&oid, uptime, varbinds).await,
        };
        sent.map_err(|e| cannot(e.to_string()))
    };
    let limit = left(moment);
    let done = runtime.block_on(async { tokio::time::timeout(limit, work).await });
    // A name that is still looked up would hold up the end of the runtime.
    runtime.shutdown_background();
    done.unwrap_or(Err(Failure::TimedOut(limit)))
}

fn auth(plan: &SnmpPlan) -> Result<Auth, Failure> {
    if plan.version == SnmpVersion::V2c {
        return Ok(Auth::v2c(secret(plan.community_file.as_deref())?));
    }
    let auth = match plan.auth {
        SnmpAuth::Sha => AuthProtocol::Sha1,
        SnmpAuth::Sha256 => AuthProtocol::Sha256,
        SnmpAuth::Sha512 => AuthProtocol::Sha512,
    };
    let privacy = match plan.privacy {
        SnmpPrivacy::Aes128 => PrivProtocol::Aes128,
        SnmpPrivacy::Aes256 => PrivProtocol::Aes256Reeder,
    };
    let auth_password = secret(plan.auth_password_file.as_deref())?;
    let privacy_password = secret(plan.privacy_password_file.as_deref())?;
    let user = plan.user.clone().unwrap_or_default();
    let config = UsmConfig::new(user).auth_priv(auth, auth_password, privacy, privacy_password);
    config.map(Auth::from).map_err(|e| Failure::Unusable(format!("these passwords cannot be used: {e}")))
}
