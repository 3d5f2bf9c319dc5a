//! Bytes to named peers over WebRTC data channels: native, in the browser, in memory.
//!
//! A [`Socket`] enters a room, connects with its peers, and moves datagrams on two [`Lane`](coplay_proto::Lane)s: it
//! knows nothing of what they mean. [`connect`] gives the platform's WebRTC, [`MemoryHub`] sockets within one process.
#![forbid(unsafe_code)]

mod clock;
mod conditioned;
mod default_url;
mod memory;
mod network;
mod rendezvous;
mod signaller;
mod socket;
mod switchboard;

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod web;

pub use clock::now;
pub use conditioned::Conditioned;
pub use default_url::default_signaling_url;
pub use memory::MemoryHub;
pub use network::{Network, NetworkEvent};
pub use rendezvous::Rendezvous;
pub use signaller::{Dialect, Down, Signaller, SignallerEvent};
pub use socket::{
    Entered, IceTransportPolicy, MaybeSend, Path, PathKind, SendError, SignalingState, Socket, SocketConfig,
    SocketError, SocketEvent, Waker, MAX_RELIABLE, MAX_UNRELIABLE,
};

/// Enters the room at [`SocketConfig::url`] by its signaling server, and connects with its peers by WebRTC.
///
/// Returns at once; what becomes of it comes out of [`Socket::poll`].
pub fn connect(config: SocketConfig) -> Box<dyn Socket> {
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
