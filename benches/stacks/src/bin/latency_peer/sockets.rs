//! coplay's socket, without a link above it: two lanes of datagrams, and a waker.

#[cfg(target_arch = "wasm32")]
use std::rc::Rc as Shared;
use std::sync::Arc;
#[cfg(not(target_arch = "wasm32"))]
use std::sync::Arc as Shared;

use bytes::Bytes;
use coplay_proto::{Lane, PeerId};
use coplay_socket::{RelayPolicy, Socket, SocketConfig, SocketEvent, now};
use tokio::sync::Notify;

use crate::port::Port;

pub(crate) struct Sockets {
    socket: Box<dyn Socket>,
    woken: Arc<Notify>,
    peer: PeerId,
}

impl Sockets {
    /// Meets the peer in this room.
    pub(crate) async fn meet(room: &str) -> Result<Self, String> {
        let config = SocketConfig { relay: RelayPolicy::Never, ..SocketConfig::new(room) };
        let mut socket = coplay_socket::connect(config);
        let woken = Arc::new(Notify::new());
        let wakes = woken.clone();
        socket.set_waker(Shared::new(move || wakes.notify_one()));
        loop {
            match socket.poll(now()) {
                Some(SocketEvent::Opened(peer)) => return Ok(Self { socket, woken, peer }),
                Some(SocketEvent::Closed(_, reason)) => return Err(reason.to_string()),
                Some(SocketEvent::Failed(error)) => return Err(error.to_string()),
                Some(_) => {}
                None => woken.notified().await,
            }
        }
    }
}

impl Port for Sockets {
    async fn next(&mut self) -> Result<(Lane, Bytes), String> {
        loop {
            match self.socket.poll(now()) {
                Some(SocketEvent::Received(_, lane, bytes)) => return Ok((lane, bytes)),
                Some(SocketEvent::Closed(_, reason)) => return Err(reason.to_string()),
                Some(_) => {}
                None => self.woken.notified().await,
            }
        }
    }

    async fn send(&mut self, lane: Lane, bytes: Bytes) -> Result<(), String> {
        self.socket.send(self.peer, lane, bytes).map_err(|error| error.to_string())
    }
}
