//! Bytes to named peers over WebRTC data channels: native, in the browser, in memory.
//!
//! A [`Socket`] enters a room, connects with its peers, and moves datagrams on two [`Lane`](coplay_proto::Lane)s: it
//! knows nothing of what they mean. It never blocks, and is all the same whatever it is made of:
//!
//! * [`connect`] gives the platform's WebRTC: on native ICE, DTLS and SCTP under a driver of our own, on a thread of its own;
//!   on the web the browser's. With the feature `matchbox`, `matchbox_socket` can make the connections instead:
//!   [`Transport`].
//! * [`MemoryHub`] gives sockets within one process, with virtual time and bad paths on request.
//! * [`Conditioned`] makes any socket's path worse.
//!
//! Peers meet by a signaling server, ours or a stock `matchbox_server`, or by another [`Signaller`], as the in-process
//! [`Rendezvous`]. On the wire it is matchbox's convention, so that an unmodified `matchbox_socket` with two channels
//! (unreliable, reliable) is a peer like any other.
//!
//! [`Network`] is what a game loop uses: it runs a [`Link`](coplay_proto::link::Link) per peer where bytes arrive, and
//! hands frames and messages over without ever waiting.
//!
//! ```
//! use std::time::Duration;
//! use coplay_proto::Lane;
//! use coplay_socket::{MemoryHub, SocketEvent};
//!
//! let hub = MemoryHub::new();
//! let (mut one, mut other) = (hub.socket(), hub.socket());
//! let now = Duration::ZERO;
//! while let Some(event) = one.poll(now) {
//!     if let SocketEvent::Opened(peer) = event {
//!         one.send(peer, Lane::Unreliable, "hello".into())?;
//!     }
//! }
//! let heard = std::iter::from_fn(|| other.poll(now))
//!     .any(|event| matches!(event, SocketEvent::Received(_, Lane::Unreliable, bytes) if bytes == "hello"));
//! assert!(heard);
//! # Ok::<(), coplay_socket::SendError>(())
//! ```
#![forbid(unsafe_code)]

mod address;
mod clock;
mod conditioned;
mod launch;
mod lobbies;
#[cfg(feature = "matchbox")]
mod matchbox;
mod memory;
mod network;
mod rendezvous;
mod signaller;
mod socket;
mod switchboard;
mod unavailable;

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod web;

pub use clock::now;
pub use conditioned::{Conditioned, Conditioning};
pub use launch::{conditions, default_signaling_url};
pub use lobbies::{LobbyBrowser, LobbyEvent};
pub use memory::MemoryHub;
pub use network::{BlobShelf, Network, NetworkConfig, NetworkEvent};
pub use rendezvous::Rendezvous;
pub use signaller::{Dial, Dialect, Down, Signaller, SignallerEvent};
pub use socket::{
    Entered, IceTransportPolicy, MAX_RELIABLE, MAX_UNRELIABLE, MaybeSend, Path, PathKind, RelayPolicy, RoomEvent,
    SendError, SignalingState, Socket, SocketConfig, SocketError, SocketEvent, Transport, Waker,
};

/// Enters the room at [`SocketConfig::url`] by its signaling server, and connects with its peers by WebRTC.
///
/// Returns at once; what becomes of it comes out of [`Socket::poll`].
pub fn connect(mut config: SocketConfig) -> Box<dyn Socket> {
    match address::websocket(&config.url) {
        Ok(url) => config.url = url,
        Err(error) => return Box::new(unavailable::Unavailable(Some(error))),
    }
    #[cfg(not(target_arch = "wasm32"))]
    return native::connect(config, None);
    #[cfg(target_arch = "wasm32")]
    return web::connect(config, None);
}

/// As [`connect`], but peers meet by this signaller, and [`SocketConfig::url`] is not used.
pub fn connect_by(config: SocketConfig, signaller: Box<dyn Signaller>) -> Box<dyn Socket> {
    #[cfg(not(target_arch = "wasm32"))]
    return native::connect(config, Some(signaller));
    #[cfg(target_arch = "wasm32")]
    return web::connect(config, Some(signaller));
}
