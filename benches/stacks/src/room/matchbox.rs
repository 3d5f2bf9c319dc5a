//! `matchbox_socket`, with an unreliable and a reliable channel.

use std::collections::VecDeque;

use bytes::Bytes;
use matchbox_socket::{ChannelConfig, PeerId, PeerState, RtcIceServerConfig, WebRtcSocket};

use super::{Heard, Peer, Room};

/// In a room. It takes a runtime of tokio to be in.
#[derive(Debug)]
pub struct Matchbox {
    socket: WebRtcSocket,
    heard: VecDeque<Heard>,
    entered: bool,
    failed: bool,
}

impl Matchbox {
    /// Enters it. There is no NAT, and no STUN server to be waited for.
    pub fn meet(url: &str) -> Self {
        let none = RtcIceServerConfig { urls: Vec::new(), ..RtcIceServerConfig::default() };
        let builder = WebRtcSocket::builder(url).ice_server(none);
        let builder = builder.add_channel(ChannelConfig::unreliable()).add_channel(ChannelConfig::reliable());
        let (socket, message_loop) = builder.build();
        tokio::spawn(message_loop);
        Self { socket, heard: VecDeque::new(), entered: false, failed: false }
    }

    fn look(&mut self) -> Result<(), String> {
        if !self.entered && self.socket.id().is_some() {
            self.entered = true;
            self.heard.push_back(Heard::Entered);
        }
        for (peer, state) in self.socket.try_update_peers().map_err(|error| error.to_string())? {
            self.heard.push_back(match state {
                PeerState::Connected => Heard::Opened(peer.0.as_u128()),
                PeerState::Disconnected => Heard::Lost(peer.0.as_u128(), "disconnected".to_owned()),
            });
        }
        for number in 0..2 {
            let channel = self.socket.get_channel_mut(number).map_err(|error| error.to_string())?;
            let came = channel.receive().into_iter();
            self.heard.extend(came.map(|(peer, packet)| Heard::Came(peer.0.as_u128(), packet)));
        }
        Ok(())
    }

    fn send(&mut self, number: usize, peer: Peer, bytes: Bytes) {
        if let Ok(channel) = self.socket.get_channel_mut(number) {
            // One that is not taken shows as not delivered.
            let _ = channel.try_send(bytes, PeerId(uuid::Uuid::from_u128(peer)));
        }
    }
}

impl Room for Matchbox {
    fn poll(&mut self) -> Option<Heard> {
        if self.heard.is_empty()
            && !self.failed
            && let Err(reason) = self.look()
        {
            self.failed = true;
            self.heard.push_back(Heard::Failed(reason));
        }
        self.heard.pop_front()
    }

    fn state(&mut self, peer: Peer, bytes: Bytes) {
        self.send(0, peer, bytes);
    }

    fn event(&mut self, peer: Peer, bytes: Bytes) {
        self.send(1, peer, bytes);
    }
}
