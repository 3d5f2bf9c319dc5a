//! What can be done with the connections to the peers of a room, whatever they are made of?

use std::{fmt, net::IpAddr, ops::RangeInclusive, time::Duration};

use bytes::Bytes;
use coplay_proto::{
    Lane, PeerId,
    link::CloseReason,
    signal::{
        IceServer, Leader, SignalError,
        lobby::{Lobby, MatchStatus, Password, QuickMatch, RoomCommand, Ticket},
    },
};

use crate::Dialect;

/// The most bytes of one datagram on the unreliable lane: what fits every path's MTU below DTLS and SCTP.
pub const MAX_UNRELIABLE: usize = coplay_proto::link::MAX_DATAGRAM;
/// The most bytes of one datagram on the reliable lane: what every WebRTC implementation passes on in one piece.
pub const MAX_RELIABLE: usize = 16 * 1024;

/// Connections to the peers of one room. Nothing here blocks; dropping it closes every connection.
pub trait Socket: MaybeSend {
    /// The next thing that happened, or `None` when there is nothing more for now.
    ///
    /// `now` is the time for sockets in memory; the others have a clock of their own.
    fn poll(&mut self, now: Duration) -> Option<SocketEvent>;

    /// Sends a datagram to a peer that was [`SocketEvent::Opened`].
    ///
    /// # Errors
    /// Nothing was sent: see [`SendError`]. On the unreliable lane [`SendError::Full`] is a loss like any other; on
    /// the reliable lane the caller keeps the bytes and tries again later.
    fn send(&mut self, peer: PeerId, lane: Lane, bytes: Bytes) -> Result<(), SendError>;

    /// About how many bytes wait on the reliable lane for the transport to take them, which it does as fast as it gets rid
    /// of those before. Who sends much holds back while it is much, and so leaves room for what matters more. 0 where
    /// that is not known: then [`SendError::Full`] is what there is.
    fn buffered(&self, peer: PeerId) -> usize {
        let _ = peer;
        0
    }

    /// Closes the connection to one peer, or gives up making it. [`SocketEvent::Closed`] follows on both sides.
    fn disconnect(&mut self, peer: PeerId);

    /// Says that nothing is heard of a peer that is open, or that it is heard again: only who sends and awaits datagrams
    /// all the time can know. As long as it is silent, another connection to it is looked for, where both sides are ours
    /// and there is signaling ([`SocketConfig::mend`]); [`SocketEvent::Mended`] tells when there is one. How long that may
    /// take is the caller's to say, by [`Self::disconnect`]. Sockets that cannot do nothing.
    fn silence(&mut self, peer: PeerId, silent: bool) {
        let _ = (peer, silent);
    }

    /// Has signaling do something with the room, as its leader may. [`RoomEvent`]s tell what came of it. Who removes a peer
    /// says goodbye to it by [`Self::disconnect`] as well. A socket without signaling does nothing.
    fn room_command(&mut self, command: RoomCommand) {
        let _ = command;
    }

    /// How the peer is reached; `None` until that is known.
    fn path(&self, peer: PeerId) -> Option<Path>;

    /// When [`Self::poll`] has something by the passing of time alone, for which no waker is called: what is on its way
    /// in memory. `None` for the others.
    fn deadline(&self) -> Option<Duration> {
        None
    }

    /// Has `waker` called whenever [`Self::poll`] has something new, and at once if it has now. It may also be called when
    /// a lane that was full takes more.
    ///
    /// It may be called from any thread (native), or from within an event of the browser (web); never from within
    /// a call of this trait but this one. A socket in memory calls it when another sends.
    fn set_waker(&mut self, waker: Waker);
}

impl<S: Socket + ?Sized> Socket for Box<S> {
    fn poll(&mut self, now: Duration) -> Option<SocketEvent> {
        (**self).poll(now)
    }

    fn send(&mut self, peer: PeerId, lane: Lane, bytes: Bytes) -> Result<(), SendError> {
        (**self).send(peer, lane, bytes)
    }

    fn buffered(&self, peer: PeerId) -> usize {
        (**self).buffered(peer)
    }

    fn disconnect(&mut self, peer: PeerId) {
        (**self).disconnect(peer);
    }

    fn silence(&mut self, peer: PeerId, silent: bool) {
        (**self).silence(peer, silent);
    }

    fn room_command(&mut self, command: RoomCommand) {
        (**self).room_command(command);
    }

    fn path(&self, peer: PeerId) -> Option<Path> {
        (**self).path(peer)
    }

    fn deadline(&self) -> Option<Duration> {
        (**self).deadline()
    }

    fn set_waker(&mut self, waker: Waker) {
        (**self).set_waker(waker);
    }
}

/// What happens to a socket.
#[derive(Clone, Debug, PartialEq)]
pub enum SocketEvent {
    /// The room is entered. Comes again, with another id, if signaling was lost, has no way to know us again, and no peer is
    /// connected.
    Entered(Entered),
    /// The room has another leader.
    Leader(Leader),
    /// What signaling says about the room, or on the way to one.
    Room(RoomEvent),
    /// Both lanes to the peer are open.
    Opened(PeerId),
    /// The connection to the peer was silent or lost, and another has taken its place: after [`Socket::silence`] on one of
    /// the two sides, or where it could be seen to be lost. What was sent before and has not come by now never does, also on
    /// the reliable lane: that begins anew. It is so for both sides, and each side's first datagram after it is the other's
    /// first.
    Mended(PeerId),
    /// A datagram came. Never before [`Self::Opened`] nor after [`Self::Closed`].
    Received(PeerId, Lane, Bytes),
    /// The connection is over, or could not be made (then there was no [`Self::Opened`]).
    Closed(PeerId, CloseReason),
    /// The connection to signaling changed. Open connections to peers live on without it.
    Signaling(SignalingState),
    /// The room cannot be entered. Nothing more is tried.
    Failed(SocketError),
}

/// What signaling says about a room, besides who is in it.
#[derive(Clone, Debug, PartialEq)]
pub enum RoomEvent {
    /// The room's settings: after it was entered, and whenever its leader changed them.
    Settings(Box<Lobby>),
    /// The leader, which is not this peer, removed that one. If there was a connection to it, it is closed.
    Kicked(PeerId),
    /// A command to the room was not done.
    Denied(SignalError),
    /// A command was not sent, for signaling is not there now: try again when it is.
    Unsent(RoomCommand),
    /// How many wait for a quick match. [`SocketEvent::Entered`] follows when there are enough.
    Waiting(MatchStatus),
    /// Signaling was lost and is there again, and this peer is who it was: in the seat that it had, or in the room made
    /// anew.
    Resumed,
}

/// The room, as signaling describes it to who enters.
#[derive(Clone, Debug, PartialEq)]
pub struct Entered {
    /// The id that signaling gave to this peer.
    pub me: PeerId,
    /// The room's name, which is also the code to join it by.
    pub room: String,
    /// Who leads; `None` where signaling does not say (a stock `matchbox_server`).
    pub leader: Option<Leader>,
    /// Who is there, this peer included, in the order of arrival; this peer alone where signaling does not say.
    pub members: Vec<PeerId>,
}

/// How the connection to signaling is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignalingState {
    /// Being made.
    Connecting,
    /// There.
    Connected,
    /// Not there: could not be made, or was lost.
    Lost {
        /// Why, for a person to read.
        reason: String,
    },
}

/// Why a room cannot be entered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SocketError {
    /// The signaling server said no.
    #[error(transparent)]
    Refused(#[from] SignalError),
    /// The signaling server cannot be reached.
    #[error(
        "no signaling server answers at {url} ({reason}): check the address, or start one, in coplay's folder by \
         `cargo run -p coplay_signaling`"
    )]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// What the last attempt ended with.
        reason: String,
    },
    /// That is no address of a signaling server.
    #[error("{url} is no address of a signaling server: write ws://{host}, or wss:// where the server speaks TLS")]
    Address {
        /// What was written.
        url: String,
        /// The host in it, with its port, or what to write there.
        host: String,
    },
    /// The transport cannot do what a setting asks for: see [`Transport`].
    #[error(
        "the {transport} transport cannot honour `{setting}`: leave that at its default, or choose another transport"
    )]
    Unsupported {
        /// The field of [`SocketConfig`].
        setting: &'static str,
        /// What was chosen.
        transport: Transport,
    },
    /// WebRTC does not run here.
    #[error("WebRTC cannot be started: {reason}")]
    Unavailable {
        /// What is missing.
        reason: String,
    },
}

/// Why a datagram was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no open connection to this peer.
    #[error("there is no open connection to this peer: wait until it is opened")]
    UnknownPeer,
    /// Too much waits to be sent to this peer.
    #[error("too much waits to be sent to this peer: send less, or try again later")]
    Full,
    /// More than [`MAX_UNRELIABLE`] or [`MAX_RELIABLE`] bytes.
    #[error("the datagram has {bytes} bytes and the lane takes {most}: split it")]
    TooLarge {
        /// How many it has.
        bytes: usize,
        /// How many the lane takes.
        most: usize,
    },
}

impl SendError {
    /// Refuses what is too large for the lane.
    pub(crate) fn check(lane: Lane, bytes: usize) -> Result<(), Self> {
        let most = match lane {
            Lane::Unreliable => MAX_UNRELIABLE,
            Lane::Reliable => MAX_RELIABLE,
        };
        if bytes > most { Err(Self::TooLarge { bytes, most }) } else { Ok(()) }
    }
}

/// How a peer is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The kind of the pair of candidates in use: that of the less direct of the two.
    pub kind: PathKind,
    /// This side's address, for a person to read: `udp 192.0.2.7:5000 host`.
    pub local: String,
    /// The peer's.
    pub remote: String,
    /// Round trip by ICE's checks, if it has measured one.
    pub rtt: Option<Duration>,
    /// Bytes of datagrams sent to the peer so far.
    pub bytes_sent: u64,
    /// Bytes of datagrams received from the peer so far.
    pub bytes_received: u64,
}

/// How direct a path is, from direct to not at all (RFC 8445, section 5.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathKind {
    /// Within this process.
    Memory,
    /// By an address of the machine itself.
    Host,
    /// By an address that a STUN server saw.
    ServerReflexive,
    /// By an address that the other peer saw.
    PeerReflexive,
    /// By a TURN server.
    Relay,
    /// By the signaling server, sealed from end to end.
    WebSocket,
}

impl fmt::Display for PathKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Host => "host",
            Self::ServerReflexive => "server-reflexive",
            Self::PeerReflexive => "peer-reflexive",
            Self::Relay => "relay",
            Self::WebSocket => "websocket",
        })
    }
}

/// Which candidates may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IceTransportPolicy {
    /// All.
    #[default]
    All,
    /// Only those of TURN servers: peers do not learn each other's addresses.
    Relay,
}

/// What makes the connections to peers. All are the same on the wire, and to the game: peers of one room may differ in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transport {
    /// Our own: ICE, DTLS and SCTP under a driver of ours on native, the browser's connections on the web.
    #[default]
    WebRtc,
    /// `matchbox_socket` 0.15, with the cargo feature `matchbox`. Everything but the connections is as with
    /// [`Self::WebRtc`]: signaling and its dialects, ICE servers, attempts, leaders, host rooms. It cannot honour
    /// [`SocketConfig::ice_transport_policy`], [`udp_ports`](SocketConfig::udp_ports) and
    /// [`external_ips`](SocketConfig::external_ips), which is [`SocketError::Unsupported`]; `docs/MATCHBOX.md` has what
    /// else is different.
    #[cfg(feature = "matchbox")]
    Matchbox,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WebRtc => "webrtc",
            #[cfg(feature = "matchbox")]
            Self::Matchbox => "matchbox",
        })
    }
}

/// Whether peers may be connected by the signaling server, where WebRTC does not connect them.
///
/// It takes as much as any relay in the middle, and is a TCP connection: what is lost on it holds up what comes after. But it
/// gets through where nothing else does. What goes by it is sealed from end to end: see `docs/SIGNALING.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RelayPolicy {
    /// If there is no other way, and until there is one.
    #[default]
    Allowed,
    /// Not at all.
    Never,
    /// Nothing else: WebRTC is not tried. For tests, and for networks where it cannot work.
    Only,
}

/// The settings of a WebRTC socket.
#[derive(Clone, Debug)]
pub struct SocketConfig {
    /// The room's URL, complete with its query: see [`coplay_proto::signal`]. `ws:` or `wss:`; `http:` and `https:` stand
    /// for them, and anything else is [`SocketError::Address`].
    pub url: String,
    /// What makes the connections. Default our own.
    pub transport: Transport,
    /// How the signaling server is spoken with; `None` finds out. Default `None`.
    pub dialect: Option<Dialect>,
    /// The room's password, at most [`coplay_proto::signal::lobby::MAX_PASSWORD`] bytes: set where the room is made. It is
    /// not part of the URL, which proxies write down. Default none.
    pub password: Option<Password>,
    /// The ticket for a signaling server that asks for one, as the game's own server handed it out when the player logged
    /// in; at most [`coplay_proto::signal::lobby::MAX_TICKET`] bytes. It is not part of the URL either. A quick match takes
    /// one for any room. With [`Dialect::Matchbox`] it is not shown: have `?ticket=` in the URL. Default none.
    pub ticket: Option<Ticket>,
    /// Whether signaling is to keep the seat for a while when the connection to it is lost. Default yes.
    pub resume: bool,
    /// How often the signaling server is tried at first. Default 5 (about 8 s where nobody listens), at least 1.
    pub signaling_attempts: u32,
    /// STUN and TURN servers, besides those that signaling names. Default none.
    pub ice_servers: Vec<IceServer>,
    /// Which candidates may be used. Default all.
    pub ice_transport_policy: IceTransportPolicy,
    /// The UDP ports to connect by, for a firewall that lets only some through: the first that is free is that of all
    /// peers, so one is enough; more are for several games on one machine. If none is free, peers are not connected, and
    /// the reason says so. TURN servers are asked from any port. Default any, other ones for each peer. Not in the browser,
    /// which chooses for itself.
    pub udp_ports: Option<RangeInclusive<u16>>,
    /// The addresses by which the internet reaches this machine, where a NAT in between passes the same ports on: a
    /// cloud's 1:1 NAT, or ports forwarded by a router (then with [`Self::udp_ports`]). Peers are told of them besides
    /// this machine's own. Default none. Not in the browser.
    pub external_ips: Vec<IpAddr>,
    /// How long an attempt to connect with a peer waits for an answer, and once there is a path, until it is open. Default
    /// 3.5 s. For a path it looks as long as all attempts together may take, so that with two of them both sides know within
    /// 8 s.
    pub handshake_timeout: Duration,
    /// How often to try to connect with a peer. Default 2, at least 1. Where ICE has found a path, so that only loss can
    /// be to blame, two attempts more are made.
    pub handshake_attempts: u32,
    /// Whether a connection that falls silent or is lost is replaced by another, so that a link lives through a change of
    /// networks: see [`Socket::silence`]. Default yes. It is for [`Transport::WebRtc`].
    pub mend: bool,
    /// Whether peers may be connected by the signaling server. It must relay, and the peer must allow it, too.
    pub relay: RelayPolicy,
    /// How long WebRTC may take before the relay is tried, if it has not failed before. Default 8 s.
    pub relay_after: Duration,
    /// How long after a relay opened WebRTC is tried again; each pause is twice as long as the one before, to 5 minutes.
    /// Default 15 s.
    pub relay_retry: Duration,
}

impl SocketConfig {
    /// The defaults, for the room with this URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    /// For a quick match at a signaling server such as `ws://HOST:PORT`. To wait no more, drop the socket.
    pub fn quick_match(server: &str, wanted: &QuickMatch) -> Self {
        Self::new(wanted.url(server))
    }

    /// How long a path to a peer is looked for.
    pub(crate) fn search_time(&self) -> Duration {
        self.handshake_timeout * self.handshake_attempts.max(1)
    }

    /// Whether connections are replaced.
    pub(crate) fn mends(&self) -> bool {
        self.mend && self.transport == Transport::WebRtc
    }

    /// Whether the transport can do what the settings ask for.
    pub(crate) fn check(&self) -> Result<(), SocketError> {
        let unsupported: &[(bool, &'static str)] = match self.transport {
            Transport::WebRtc => &[],
            #[cfg(feature = "matchbox")]
            Transport::Matchbox => &[
                (self.ice_transport_policy == IceTransportPolicy::Relay, "ice_transport_policy"),
                // The browser passes over these, with any transport.
                (cfg!(not(target_arch = "wasm32")) && self.udp_ports.is_some(), "udp_ports"),
                (cfg!(not(target_arch = "wasm32")) && !self.external_ips.is_empty(), "external_ips"),
            ],
        };
        match unsupported.iter().find(|(asked, _)| *asked) {
            Some(&(_, setting)) => Err(SocketError::Unsupported { setting, transport: self.transport }),
            None => Ok(()),
        }
    }
}

impl Default for SocketConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            transport: Transport::WebRtc,
            dialect: None,
            password: None,
            ticket: None,
            resume: true,
            signaling_attempts: 5,
            ice_servers: Vec::new(),
            ice_transport_policy: IceTransportPolicy::All,
            udp_ports: None,
            external_ips: Vec::new(),
            handshake_timeout: Duration::from_millis(3500),
            handshake_attempts: 2,
            mend: true,
            relay: RelayPolicy::Allowed,
            relay_after: Duration::from_secs(8),
            relay_retry: Duration::from_secs(15),
        }
    }
}

/// `Send` on native, where a socket is used on another thread; anything in the browser, which has one.
#[cfg(not(target_arch = "wasm32"))]
pub trait MaybeSend: Send {}
#[cfg(not(target_arch = "wasm32"))]
impl<T: Send + ?Sized> MaybeSend for T {}
/// `Send` on native, where a socket is used on another thread; anything in the browser, which has one.
#[cfg(target_arch = "wasm32")]
pub trait MaybeSend {}
#[cfg(target_arch = "wasm32")]
impl<T: ?Sized> MaybeSend for T {}

/// What is called when there is something to poll.
#[cfg(not(target_arch = "wasm32"))]
pub type Waker = std::sync::Arc<dyn Fn() + Send + Sync>;
/// What is called when there is something to poll.
#[cfg(target_arch = "wasm32")]
pub type Waker = std::rc::Rc<dyn Fn()>;
