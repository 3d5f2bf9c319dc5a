//! What a peer and the signaling server say to each other: JSON over WebSocket.
//!
//! The shared part is the wire of `matchbox_protocol` 0.15, letter for letter, so that an unmodified
//! `matchbox_socket` can meet our peers. What is ours rides the same endpoint and is said only to a peer that asked
//! for the WebSocket subprotocol [`SUBPROTOCOL`].
//!
//! A room is joined by its URL: `ws://HOST/ROOM` with the query parameters of [`query`]. `ws://HOST/` with
//! [`SUBPROTOCOL`] makes a new room; its code comes in the [`Welcome`]. A code is a room's name, so that whoever
//! knows it joins by `ws://HOST/CODE`.

use serde::{Deserialize, Serialize};

use crate::{PeerId, Term, Topology};

use self::{
    lobby::{Lobby, LobbyFilter, LobbyNews, LobbyPage, LobbyQuery, MatchStatus, RoomCommand},
    relay::RelayOffer,
};

pub mod lobby;
pub mod relay;

/// The WebSocket subprotocol of coplay's extension (RFC 6455, section 1.9).
pub const SUBPROTOCOL: &str = "coplay.v1";

/// Names of the query parameters of a room's URL. All are optional.
pub mod query {
    /// `next=N`: meet in groups of N, in the order of arrival (as in `matchbox_server`). 2 or more.
    pub const NEXT: &str = "next";
    /// `topology=host|mesh`: whom the members of the room are to be connected with: the leader, or everyone.
    /// The first to come decides; who comes later with another one is refused. Default: mesh.
    pub const TOPOLOGY: &str = "topology";
    /// `max=N`: how many peers the room takes. The first to come decides. 1 or more.
    pub const MAX: &str = "max";
    /// `existing=1`: join the room only if it is there (joining by code).
    pub const EXISTING: &str = "existing";
    /// `ticket=EXPIRY-MAC`: that the peer may join, said by whoever knows the server's ticket secret. For servers that
    /// ask for one. Proxies write URLs down: peers with the subprotocol better show it as
    /// [`Credentials::ticket`](super::lobby::Credentials::ticket).
    pub const TICKET: &str = "ticket";
    /// `public=1`: who makes the room puts it into the public list.
    pub const PUBLIC: &str = "public";
    /// `game=NAME`: which game is played; at most [`MAX_GAME`](super::lobby::MAX_GAME) bytes.
    pub const GAME: &str = "game";
    /// `version=V`: of which version; at most [`MAX_VERSION`](super::lobby::MAX_VERSION) bytes.
    pub const VERSION: &str = "version";
    /// `meta.KEY=VALUE`: an entry of the room's [`Metadata`](super::lobby::Metadata).
    pub const META: &str = "meta.";
    /// `size=N`, at [`path::MATCH`](super::path::MATCH): how many are to play. 2 or more.
    pub const SIZE: &str = "size";
}

/// What a server has besides rooms. No room has such a name: none has a `/`.
pub mod path {
    /// The public list, by [`Watch`](super::ClientMessage::Watch) and [`List`](super::ClientMessage::List).
    pub const LOBBIES: &str = "/-/lobbies";
    /// The queue for a [`QuickMatch`](super::lobby::QuickMatch).
    pub const MATCH: &str = "/-/match";
}

/// From a peer to the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ClientMessage {
    /// To be passed on to another peer of the room.
    Signal {
        /// For whom.
        receiver: PeerId,
        /// What.
        data: Signal,
    },
    /// Nothing; the peer is there. Due every [`KEEP_ALIVE`].
    KeepAlive,
    /// Ours: how connecting to another peer went. Only to a server that spoke of our subprotocol.
    Report(Report),
    /// Ours, in a room: what its leader wants of it.
    Room(RoomCommand),
    /// Ours, at [`path::LOBBIES`]: tell me of these lobbies from now on, in place of those I asked for before.
    Watch(LobbyFilter),
    /// Ours, at [`path::LOBBIES`]: a page of the list.
    List(LobbyQuery),
    /// Ours, at [`path::MATCH`]: I wait no more. To close the WebSocket says the same.
    Cancel,
}

/// How connecting to another peer went, which the server counts and tells nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// It is connected, over this kind of path.
    Path(ReportedPath),
    /// It could not be. Why: one of [`FAILURES`]; anything else counts as `other`.
    Failed(String),
}

/// The codes of [`Report::Failed`]: no answer came; ICE found a path and everything else was lost; only TURN was allowed
/// and there was none; no candidates from this side, or from the other; STUN would have helped, or TURN; the path by TURN
/// fails; only signaling's relay was allowed, and it does not relay for the two.
pub const FAILURES: [&str; 9] = [
    "no_answer",
    "loss",
    "no_relay",
    "no_addresses_here",
    "no_addresses_there",
    "stun_needed",
    "turn_needed",
    "relayed_path_fails",
    "not_relayed",
];

/// What carries a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportedPath {
    /// The peers' own addresses: one machine or one network.
    Host,
    /// Addresses that STUN or the other's checks found: through NATs.
    Srflx,
    /// A TURN server.
    Relay,
    /// The signaling server's WebSocket.
    Websocket,
}

/// A peer says something at least this often: 10 seconds, as `matchbox_socket` does.
pub const KEEP_ALIVE: core::time::Duration = core::time::Duration::from_secs(10);

/// From the server to a peer. A peer ignores what it does not know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ServerMessage {
    /// The peer's own id; comes first, once, to peers without the subprotocol.
    IdAssigned(PeerId),
    /// Another peer came: the receiver of this is to make the offer.
    NewPeer(PeerId),
    /// Another peer is gone from signaling.
    PeerLeft(PeerId),
    /// Passed on from another peer of the room.
    Signal {
        /// From whom, as the server knows it.
        sender: PeerId,
        /// What.
        data: Signal,
    },
    /// Ours: comes first, once, to peers with the subprotocol, instead of [`Self::IdAssigned`].
    Welcome(Box<Welcome>),
    /// Ours: the room has another leader.
    Leader(Leader),
    /// Ours: why the server closes the connection.
    Error(SignalError),
    /// Ours: the leader changed the room's settings.
    Room(Box<Lobby>),
    /// Ours: a [`RoomCommand`] was not done; the connection stays.
    Denied(SignalError),
    /// Ours, to all but the leader: it removed a member. [`Self::PeerLeft`] follows where there is a connection to it, which is to end.
    Kicked(PeerId),
    /// Ours, at [`path::MATCH`]: how many wait. A [`Self::Welcome`] follows when there are enough.
    Waiting(MatchStatus),
    /// Ours, at [`path::LOBBIES`]: the answer to [`ClientMessage::List`].
    Page(LobbyPage),
    /// Ours, at [`path::LOBBIES`]: what is new in what is watched.
    News(LobbyNews),
}

/// What two peers tell each other to get connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    /// An `RTCIceCandidate` as JSON (`toJSON()` in a browser) within a string; `"null"` ends them.
    IceCandidate(String),
    /// An SDP offer.
    Offer(String),
    /// The SDP answer to it.
    Answer(String),
}

/// How a peer that speaks [`SUBPROTOCOL`] is received.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The peer's own id.
    pub me: PeerId,
    /// The room's name, which is also the code to join it by.
    pub room: String,
    /// Whom the room's members are connected with.
    pub topology: Topology,
    /// Who is there, the new peer included, in the order of arrival; a leader that led before the server was started anew,
    /// and leads again, is the first.
    pub members: Vec<PeerId>,
    /// Who leads: at first whoever came first.
    pub leader: Leader,
    /// How many the room takes, if that is limited.
    pub max: Option<u32>,
    /// STUN and TURN servers to use, with credentials where they need some.
    pub ice_servers: Vec<IceServer>,
    /// What brings the peer back to its seat when this connection is lost: see
    /// [`Credentials::resume`](lobby::Credentials::resume). `None` if it did not ask for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<String>,
    /// What proves to any server that the peer had this id: [`Credentials::secret`](lobby::Credentials::secret). `None`
    /// where it came with it, or was told before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The peer came back to its seat: it has the id it had, and nobody was told that it was away. What it missed
    /// follows, but for what was lost with its connection.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub resumed: bool,
    /// The room's settings; `None` in rooms of groups (`next=N`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lobby: Option<Box<Lobby>>,
    /// The server passes on what this peer has for others that it cannot reach directly. `None` if it does not, or the
    /// peer did not ask for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<RelayOffer>,
}

/// Who leads a room, and since which change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    /// The leading peer.
    pub peer: PeerId,
    /// Counted up with each change, from 1.
    pub term: Term,
}

/// A STUN or TURN server (RFC 8489, RFC 8656), as in the browser's `RTCIceServer`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceServer {
    /// For example `stun:stun.example.org:3478`.
    pub urls: Vec<String>,
    /// For TURN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// For TURN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// Why the server refuses something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum SignalError {
    /// The room has as many peers as it takes.
    #[error("the room is full ({max} peers): try another room, or raise its limit where it is made")]
    RoomFull {
        /// How many it takes.
        max: u32,
    },
    /// Nobody made this room.
    #[error("there is no room with the code {code}: check the code, or make a room")]
    NoSuchRoom {
        /// The code that was asked for.
        code: String,
    },
    /// The room was made with another topology.
    #[error("the room is a {room:?} and not a {asked:?} room: use the same topology on every peer")]
    TopologyDiffers {
        /// The room's.
        room: Topology,
        /// The peer's.
        asked: Topology,
    },
    /// What the peer sent is not of this protocol, or too large.
    #[error("signaling did not understand what it was sent: {detail}")]
    Malformed {
        /// What was wrong with it.
        detail: String,
    },
    /// The peer sends more than the server takes.
    #[error("signaling was sent too much at once: wait, then connect again")]
    TooMuch,
    /// The room has a password, and none was given.
    #[error("the room has a password: ask whoever made it, and join with it")]
    PasswordNeeded,
    /// The room has another password.
    #[error("this is not the room's password: check it, and join again")]
    WrongPassword,
    /// Too many wrong passwords.
    #[error("too many wrong passwords: try again in {seconds} s")]
    TooManyAttempts {
        /// How long until the next may be tried.
        seconds: u32,
    },
    /// The room's leader lets nobody in.
    #[error("the room is locked by its leader: ask them to unlock it, or try another room")]
    RoomLocked,
    /// The room's leader removed this peer, or one of the same address.
    #[error("the leader of the room removed this player: try another room, or this one again in {seconds} s")]
    Kicked {
        /// How long until it may come in again.
        seconds: u32,
    },
    /// Only the leader may do this.
    #[error("only the leader of the room may do this: ask them to")]
    NotLeader,
    /// The seat to come back to is no more.
    #[error("the seat in the room was given up, for the connection was lost for too long: join the room again")]
    SeatGone,
    /// The server has no place left.
    #[error("the signaling server is full: try again later, or use another")]
    ServerFull,
    /// The server is about to stop.
    #[error("the signaling server is being restarted: connect again in a few seconds")]
    Stopping,
    /// The server asks for a ticket, and this one does not do, or there is none.
    #[error("signaling lets in who has a ticket: {detail}")]
    TicketRefused {
        /// What is wrong with it.
        detail: String,
    },
    /// A page of another site may not use this server.
    #[error("pages of {origin} may not use this signaling server: its operator names it with --allow-origin")]
    OriginRefused {
        /// The page's scheme, host and port.
        origin: String,
    },
}
