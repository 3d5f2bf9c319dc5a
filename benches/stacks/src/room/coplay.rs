//! coplay: `Network`, which runs a link where bytes arrive; its frames of state, and its channel of events.

use bytes::Bytes;
use coplay_proto::{
    Channel, PeerId,
    link::{LinkConfig, LinkEvent},
};
use coplay_socket::{Network, NetworkEvent, RelayPolicy, SocketConfig, now};

use super::{Heard, Peer, Room};

/// In a room.
#[derive(Debug)]
pub struct Coplay(Network);

impl Coplay {
    /// Enters it, for connections by WebRTC alone.
    pub fn meet(url: &str) -> Self {
        let config = SocketConfig { relay: RelayPolicy::Never, ..SocketConfig::new(url) };
        Self(Network::start(coplay_socket::connect(config), LinkConfig::default()))
    }
}

impl Room for Coplay {
    fn poll(&mut self) -> Option<Heard> {
        loop {
            return Some(match self.0.poll()? {
                NetworkEvent::Entered(_) => Heard::Entered,
                NetworkEvent::Link(peer, LinkEvent::Opened) => Heard::Opened(peer.as_u128()),
                NetworkEvent::Link(peer, LinkEvent::State(bytes)) => Heard::Came(peer.as_u128(), bytes),
                NetworkEvent::Link(peer, LinkEvent::Message(_, bytes)) => {
                    self.0.consumed(peer, bytes.len());
                    Heard::Came(peer.as_u128(), bytes)
                }
                NetworkEvent::Link(peer, LinkEvent::Unresponsive) => Heard::Lost(peer.as_u128(), "silent".to_owned()),
                NetworkEvent::Link(peer, LinkEvent::Closed(reason)) => Heard::Lost(peer.as_u128(), reason.to_string()),
                NetworkEvent::Failed(error) => Heard::Failed(error.to_string()),
                _ => continue,
            });
        }
    }

    fn state(&mut self, peer: Peer, bytes: Bytes) {
        self.0.state(PeerId::from_u128(peer), bytes);
    }

    fn event(&mut self, peer: Peer, bytes: Bytes) {
        // One that is refused shows as not delivered.
        let _ = self.0.message(PeerId::from_u128(peer), Channel::Events, bytes);
    }

    fn turn(&mut self) {
        self.0.turn(now());
    }
}
