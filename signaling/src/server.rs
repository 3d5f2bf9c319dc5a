//! How is a signaling server started, served and stopped?

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tower_service::Service;

use crate::{Config, Limits, Stun, Timing, http::Door, ice::IceServers, peer::Rules, registry::Registry, stun};

/// The largest head of an HTTP request, in bytes; browsers send the cookies of every page of a host along.
const HTTP_BUFFER: usize = 16 * 1024;
/// Waited when no connection can be accepted because the process has no file descriptors left, say.
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(100);

/// A signaling server that has its addresses, and serves nobody yet.
#[derive(Debug)]
pub struct Signaling {
    listener: TcpListener,
    stun: Option<UdpSocket>,
    addresses: Addresses,
    door: Door,
}

/// Where a server can be reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) signaling: SocketAddr,
    pub(crate) stun: Option<SocketAddr>,
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
        let Config { listen, stun, ice_servers, turn, page, limits, timing } = config;
        let listener = TcpListener::bind(listen).await.map_err(|error| refused(listen, error))?;
        let signaling = listener.local_addr().map_err(|error| refused(listen, error))?;
        let stun = bind_stun(stun, signaling).await?;
        let stun_address = stun.as_ref().map(UdpSocket::local_addr).transpose()?;
        let ice = IceServers::new(stun_address.map(|address| address.port()), ice_servers, turn)?;
        let door = door(limits, timing, ice, page);
        Ok(Self { listener, stun, addresses: Addresses { signaling, stun: stun_address }, door })
    }

    /// Where it listens (TCP); the port is the true one where any was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.addresses.signaling
    }

    /// Where the embedded STUN server listens (UDP), if it is on.
    pub fn stun_addr(&self) -> Option<SocketAddr> {
        self.addresses.stun
    }

    /// A URL at which this machine reaches it.
    pub fn url(&self) -> String {
        self.addresses.url()
    }

    /// How much of it is in use.
    pub fn occupancy(&self) -> Occupancy {
        self.door.registry.occupancy()
    }

    /// Everything that it answers, to be served by another HTTP server as well. To have a page served on the same
    /// port by this one, see [`Config::page`](crate::Config::page).
    pub fn router(&self) -> Router {
        self.door.router()
    }

    /// Serves until `shutdown` comes. Then it accepts no more, closes every WebSocket with
    /// [`GOING_AWAY`](crate::close::GOING_AWAY), and returns when they are closed, or after
    /// [`Timing::close`](crate::Timing::close).
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, stun, addresses, door } = self;
        tracing::info!(at = %addresses.signaling, stun = ?addresses.stun, "signaling serves");
        if !addresses.signaling.ip().is_loopback() && !door.registry.can_relay() {
            tracing::warn!(
                "no TURN server is configured: two players whose networks let no direct connection through (one pair \
                 in six or so) will not reach each other. Run coturn with use-auth-secret, and name it with --turn \
                 and --turn-secret-file"
            );
        }
        let mut tasks = JoinSet::new();
        if let Some(socket) = stun {
            tasks.spawn(stun::serve(socket));
        }
        tokio::select! {
            () = accept(&listener, &door) => (),
            () = shutdown => (),
        }
        drop(listener);
        door.rules.stopped.send_replace(true);
        // Peers that close their side answer at once; the others are waited for no longer than any peer is.
        let _ = timeout(door.rules.timing.close, door.registry.vacated()).await;
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
        format!("ws://{}", SocketAddr::new(ip, self.signaling.port()))
    }
}

fn refused(address: SocketAddr, source: io::Error) -> StartError {
    match source.kind() {
        io::ErrorKind::AddrInUse => StartError::PortInUse { address },
        _ => StartError::Listen { address, source },
    }
}

fn door(limits: Limits, timing: Timing, ice: IceServers, page: Option<Router>) -> Door {
    let rules = Rules { limits, timing, stopped: watch::Sender::new(false) };
    Door::new(Registry::new(limits, timing, ice), Arc::new(rules), page)
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
        Err(source) => Err(StartError::Stun { address, source }),
    }
}

/// Takes connections, forever. They end with this, unless they have become a WebSocket each.
async fn accept(listener: &TcpListener, door: &Door) {
    let router = door.router();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => (),
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) if open(&mut connections) < door.rules.limits.connections as usize => {
                    let _ = stream.set_nodelay(true);
                    connections.spawn(connection(stream, from, router.clone(), door.rules.timing.request));
                }
                Ok((_, from)) => tracing::debug!(%from, "too many connections"),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(AFTER_ACCEPT_ERROR).await;
                }
            },
        }
    }
}

/// How many connections are open. Those that have ended count no more, whether that was noticed before or not.
fn open(connections: &mut JoinSet<()>) -> usize {
    while connections.try_join_next().is_some() {}
    connections.len()
}

/// Serves one connection. `axum::serve` would do, but sets no time for the head of a request.
async fn connection(stream: TcpStream, from: SocketAddr, router: Router, head: Duration) {
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(from));
        router.clone().call(request.map(Body::new))
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .max_buf_size(HTTP_BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = serving.await {
        tracing::debug!(%from, %error, "a connection ended");
    }
}
