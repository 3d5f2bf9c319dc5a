//! How do peers that are not connected yet exchange the signals that connect them?

use bytes::Bytes;
use coplay_proto::signal::{ClientMessage, ServerMessage, SignalError, lobby::Credentials};

use crate::{MaybeSend, Waker};

/// A connection to signaling. It only carries messages: what to dial, when again, and what to answer is the
/// switchboard's, which is the same on every platform. Dropping it closes the connection.
pub trait Signaller: MaybeSend {
    /// Connects, after closing what was open. [`SignallerEvent::Opened`] or [`SignallerEvent::Down`] follows.
    fn dial(&mut self, dial: Dial);

    /// Closes what is open, if anything is; [`SignallerEvent::Down`] need not follow. Called where signaling lets us in as
    /// somebody else. By default nothing is done, and signaling believes in a peer that is not there.
    fn hang_up(&mut self) {}

    /// Sends a message, or drops it where there is no connection.
    fn send(&mut self, message: ClientMessage);

    /// Sends a frame of [`coplay_proto::signal::relay`], or drops it: where there is no connection, where more waits than
    /// may, or where nothing is relayed.
    fn relay(&mut self, frame: Bytes) {
        let _ = frame;
    }

    /// The next thing that happened, or `None` when there is nothing more for now.
    fn poll(&mut self) -> Option<SignallerEvent>;

    /// Has `waker` called whenever [`Self::poll`] has something new, and at once if it has now.
    fn set_waker(&mut self, waker: Waker);
}

/// What to connect with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// How the server is spoken with.
    pub dialect: Dialect,
    /// Where, if not at [`SocketConfig::url`](crate::SocketConfig::url): the room that is to be entered again. For who
    /// connects by a URL.
    pub url: Option<String>,
    /// What to offer as [`Credentials::subprotocols`], with [`Dialect::Coplay`].
    pub credentials: Credentials,
}

impl From<Dialect> for Dial {
    fn from(dialect: Dialect) -> Self {
        Self { dialect, url: None, credentials: Credentials::default() }
    }
}

impl Dial {
    /// The WebSocket subprotocols to offer.
    pub fn subprotocols(&self) -> Vec<String> {
        match self.dialect {
            Dialect::Coplay => self.credentials.subprotocols(),
            Dialect::Matchbox => Vec::new(),
        }
    }
}

/// How a signaling server is spoken with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Ours, by the WebSocket subprotocol [`coplay_proto::signal::SUBPROTOCOL`].
    Coplay,
    /// That of a stock `matchbox_server`, without a subprotocol.
    Matchbox,
}

/// What happens to a signaller.
#[derive(Clone, Debug, PartialEq)]
pub enum SignallerEvent {
    /// Connected. A server that does not speak our dialect may be accepted as it is: what it says first tells.
    Opened,
    /// The server says something.
    Message(ServerMessage),
    /// A frame of another peer came, as the server relays them.
    Relayed(Bytes),
    /// Could not connect, or is connected no more. Nothing happens until it is dialled again.
    Down(Down),
}

/// Why there is no connection to signaling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Down {
    /// The server is there, and does not speak the dialect.
    WrongDialect,
    /// The server said why it will not have this peer.
    Refused(SignalError),
    /// The connection could not be made or was lost, and the dialect is not why.
    Lost(String),
    /// The same, where the dialect may be why: a browser does not tell.
    Unknown(String),
}
