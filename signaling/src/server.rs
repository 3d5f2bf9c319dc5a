//! How is a signaling server started, served and stopped?

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tracing::field;

use crate::{
    Config, MetricsAccess, Relays, Stun, Timing, TlsError, TlsReload, addresses::Addresses as Book,
    connections::Connections, drain::Drain, guard::Guard, http::Door, ice::IceServers, metrics::Metrics, peer::Rules,
    registry::Registry, relay::Total, stun, ticket::MIN_TICKET_SECRET, tls::Tls, turn::TurnServer,
};

/// The first port that everybody may listen at, where the system does not say otherwise.
const PRIVILEGED: u16 = 1024;

/// A signaling server that has its addresses, and serves nobody yet.
#[derive(Debug)]
pub struct Signaling {
    listener: TcpListener,
    metrics: Option<TcpListener>,
    stun: Option<UdpSocket>,
    turn: Option<TurnServer>,
    tls: Option<Tls>,
    addresses: Addresses,
    door: Door,
}

/// Where a server can be reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) signaling: SocketAddr,
    pub(crate) stun: Option<SocketAddr>,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) tls: bool,
}

/// Why a signaling server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Something else listens there.
    #[error(
        "{address} is in use: stop what listens there (another coplay-signaling or matchbox_server?), or choose another \
         port with --listen"
    )]
    PortInUse {
        /// Where.
        address: SocketAddr,
    },
    /// The address cannot be listened at.
    #[error(
        "cannot listen at {address} ({source}): choose an address of this machine with --listen, such as 0.0.0.0:3536"
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The port is one of those below 1024, which not everybody may listen at.
    #[error(
        "cannot listen at {address} ({source}): ports below 1024 are for root. Let systemd give the right (the unit \
         coplay-signaling.service in signaling/deploy does), or give it to the program, `sudo setcap \
         cap_net_bind_service=+ep FILE` (again after each build), or run it as root; or choose a port from 1024 on"
    )]
    Privileged {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The embedded STUN server cannot listen.
    #[error(
        "cannot answer STUN at {address}/udp ({source}): choose another address with --stun, or do without (--no-stun)"
    )]
    Stun {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Peers could not use this ICE server.
    #[error(
        "{url} is no ICE server that peers could use: write stun:HOST:PORT; a TURN server goes with --turn and a \
         secret, for it is used with credentials only"
    )]
    IceServer {
        /// Which.
        url: String,
    },
    /// This is no TURN server.
    #[error("{url} is no TURN server: write turn:HOST:PORT or turns:HOST:PORT?transport=tcp")]
    TurnUrl {
        /// Which.
        url: String,
    },
    /// A TURN server needs both an address and a secret.
    #[error("TURN needs a URL (--turn) and the secret that the TURN server knows (--turn-secret-file)")]
    TurnSecret,
    /// The embedded TURN server cannot give these ports to relays.
    #[error("{first}-{last} is no range of ports for relays: write FIRST-LAST, such as --turn-ports 61000-61999")]
    TurnPorts {
        /// The first.
        first: u16,
        /// The last.
        last: u16,
    },
    /// Nobody could reach relays at this address.
    #[error(
        "{ip} is no address that peers could reach: give this machine's own on the internet with --turn-external-ip"
    )]
    TurnAddress {
        /// Which.
        ip: IpAddr,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The secret for tickets can be guessed.
    #[error("the secret for tickets is shorter than {MIN_TICKET_SECRET} bytes: make one with openssl rand -hex 32")]
    TicketSecret,
    /// The runtime or its thread cannot be made.
    #[error("cannot start a thread for signaling ({0}): the system may be out of threads or file descriptors")]
    Thread(#[from] io::Error),
}

/// How much of a server is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Rooms with somebody in them.
    pub rooms: usize,
    /// Peers, those included that are just being closed, that lost their connection and may come back, that wait for a match,
    /// or that look at the public list.
    pub peers: usize,
}

impl Signaling {
    /// Takes the addresses of `config`. Must be called within a tokio runtime; see [`Self::spawn`] for elsewhere.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        let Config { limits, timing, .. } = config;
        let listener = bind(config.listen).await?;
        let signaling = listener.local_addr().map_err(|error| refused(config.listen, error))?;
        let metrics = match config.metrics {
            MetricsAccess::At(address) => Some(bind(address).await?),
            _ => None,
        };
        // TURN needs the socket even where peers are not to ask it for their address.
        let embed = config.embedded_turn;
        let asked = if config.stun == Stun::Off && embed.is_some() { Stun::SamePort } else { config.stun };
        let socket = bind_stun(asked, signaling).await?;
        let udp = socket.as_ref().map(UdpSocket::local_addr).transpose()?;
        let turn = embed.zip(udp).map(|(turn, address)| TurnServer::new(turn, address)).transpose()?;
        let counts = Arc::new(Metrics::default());
        let tls = config.tls.map(|files| Tls::new(files, counts.clone())).transpose()?;
        if config.tickets.as_ref().is_some_and(|secret| secret.expose().len() < MIN_TICKET_SECRET) {
            return Err(StartError::TicketSecret);
        }
        let addresses = Addresses {
            signaling,
            stun: udp.filter(|_| config.stun != Stun::Off),
            metrics: metrics.as_ref().map(TcpListener::local_addr).transpose()?,
            tls: tls.is_some(),
        };
        let ice = IceServers::new(addresses.stun.map(|address| address.port()), config.ice_servers, config.turn)?
            .with_relays(turn.as_ref().map(TurnServer::relays));
        let registry = Registry::new(limits, timing, ice, counts.clone());
        let opaque = config.opaque_signals;
        let relay = limits.relay.as_ref().map(|limits| Total::new(limits, Instant::now()));
        let rules = Rules { limits, timing, opaque, stopped: watch::Sender::new(None), relay, metrics: counts };
        let guard = Guard {
            addresses: Arc::new(Book::new(config.address_limits, Instant::now())),
            proxies: config.proxies,
            origins: config.origins,
            tickets: config.tickets,
        };
        let door = Door::new(registry, Arc::new(rules), Arc::new(guard), config.metrics, config.page);
        Ok(Self { listener, metrics, stun: socket, turn, tls, addresses, door })
    }

    /// Where it listens (TCP); the port is the true one where any was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.addresses.signaling
    }

    /// Where the embedded STUN server listens (UDP), if it is on.
    pub fn stun_addr(&self) -> Option<SocketAddr> {
        self.addresses.stun
    }

    /// Where metrics are answered (TCP), if they have an address of their own.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.addresses.metrics
    }

    /// What has the server read its certificate anew, if it speaks TLS. It looks by itself now and then.
    pub fn tls_reload(&self) -> Option<TlsReload> {
        self.tls.as_ref().map(Tls::reload)
    }

    /// A URL at which this machine reaches it.
    pub fn url(&self) -> String {
        self.addresses.url()
    }

    /// Where it listens, and by which URL this machine reaches it, for a person to read:
    /// `0.0.0.0:3536 (all interfaces): ws://127.0.0.1:3536 on this machine`.
    pub fn listening(&self) -> String {
        self.addresses.listening()
    }

    /// The embedded TURN server, if there is one.
    pub fn relays(&self) -> Option<&Relays> {
        self.door.registry.relays()
    }

    /// How much of it is in use.
    pub fn occupancy(&self) -> Occupancy {
        self.door.registry.occupancy()
    }

    /// Everything that it answers, to be served by another HTTP server as well. To have a page served on the same
    /// port by this one, see [`Config::page`](crate::Config::page). Limits by address hold if that server tells who
    /// connected ([`axum::Router::into_make_service_with_connect_info`] with a [`SocketAddr`]).
    pub fn router(&self) -> Router {
        self.door.router()
    }

    /// Serves until `shutdown` comes. Then it lets nobody in any more, `/readyz` says so, and every WebSocket is closed:
    /// with [`RESTART`](crate::close::RESTART) within [`Timing::drain`](crate::Timing::drain), or if that is 0 at once
    /// with [`GOING_AWAY`](crate::close::GOING_AWAY). It returns when they are closed, or
    /// [`Timing::close`](crate::Timing::close) later.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, metrics, stun, turn, tls, addresses, door } = self;
        let [stun_at, metrics_at] = [addresses.stun, addresses.metrics].map(|at| at.map(field::display));
        tracing::info!(
            listen = %addresses.signaling, tls = addresses.tls, stun = stun_at, metrics = metrics_at, "signaling serves"
        );
        if !addresses.signaling.ip().is_loopback() && !door.registry.can_relay() {
            tracing::warn!(
                "no TURN server is configured: two players whose networks let no direct connection through (one pair \
                 in six or so) {}. Relay for them with --turn-embedded, or run coturn with use-auth-secret, and name it \
                 with --turn and --turn-secret-file",
                match door.rules.relay {
                    Some(_) => "are relayed by this server's WebSockets, which is slower",
                    None => "will not reach each other",
                }
            );
        }
        if let Some(ip) = turn.as_ref().and_then(TurnServer::private_address)
            && !ip.is_loopback()
        {
            tracing::warn!(
                "relays have the private address {ip}, by which only two peers that both relay here meet: give the \
                 address that the internet has for this machine with --turn-external-ip"
            );
        }
        let Timing { close, drain, certificates, .. } = door.rules.timing;
        let mut tasks = JoinSet::new();
        match (stun, turn) {
            (Some(socket), Some(turn)) => {
                tasks.spawn(turn.serve(socket));
            }
            (Some(socket), None) => {
                tasks.spawn(stun::serve(socket));
            }
            (None, _) => {}
        }
        if let Some(tls) = &tls {
            tasks.spawn(watch_certificate(tls.reload(), certificates));
        }
        let connections =
            Connections { router: door.router(), rules: door.rules.clone(), guard: door.guard.clone(), tls };
        if let Some(listener) = metrics {
            let connections = Connections { router: door.metrics_router(), tls: None, ..connections.clone() };
            tasks.spawn(async move { connections.accept(&listener).await });
        }
        let mut accepting = Box::pin(connections.accept(&listener));
        tokio::select! {
            () = &mut accepting => (),
            () = shutdown => (),
        }
        door.rules.stopped.send_replace(Some(Drain::new(Instant::now(), drain)));
        // Peers that close their side answer at once; the others are waited for no longer than any peer is.
        let vacated = timeout(drain + close, door.registry.vacated());
        if drain.is_zero() {
            drop(accepting);
            drop(listener);
            let _ = vacated.await;
        } else {
            tracing::info!(peers = door.registry.occupancy().peers, seconds = drain.as_secs_f64(), "signaling drains");
            // Those who ask how it is, or whether they may come in, are answered meanwhile.
            tokio::select! {
                () = accepting => (),
                _ = vacated => (),
            }
        }
    }

    pub(crate) fn door(&self) -> &Door {
        &self.door
    }

    pub(crate) fn addresses(&self) -> Addresses {
        self.addresses
    }
}

impl Addresses {
    pub(crate) fn url(&self) -> String {
        let ip = match self.signaling.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let scheme = if self.tls { "wss" } else { "ws" };
        format!("{scheme}://{}", SocketAddr::new(ip, self.signaling.port()))
    }

    fn listening(&self) -> String {
        let (at, url) = (self.signaling, self.url());
        match at.ip() {
            ip if ip.is_unspecified() => format!("{at} (all interfaces): {url} on this machine"),
            ip if ip.is_loopback() => format!("{at} (this machine only): {url}"),
            _ => format!("{at}: {url}"),
        }
    }
}

fn refused(address: SocketAddr, source: io::Error) -> StartError {
    match source.kind() {
        io::ErrorKind::AddrInUse => StartError::PortInUse { address },
        _ if is_privileged(address, &source) => StartError::Privileged { address, source },
        _ => StartError::Listen { address, source },
    }
}

fn is_privileged(address: SocketAddr, error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && (1..PRIVILEGED).contains(&address.port())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|error| refused(address, error))
}

/// Reads the certificate anew whenever its files change.
async fn watch_certificate(reload: TlsReload, every: Duration) {
    loop {
        sleep(every).await;
        let reload = reload.clone();
        match tokio::task::spawn_blocking(move || reload.reload()).await {
            Ok(Ok(false)) | Err(_) => (),
            Ok(Ok(true)) => tracing::info!("the certificate was read anew"),
            Ok(Err(error)) => tracing::warn!(%error, "the certificate stays as it was"),
        }
    }
}

async fn bind_stun(stun: Stun, signaling: SocketAddr) -> Result<Option<UdpSocket>, StartError> {
    let address = match stun {
        Stun::Off => return Ok(None),
        Stun::At(address) => address,
        Stun::SamePort => match UdpSocket::bind(signaling).await {
            Ok(socket) => return Ok(Some(socket)),
            Err(error) => {
                tracing::warn!(%error, "UDP port {} is taken, STUN takes another", signaling.port());
                SocketAddr::new(signaling.ip(), 0)
            }
        },
    };
    match UdpSocket::bind(address).await {
        Ok(socket) => Ok(Some(socket)),
        Err(source) if is_privileged(address, &source) => Err(StartError::Privileged { address, source }),
        Err(source) => Err(StartError::Stun { address, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(address: &str, tls: bool) -> String {
        let signaling = address.parse().unwrap();
        Addresses { signaling, stun: None, metrics: None, tls }.listening()
    }

    #[test]
    fn it_says_who_can_reach_it_and_how_this_machine_does() {
        assert_eq!(
            listening("0.0.0.0:3536", false),
            "0.0.0.0:3536 (all interfaces): ws://127.0.0.1:3536 on this machine"
        );
        assert_eq!(listening("[::]:443", true), "[::]:443 (all interfaces): wss://[::1]:443 on this machine");
        assert_eq!(listening("127.0.0.1:3536", false), "127.0.0.1:3536 (this machine only): ws://127.0.0.1:3536");
        assert_eq!(listening("192.0.2.1:4443", true), "192.0.2.1:4443: wss://192.0.2.1:4443");
    }

    #[test]
    fn what_to_do_about_a_port_depends_on_what_is_wrong_with_it() {
        let said = |address: &str, kind: io::ErrorKind| refused(address.parse().unwrap(), kind.into()).to_string();
        let privileged = said("0.0.0.0:443", io::ErrorKind::PermissionDenied);
        for what in ["0.0.0.0:443", "root", "setcap cap_net_bind_service=+ep", "coplay-signaling.service"] {
            assert!(privileged.contains(what), "{what}: {privileged}");
        }
        assert!(!privileged.contains("address of this machine"), "{privileged}");
        for (address, kind, what) in [
            ("0.0.0.0:443", io::ErrorKind::AddrInUse, "is in use"),
            ("192.0.2.1:443", io::ErrorKind::AddrNotAvailable, "an address of this machine"),
            ("0.0.0.0:3536", io::ErrorKind::PermissionDenied, "an address of this machine"),
        ] {
            let error = said(address, kind);
            assert!(error.contains(what) && !error.contains("setcap"), "{address}: {error}");
        }
    }
}
