//! One attempt to connect with one peer, from the first order to its end.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use coplay_proto::signal::{IceServer, Signal};
use tokio::{
    net::lookup_host,
    sync::{mpsc, watch},
    task::{JoinSet, spawn_local},
};

use super::{
    driver::{Driver, Found, State},
    engine::Report,
    gather::External,
    inbox::Inbox,
    lanes::Inlets,
    ports::Ports,
    rtc::{connection::Connection, dtls::Identity, relaying::Servers},
    servers::{Server, usable},
};
use crate::{IceTransportPolicy, SocketConfig, switchboard::Attempt};

/// The most URLs of servers that one attempt uses.
const MAX_SERVERS: usize = 8;

/// What the engine wants of an attempt. To stop it, the engine drops the sender.
pub(super) enum Order {
    Describe(Signal),
    Candidate(String),
}

/// What all attempts of a socket share.
pub(super) struct Shared {
    pub(super) config: SocketConfig,
    pub(super) inbox: Inbox,
    pub(super) reports: mpsc::Sender<(Attempt, Report)>,
    pub(super) ports: Arc<Ports>,
    /// By what the peers know this one.
    pub(super) identity: Arc<Identity>,
    /// Whether joining the mDNS group failed once.
    pub(super) no_mdns: AtomicBool,
}

impl Shared {
    pub(super) async fn report(&self, attempt: Attempt, report: Report) {
        let _ = self.reports.send((attempt, report)).await;
    }
}

/// Runs an attempt until it is stopped.
pub(super) async fn run(
    shared: Arc<Shared>,
    attempt: Attempt,
    ice_servers: Arc<[IceServer]>,
    offer: bool,
    inlets: Inlets,
    admitted: watch::Receiver<bool>,
    orders: mpsc::Receiver<Order>,
) {
    let connection = match Connection::new(Instant::now(), shared.identity.clone(), offer) {
        Ok(connection) => connection,
        Err(why) => return shared.report(attempt, Report::Failed(why)).await,
    };
    let sockets = match shared.ports.sockets(connection.ufrag()).await {
        Ok(sockets) => sockets,
        Err(why) => return shared.report(attempt, Report::Failed(why)).await,
    };
    let mut driver = Driver {
        external: External::new(shared.config.external_ips.clone()),
        lookups: look_up(&shared.config, &ice_servers),
        shared: shared.clone(),
        attempt,
        connection,
        sockets,
        servers: Servers::default(),
        inlets,
        admitted,
        state: State::default(),
    };
    // In a task of its own: if one of the machines panics on what the peer sent, it costs this connection and no other.
    let driving = spawn_local(async move {
        if offer {
            driver.offer().await;
        }
        driver.run(orders).await;
    });
    if driving.await.is_err() {
        let why = "WebRTC could not handle what the peer sent".into();
        shared.report(attempt, Report::Refused(why)).await;
    }
}

/// Finds out where the servers are.
fn look_up(config: &SocketConfig, servers: &[IceServer]) -> JoinSet<Found> {
    let relayed = config.ice_transport_policy == IceTransportPolicy::Relay;
    let wanted = |server: &Server| server.udp && (server.relay.is_some() || !relayed);
    let mut lookups = JoinSet::new();
    for server in servers.iter().flat_map(usable).filter(wanted).take(MAX_SERVERS) {
        lookups.spawn_local(async move {
            let addresses = match server.host.parse::<IpAddr>() {
                Ok(ip) => vec![SocketAddr::new(ip, server.port)],
                Err(_) => match lookup_host((server.host.as_str(), server.port)).await {
                    Ok(addresses) => addresses.collect(),
                    Err(error) => {
                        tracing::debug!(host = server.host, %error, "an ICE server is not found");
                        Vec::new()
                    }
                },
            };
            Found::Server(Box::new(server), addresses)
        });
    }
    lookups
}
