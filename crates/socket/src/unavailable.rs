//! What is a socket that cannot be? One that says why, and nothing else.

use std::time::Duration;

use bytes::Bytes;
use coplay_proto::{Lane, PeerId};

use crate::{Path, SendError, Socket, SocketError, SocketEvent, Waker};

/// Fails with this error as soon as it is asked.
pub(crate) struct Unavailable(pub(crate) Option<SocketError>);

impl Socket for Unavailable {
    fn poll(&mut self, _now: Duration) -> Option<SocketEvent> {
        self.0.take().map(SocketEvent::Failed)
    }

    fn send(&mut self, _peer: PeerId, _lane: Lane, _bytes: Bytes) -> Result<(), SendError> {
        Err(SendError::UnknownPeer)
    }

    fn disconnect(&mut self, _peer: PeerId) {}

    fn path(&self, _peer: PeerId) -> Option<Path> {
        None
    }

    fn set_waker(&mut self, waker: Waker) {
        #[cfg(target_arch = "wasm32")]
        crate::web::page::soon(move || waker());
        #[cfg(not(target_arch = "wasm32"))]
        waker();
    }
}
