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
    /// ask for one.
    pub const TICKET: &str = "ticket";
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
}

/// How connecting to another peer went, which the server counts and tells nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// It is connected, over this kind of path.
    Path(ReportedPath),
    /// It could not be. Why, as a code of 1 to 32 of `A-Z a-z 0-9 - _`; anything else counts as `other`.
    Failed(String),
}

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
    /// Ours: why the server closes the connection, or will not do what was asked.
    Error(SignalError),
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
    /// Who is there, the new peer included, in the order of arrival.
    pub members: Vec<PeerId>,
    /// Who leads: at first whoever came first.
    pub leader: Leader,
    /// How many the room takes, if that is limited.
    pub max: Option<u32>,
    /// STUN and TURN servers to use, with credentials where they need some.
    pub ice_servers: Vec<IceServer>,
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
