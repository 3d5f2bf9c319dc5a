//! What `matchbox_socket` gives a game: its reliable channel, polled once a frame as its users do.

use std::collections::VecDeque;

use bytes::Bytes;
use matchbox_socket::{ChannelConfig, PeerId, PeerState, RtcIceServerConfig, WebRtcSocket};

use crate::game::{Connection, Way};

pub(super) struct Matchbox {
    socket: WebRtcSocket,
    peer: Option<PeerId>,
    received: VecDeque<Bytes>,
}

impl Matchbox {
    /// Meets its peer in this room.
    pub(super) fn meet(room: &str) -> Self {
        // There is no NAT, and no STUN server to be waited for.
        let none = RtcIceServerConfig { urls: Vec::new(), ..RtcIceServerConfig::default() };
        let builder = WebRtcSocket::builder(room).ice_server(none).add_channel(ChannelConfig::reliable());
        let (socket, message_loop) = builder.build();
        tokio::spawn(message_loop);
        Self { socket, peer: None, received: VecDeque::new() }
    }
}

impl Connection for Matchbox {
    fn begin(&mut self) -> Result<bool, String> {
        for (peer, state) in self.socket.try_update_peers().map_err(|error| error.to_string())? {
            match state {
                PeerState::Connected => self.peer = Some(peer),
                PeerState::Disconnected => return Err("the peer is gone".to_owned()),
            }
        }
        let channel = self.socket.get_channel_mut(0).map_err(|error| error.to_string())?;
        self.received.extend(channel.receive().into_iter().map(|(_, packet)| packet));
        Ok(self.peer.is_some())
    }

    fn receive(&mut self) -> Option<Bytes> {
        self.received.pop_front()
    }

    fn send(&mut self, bytes: Bytes, way: Way) {
        if let Some(peer) = self.peer.filter(|_| way == Way::Reliably)
            && let Ok(channel) = self.socket.get_channel_mut(0)
        {
            // One that is not taken shows as not delivered.
            let _ = channel.try_send(bytes, peer);
        }
    }
}
