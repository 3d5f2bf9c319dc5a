//! coplay's events, as a game hands them over and takes them: in frames.

use bytes::Bytes;
use coplay_proto::{
    Channel, PeerId,
    link::{LinkConfig, LinkEvent},
};
use coplay_socket::{Network, NetworkEvent, RelayPolicy, SocketConfig, now};

pub(crate) struct Events {
    network: Network,
    peer: Option<PeerId>,
}

impl Events {
    /// Meets the peer in this room.
    pub(crate) fn meet(room: &str) -> Self {
        let config = SocketConfig { relay: RelayPolicy::Never, ..SocketConfig::new(room) };
        Self { network: Network::start(coplay_socket::connect(config), LinkConfig::default()), peer: None }
    }

    pub(crate) const fn is_open(&self) -> bool {
        self.peer.is_some()
    }

    /// A frame begins: what came since the last.
    pub(crate) fn begin(&mut self) -> Result<Vec<Bytes>, String> {
        let mut came = Vec::new();
        while let Some(event) = self.network.poll() {
            match event {
                NetworkEvent::Link(peer, LinkEvent::Opened) => self.peer = Some(peer),
                NetworkEvent::Link(peer, LinkEvent::Message(Channel::Events, bytes)) => {
                    self.network.consumed(peer, bytes.len());
                    came.push(bytes);
                }
                NetworkEvent::Link(_, LinkEvent::Closed(reason)) => return Err(reason.to_string()),
                NetworkEvent::Failed(error) => return Err(error.to_string()),
                _ => {}
            }
        }
        Ok(came)
    }

    pub(crate) fn send(&mut self, bytes: Bytes) -> Result<(), String> {
        let Some(peer) = self.peer else { return Ok(()) };
        self.network.message(peer, Channel::Events, bytes).map_err(|error| error.to_string())
    }

    /// A frame ends: what was handed over goes out.
    pub(crate) fn end(&mut self) {
        self.network.turn(now());
    }
}

/// One frame of who sends all back. Whether something came.
pub(crate) fn echo(events: &mut Events) -> Result<bool, String> {
    let came = events.begin()?;
    let any = !came.is_empty();
    for bytes in came {
        events.send(bytes)?;
    }
    events.end();
    Ok(any)
}
