//! `matchbox_socket`, awaited, which is faster than polling it as most of its users do.

use bytes::Bytes;
use coplay_proto::Lane;
use futures_util::StreamExt;
use matchbox_socket::{ChannelConfig, PeerId, PeerState, RtcIceServerConfig, WebRtcChannel, WebRtcSocket};

use crate::port::Port;

pub(super) struct Matchbox {
    peer: PeerId,
    channels: [WebRtcChannel; 2],
    _socket: WebRtcSocket,
}

impl Matchbox {
    /// Meets the peer in this room.
    pub(super) async fn meet(room: &str) -> Result<Self, String> {
        // There is no NAT, and no STUN server to be waited for.
        let none = RtcIceServerConfig { urls: Vec::new(), ..RtcIceServerConfig::default() };
        let builder = WebRtcSocket::builder(room).ice_server(none);
        let builder = builder.add_channel(ChannelConfig::unreliable()).add_channel(ChannelConfig::reliable());
        let (mut socket, message_loop) = builder.build();
        tokio::spawn(message_loop);
        loop {
            match socket.next().await {
                Some((peer, PeerState::Connected)) => {
                    let mut channel = |number| socket.take_channel(number).map_err(|error| error.to_string());
                    let channels = [channel(0)?, channel(1)?];
                    return Ok(Self { peer, channels, _socket: socket });
                }
                Some(_) => {}
                None => return Err("the socket has ended".to_owned()),
            }
        }
    }
}

impl Port for Matchbox {
    async fn next(&mut self) -> Result<(Lane, Bytes), String> {
        let [unreliable, reliable] = &mut self.channels;
        let (lane, came) = tokio::select! {
            came = unreliable.next() => (Lane::Unreliable, came),
            came = reliable.next() => (Lane::Reliable, came),
        };
        came.map(|(_, bytes)| (lane, bytes)).ok_or_else(|| "the socket has ended".to_owned())
    }

    async fn send(&mut self, lane: Lane, bytes: Bytes) -> Result<(), String> {
        let channel = &mut self.channels[usize::from(lane == Lane::Reliable)];
        channel.try_send(bytes, self.peer).map_err(|error| error.to_string())
    }
}
