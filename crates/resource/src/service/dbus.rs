//! systemd over D-Bus.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use zbus::connection::{Builder, Connection};
use zbus::fdo;
use zbus::message::Message;
use zbus::wire::{DynamicType, OwnedObjectPath, OwnedVariant};

use super::unit::{Manager, Standing, UnitName};
use crate::{Failure, Output, Term};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const JOB: &str = "org.freedesktop.systemd1.Job";
/// Between two looks at a job: it is gone when it has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

const SIGKILL: i32 = 9;

type Work<T> = Pin<Box<dyn Future<Output = zbus::Result<T>>>>;

/// Asks systemd over D-Bus. Each call makes a connection of its own: none is there to be lost when the bus restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dbus {
    address: Option<String>,
}

impl Dbus {
    /// Over the system's bus.
    pub fn system() -> Dbus {
        Dbus::default()
    }

    /// Over another bus, as `unix:path=/run/bus`.
    pub fn at(address: impl Into<String>) -> Dbus {
        Dbus { address: Some(address.into()) }
    }

    /// Does some work on a connection, on a thread: a bus that accepts and says nothing is not waited for.
    fn ask<T: Send + 'static>(
        &self,
        term: Term<'_>,
        work: impl FnOnce(Systemd) -> Work<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let (sender, receiver) = channel();
        let (dbus, limit) = (self.clone(), term.left());
        thread::spawn(move || {
            let done = zbus::block_on(async {
                let connection = dbus.builder().method_timeout(limit).build().await?;
                work(Systemd { connection, deadline: Instant::now() + limit }).await
            });
            let _ = sender.send(done);
        });
        loop {
            match receiver.recv_timeout(term.left().min(LOOK_INTERVAL)) {
                Ok(done) => return done.map_err(|e| failure(&e, limit)),
                Err(RecvTimeoutError::Disconnected) => return Err(Failure::Unknown("systemd gave no answer".into())),
                Err(_) if term.stop.is_called() => return Err(Failure::Unknown("called off".into())),
                Err(_) if term.is_over() => return Err(Failure::TimedOut(limit)),
                Err(_) => {}
            }
        }
    }

    fn builder(&self) -> Builder<'_> {
        self.address.as_deref().map_or_else(Builder::system, Builder::address)
    }
}

impl Manager for Dbus {
    fn look(&self, unit: &UnitName, term: Term<'_>, _: &mut Output) -> Result<Standing, Failure> {
        let unit = unit.to_string();
        self.ask(term, |systemd| Box::pin(async move { systemd.look(&unit).await }))
    }

    fn start(&self, unit: &UnitName, term: Term<'_>, _: &mut Output) -> Result<(), Failure> {
        let unit = unit.to_string();
        self.ask(term, |systemd| {
            Box::pin(async move {
                // Without it a unit that failed too often is not started again; one that did not fail does not mind.
                let _ = systemd.call("ResetFailedUnit", &(&unit,)).await;
                systemd.finish("StartUnit", &unit).await
            })
        })
    }

    fn stop(&self, unit: &UnitName, term: Term<'_>, _: &mut Output) -> Result<(), Failure> {
        let unit = unit.to_string();
        self.ask(term, |systemd| Box::pin(async move { systemd.finish("StopUnit", &unit).await }))
    }

    fn kill(&self, unit: &UnitName, term: Term<'_>, _: &mut Output) -> Result<(), Failure> {
        let unit = unit.to_string();
        self.ask(term, |systemd| {
            Box::pin(async move { systemd.call("KillUnit", &(&unit, "all", SIGKILL)).await.map(drop) })
        })
    }

    fn disable(&self, unit: &UnitName, term: Term<'_>, _: &mut Output) -> Result<(), Failure> {
        let unit = unit.to_string();
        self.ask(term, |systemd| {
            Box::pin(async move {
                let is_until_boot = false;
                systemd.call("DisableUnitFiles", &(vec![&unit], is_until_boot)).await?;
                systemd.call("Reload", &()).await.map(drop)
            })
        })
    }
}

/// systemd, at the other end of a connection.
struct Systemd {
    connection: Connection,
    deadline: Instant,
}

impl Systemd {
    async fn look(&self, unit: &str) -> zbus::Result<Standing> {
        let path: OwnedObjectPath = self.call("LoadUnit", &(unit,)).await?.body().deserialize()?;
        let load = self.property(&path, UNIT, "LoadState").await?;
        let active = self.property(&path, UNIT, "ActiveState").await?;
        let file = self.property(&path, UNIT, "UnitFileState").await?;
        Ok(Standing::from_words(&load, &active, &file))
    }

    /// Begins a job and waits for its end. What came of it the unit's state tells.
    async fn finish(&self, method: &str, unit: &str) -> zbus::Result<()> {
        let job: OwnedObjectPath = self.call(method, &(unit, "replace")).await?.body().deserialize()?;
        while Instant::now() < self.deadline {
            match self.property(&job, JOB, "State").await {
                Err(zbus::Error::FDO(e)) if matches!(*e, fdo::Error::UnknownObject(_)) => return Ok(()),
                other => other.map(drop)?,
            }
            thread::sleep(LOOK_INTERVAL);
        }
        Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into())
    }

    async fn call(&self, method: &str, body: &(impl serde::Serialize + DynamicType)) -> zbus::Result<Message> {
        self.connection.call_method(Some(SYSTEMD), PATH, Some(MANAGER), method, body).await
    }

    async fn property(&self, path: &OwnedObjectPath, interface: &str, name: &str) -> zbus::Result<String> {
        const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
        let told =
            self.connection.call_method(Some(SYSTEMD), path, Some(PROPERTIES), "Get", &(interface, name)).await?;
        let body = told.body();
        let value: OwnedVariant = body.deserialize()?;
        String::try_from(value)
    }
}

fn failure(e: &zbus::Error, limit: Duration) -> Failure {
    match e {
        zbus::Error::MethodError(..) => Failure::Failed(format!("systemd refuses: {e}")),
        zbus::Error::InputOutput(io) if io.kind() == std::io::ErrorKind::TimedOut => Failure::TimedOut(limit),
        _ => Failure::Unknown(format!("systemd is not reached over D-Bus: {e}")),
    }
}
