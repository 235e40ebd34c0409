//! From nothing to a running node, and to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use stead_api::{Failure, SOCKET};
use stead_model::NodeName;
use stead_model::plan::Plan;
use stead_resource::notify::Teller;
use tracing::{info, warn};

use crate::api_server;
use crate::data;
use crate::event::{Event, GroupEvent};
use crate::failover::secrets::Secrets;
use crate::failover::watchdog::{self, Restart};
use crate::failover::{Failover, Order};
use crate::forks::Forks;
use crate::life::Life;
use crate::log;
use crate::metrics::Metrics;
use crate::names;
use crate::node::{Groups, Node, Pulse};
use crate::peer::messages::Meant;
use crate::peer::{Book, Dialer, Identity, Keyring, listen};
use crate::seam::{Context, Events};
use crate::state::invites::Invites;
use crate::state::peers::Peers;
use crate::state::replaced::Replaced;
use crate::state::rotation::Rotation;
use crate::state::{StateDir, files, node};

/// The port that a daemon listens on unless told otherwise.
pub const PORT: u16 = 7130;

/// Events that wait for the loop; whoever has one more waits too.
const EVENTS_MAX: usize = 1024;

/// How a daemon is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The state directory.
    pub state: PathBuf,
    /// Where to listen for other nodes; empty: port [`PORT`] on all IPv4 addresses. Port 0: any that is free.
    pub listen: Vec<SocketAddr>,
    /// The node's name; none: the one in the state directory, else the host's.
    pub name: Option<NodeName>,
    /// Its watchdog starts it again when it dies, or gives no sign of life for so long; none: nobody does, or systemd.
    pub restart: Option<Duration>,
}

/// Runs a daemon until SIGTERM, SIGINT or `shutdown`. Captures go on without it.
///
/// # Errors
/// Why it cannot run here.
pub fn run(options: &Options) -> Result<(), Failure> {
    log::begin();
    must_be_root()?;
    let state = StateDir::open(&options.state)?;
    let name = node::name(&state, options.name.clone())?;
    let (keys, rotation) = load_keys(&state)?;
    let plan = load_plan(&state)?;
    let (peers, invites) = (Peers::load(&state)?, Invites::load(&state)?);
    let book = Book::default();
    book.set(peers.list().to_vec());

    let (events, received) = sync_channel(EVENTS_MAX);
    stop_on_signals(events.clone())?;
    let listens = listen(options, &keys, &book, &events)?;
    let clients = api_server::serve(&state.file(SOCKET), events.clone())?;
    info!("node {name} listens on {listens:?}, state {}", state.path().display());

    let dialer = Dialer::new(keys.clone(), book.clone());
    let executable = names::program().to_owned();
    let context = Context { dialer: dialer.clone(), events: Events(events.clone()), executable };
    let tell = events.clone();
    let told = move |told| _ = tell.send(Event::Group(GroupEvent::Told(told)));
    let secrets = Secrets::begin(&state)?;
    let restart = restart(options);
    let life = Life::begin(state.path(), restart.is_some())?;
    let known = |node: NodeName| secrets.key(&name, &node).map(|(key, run)| Order::Know { node, key, run });
    let known = plan.partners(&name).into_iter().filter_map(known);
    let failover = Failover::start(&name, secrets.run(), &listens, book.clone(), known, life.beats(), told)?;
    let (forks, left_over) = Forks::load(&state)?;
    crate::forks::remove(&events, left_over);
    let node = Node {
        forks,
        replaced: Replaced::load(&state)?,
        tell_replaced_at: Instant::now(),
        groups: Groups::new(failover, secrets, restart.is_some()),
        life,
        teller: Arc::new(Teller::new(name.clone(), state.file("snmp-engine"))),
        metrics: Metrics::new(events.clone()),
        is_running: false,
        plane: data::new(context),
        name,
        keys,
        tell_at: rotation.is_some().then(Instant::now),
        rotation,
        listens,
        peers,
        book,
        invites,
        plan,
        dialer,
        events,
        ops: Vec::new(),
        commands: 0,
        reserved: BTreeSet::new(),
        unstarted: BTreeMap::new(),
        retry_at: Instant::now(),
        untold: BTreeMap::new(),
        meant: Meant { run: stead_capture::new_incarnation(), number: 0 },
        heard: BTreeMap::new(),
        pulse: Pulse::begin(&state),
        state,
    };
    let (socket, state) = (node.state.file(SOCKET), node.state.path().to_path_buf());
    watchdog::daemon_began(&state, restart.as_ref())?;
    node.run(&received);
    watchdog::daemon_ended(&state)?;
    drop(received);
    clients.finish();
    let _ = std::fs::remove_file(socket);
    Ok(())
}

/// How the watchdog is to start this daemon again. Two that do so would be in each other's way.
fn restart(options: &Options) -> Option<Restart> {
    let hung_after = options.restart?;
    if crate::notify::is_run() {
        warn!("--restart is passed over: systemd runs this daemon, and starts it again");
        return None;
    }
    Some(Restart::of_this(hung_after))
}

fn must_be_root() -> Result<(), Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let why = "it is not run as root, and so cannot mount, nor keep owners and modes";
    Err(Failure::new("the daemon cannot run", why, "Run it as root, as its systemd unit does"))
}

fn load_keys(state: &StateDir) -> Result<(Keyring, Option<Rotation>), Failure> {
    match Rotation::load(state)? {
        Some((rotation, older, newer)) => {
            let keys = Keyring::new(Arc::new(newer));
            keys.set(keys.now(), Some(Arc::new(older)), rotation.untold.clone());
            Ok((keys, Some(rotation)))
        }
        None => Ok((Keyring::new(Arc::new(Identity::load_or_make(state.path())?)), None)),
    }
}

pub(crate) fn load_plan(state: &StateDir) -> Result<Plan, Failure> {
    let file = state.file("plan.toml");
    if !file.exists() {
        return Ok(Plan::default());
    }
    let text = String::from_utf8_lossy(&files::read(&file)?).into_owned();
    Plan::parse(&text).map_err(|e| {
        let remedy = "Correct the file; stead plan apply checks before it writes";
        Failure::new(format!("{} cannot be used", file.display()), e.to_string(), remedy)
    })
}

/// Listens everywhere; returns where.
fn listen(
    options: &Options,
    keys: &Keyring,
    book: &Book,
    events: &SyncSender<Event>,
) -> Result<Vec<SocketAddr>, Failure> {
    let everywhere = [SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT)];
    let wanted = if options.listen.is_empty() { &everywhere[..] } else { &options.listen };
    let mut listens = Vec::new();
    for address in wanted {
        let listener = listen::bind(*address)?;
        if listen::is_elsewhere(address.ip()) {
            warn!("{} is no address of this machine yet: nobody reaches this node there", address.ip());
        }
        listens.push(listener.local_addr().unwrap_or(*address));
        listen::serve(listener, keys, book.clone(), events.clone())?;
    }
    Ok(listens)
}

fn stop_on_signals(events: SyncSender<Event>) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::new("signals cannot be received", e.to_string(), "");
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT]).map_err(failed)?;
    let work = move || {
        for _ in signals.forever() {
            let _ = events.send(Event::Stop);
        }
    };
    std::thread::Builder::new().name("stead-signals".into()).spawn(work).map(drop).map_err(failed)
}
