//! What can a signaling server be told before it starts?

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use axum::Router;
use coplay_proto::signal::IceServer;

use crate::{AddressLimits, EmbeddedTurn, MetricsAccess, Origins, Proxies, RelayLimits, TlsFiles};

/// The port that signaling listens on unless it is told another: that of `matchbox_server`.
pub const DEFAULT_PORT: u16 = 3536;

/// Everything about a signaling server that can be chosen. The default listens on all IPv4 addresses, port
/// [`DEFAULT_PORT`], with the embedded STUN server and without TURN.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen (TCP). Port 0 takes any that is free.
    pub listen: SocketAddr,
    /// The embedded STUN server (UDP).
    pub stun: Stun,
    /// STUN and TURN servers that every peer with coplay's subprotocol is told of, as they are.
    pub ice_servers: Vec<IceServer>,
    /// A TURN server for which each peer gets credentials of its own.
    pub turn: Option<Turn>,
    /// A TURN server within this one. Default none.
    pub embedded_turn: Option<EmbeddedTurn>,
    /// Answers every request that is no WebSocket: the page of a game, say. Without it there are only `/healthz`, `/readyz`
    /// and `/metrics`.
    pub page: Option<Router>,
    /// TLS on the port of signaling, for `wss:` and `https:` without a reverse proxy. Default none.
    pub tls: Option<TlsFiles>,
    /// The pages that may come in. Default all.
    pub origins: Origins,
    /// Which reverse proxies are believed when they say whom they forward for. Default none.
    pub proxies: Proxies,
    /// With what tickets are signed; then only who has one is let in (see [`ticket`](crate::ticket())). Default none.
    pub tickets: Option<Secret>,
    /// Who may read `/metrics`. Default this machine.
    pub metrics: MetricsAccess,
    /// Pass on signals of any form and in any order, for peers that signal in their own way. Default no.
    pub opaque_signals: bool,
    /// How much of everything.
    pub limits: Limits,
    /// How much of it for one address.
    pub address_limits: AddressLimits,
    /// How long everything may take.
    pub timing: Timing,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT)),
            stun: Stun::SamePort,
            ice_servers: Vec::new(),
            turn: None,
            embedded_turn: None,
            page: None,
            tls: None,
            origins: Origins::default(),
            proxies: Proxies::default(),
            tickets: None,
            metrics: MetricsAccess::default(),
            opaque_signals: false,
            limits: Limits::default(),
            address_limits: AddressLimits::default(),
            timing: Timing::default(),
        }
    }
}

impl Config {
    /// For this machine alone, on any free port: tests, demos, a game that brings its own signaling.
    pub fn local() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ..Self::default() }
    }

    /// The same, listening at `address`.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// The same, with `page` answering what is no WebSocket, on the same port.
    #[must_use]
    pub fn page(mut self, page: Router) -> Self {
        self.page = Some(page);
        self
    }

    /// The same, with another STUN server or none.
    #[must_use]
    pub fn stun(mut self, stun: Stun) -> Self {
        self.stun = stun;
        self
    }

    /// The same, telling every peer with coplay's subprotocol of the STUN server at this URL, too: `stun:HOST:PORT`.
    #[must_use]
    pub fn ice_server(mut self, url: impl Into<String>) -> Self {
        self.ice_servers.push(IceServer { urls: vec![url.into()], ..IceServer::default() });
        self
    }

    /// The same, with a TURN server within this one, on the UDP port of the STUN server.
    #[must_use]
    pub fn embedded_turn(mut self, turn: EmbeddedTurn) -> Self {
        self.embedded_turn = Some(turn);
        self
    }
}

/// Where the embedded STUN server listens (UDP).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stun {
    /// At the address and the port number of signaling; at another port if that one is taken.
    #[default]
    SamePort,
    /// At this address. Port 0 takes any that is free.
    At(SocketAddr),
    /// Nowhere.
    Off,
}

/// A TURN server that shares a secret with signaling (coturn: `use-auth-secret`), so that credentials can be made for
/// each peer that last only a while.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Its addresses, for example `turn:turn.example.org:3478` and `turns:turn.example.org:443?transport=tcp`. 1 or more.
    pub urls: Vec<String>,
    /// The secret, as in coturn's `static-auth-secret`.
    pub secret: Secret,
    /// How long credentials last. Default of the binary: 1 hour. An allocation must be made within it, and cannot be
    /// refreshed after it.
    pub ttl: Duration,
}

/// A secret, which `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret, for whoever signs with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for Secret {
    fn from(secret: T) -> Self {
        Self(secret.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// How much of everything a server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Peers at once, in all rooms. Default 20,000. More are told that the server is full.
    pub peers: u32,
    /// Rooms at once; one name with one `next` is one room, whatever the number of its groups. Default 10,000.
    pub rooms: u32,
    /// Peers in a room, or in a group of one, whatever is asked for. Default 64.
    pub room_peers: u32,
    /// Connections at once that are no WebSocket (yet). Default 1,024. More are closed at once.
    pub connections: u32,
    /// Frames that may wait for a peer that reads slowly. Default 1,024; 1 or more. More closes it.
    pub queue_frames: u32,
    /// Bytes that may wait for it. Default 512 KiB. More closes it.
    pub queue_bytes: u32,
    /// What a peer may send at once before it has to keep to [`Self::rate`].
    pub burst: Rate,
    /// What a peer may send each second. More than this and [`Self::burst`] closes it.
    pub rate: Rate,
    /// Rooms in the public list that were made from one address, or from one IPv6 network of 64 bits. Default 64.
    pub address_lobbies: u32,
    /// Connections of one address that look at the public list or wait for a match. Default 256.
    pub address_menus: u32,
    /// What is relayed for pairs of peers that cannot connect; `None` for nothing. Default the defaults.
    pub relay: Option<RelayLimits>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            peers: 20_000,
            rooms: 10_000,
            room_peers: 64,
            connections: 1_024,
            queue_frames: 1_024,
            queue_bytes: 512 * 1024,
            // Who enters a full mesh of 64 answers 63 offers, each with about ten candidates: 700 frames, 300 KiB.
            burst: Rate { frames: 2_048, bytes: 2 * 1024 * 1024 },
            rate: Rate { frames: 64, bytes: 128 * 1024 },
            address_lobbies: 64,
            address_menus: 256,
            relay: Some(RelayLimits::default()),
        }
    }
}

/// An amount of WebSocket frames, and of bytes in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Frames of any kind.
    pub frames: u32,
    /// Bytes in them.
    pub bytes: u32,
}

/// How long a server waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// For a word of a peer, before it is pinged. Default 20 s: twice the interval at which peers say that they are
    /// there, because each ping costs an unmodified `matchbox_socket` a line in its log.
    pub ping_after: Duration,
    /// For a word of a peer, before it is closed. Default 35 s.
    pub close_after: Duration,
    /// For a peer to take one frame. Default 5 s.
    pub write: Duration,
    /// For a TLS handshake, for the head of an HTTP request, and for the next request on a kept connection. Default 10 s.
    pub request: Duration,
    /// For a connection to take any of what is written to it. Default 30 s.
    pub stuck: Duration,
    /// For peers to leave when the server stops: those of idle rooms spread over it, those in the middle of a handshake
    /// at its end at the latest. Default 0: all at once. The binary takes 10 s.
    pub drain: Duration,
    /// From one look at whether the files of TLS changed to the next. Default 60 s.
    pub certificates: Duration,
    /// For a peer to answer the closing of its WebSocket. Default 2 s.
    pub close: Duration,
    /// For a peer whose WebSocket was lost to come back to its seat. Default 10 s.
    pub resume: Duration,
    /// From the start of the server, for a peer that led its room before to say so and lead it again; and from when a
    /// leader says who is to come back to a locked room, for them to do so, if [`Self::resume`] is not longer. Default
    /// 30 s: our sockets dial at least every 10 s.
    pub reclaim: Duration,
    /// For which nobody comes in from the address of a peer that the leader removed. Default 60 s.
    pub kicked: Duration,
    /// For a peer that waits for a match to prove that it is there. Default 2 s.
    pub proof: Duration,
    /// For the seat of one who left a match before it was made an offer, or made one, to be given to the next who wants the
    /// same, from when others of the match were, or from when somebody came last. Until there is an offer it is kept as
    /// long as the room is there. Default 60 s.
    pub backfill: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ping_after: Duration::from_secs(20),
            close_after: Duration::from_secs(35),
            write: Duration::from_secs(5),
            request: Duration::from_secs(10),
            stuck: Duration::from_secs(30),
            drain: Duration::ZERO,
            certificates: Duration::from_secs(60),
            close: Duration::from_secs(2),
            resume: Duration::from_secs(10),
            reclaim: Duration::from_secs(30),
            kicked: Duration::from_secs(60),
            proof: Duration::from_secs(2),
            backfill: Duration::from_secs(60),
        }
    }
}
