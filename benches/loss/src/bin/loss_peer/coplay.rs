//! What coplay's games get: `Network`, which runs a link where bytes arrive, and its channel of events.

use std::collections::VecDeque;

use bytes::Bytes;
use coplay_proto::{
    Channel, PeerId,
    link::{LinkConfig, LinkEvent},
};
use coplay_socket::{Network, NetworkEvent, RelayPolicy, Socket, SocketConfig, now};

use crate::game::{Connection, Way};

pub(crate) struct Coplay {
    network: Network,
    peer: Option<PeerId>,
    received: VecDeque<Bytes>,
}

impl Coplay {
    /// Meets its peer in this room, by WebRTC alone.
    pub(crate) fn meet(room: &str) -> Self {
        let config = SocketConfig { relay: RelayPolicy::Never, ..SocketConfig::new(room) };
        Self::over(coplay_socket::connect(config))
    }

    pub(crate) fn over(socket: Box<dyn Socket>) -> Self {
        let network = Network::start(socket, LinkConfig::default());
        Self { network, peer: None, received: VecDeque::new() }
    }
}

impl Connection for Coplay {
    fn begin(&mut self) -> Result<bool, String> {
        while let Some(event) = self.network.poll() {
            match event {
                NetworkEvent::Link(peer, LinkEvent::Opened) => self.peer = Some(peer),
                NetworkEvent::Link(peer, LinkEvent::Message(_, bytes)) => {
                    self.network.consumed(peer, bytes.len());
                    self.received.push_back(bytes);
                }
                NetworkEvent::Link(_, LinkEvent::State(bytes)) => self.received.push_back(bytes),
                NetworkEvent::Link(_, LinkEvent::Closed(reason)) => return Err(reason.to_string()),
                NetworkEvent::Failed(error) => return Err(error.to_string()),
                _ => {}
            }
        }
        Ok(self.peer.is_some())
    }

    fn receive(&mut self) -> Option<Bytes> {
        self.received.pop_front()
    }

    fn send(&mut self, bytes: Bytes, way: Way) {
        let Some(peer) = self.peer else { return };
        match way {
            Way::Once => self.network.state(peer, bytes),
            // One that is refused counts as sent, and shows as not delivered.
            Way::Reliably => _ = self.network.message(peer, Channel::Events, bytes),
        }
    }

    fn end(&mut self) {
        self.network.turn(now());
    }
}
