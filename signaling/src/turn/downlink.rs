//! How does the TURN server speak with its clients? By the one UDP socket that it shares with STUN, without waiting.

use std::{any::Any, net::SocketAddr};

use async_trait::async_trait;
use tokio::net::UdpSocket;
use webrtc_util::Conn;

use super::relay::unconnected;

/// The socket, as allocations see it: they send to their clients by it, and cannot close it.
pub(crate) struct Downlink {
    socket: UdpSocket,
    address: SocketAddr,
}

impl Downlink {
    pub(crate) fn new(socket: UdpSocket, address: SocketAddr) -> Self {
        Self { socket, address }
    }

    /// Where the socket listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next datagram, and the client it came from.
    pub(crate) async fn receive(&self, buffer: &mut [u8]) -> std::io::Result<(usize, SocketAddr)> {
        let (bytes, from) = self.socket.recv_from(buffer).await?;
        // A socket for both families has IPv4 clients by their mapped addresses.
        Ok((bytes, SocketAddr::new(from.ip().to_canonical(), from.port())))
    }

    /// Sends a datagram; one that does not fit into the socket's buffer is lost, so that nobody waits for it.
    pub(crate) fn send(&self, bytes: &[u8], client: SocketAddr) {
        let client = match client {
            SocketAddr::V4(v4) if self.address.is_ipv6() => SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port())),
            client => client,
        };
        if let Err(error) = self.socket.try_send_to(bytes, client) {
            tracing::trace!(%error, %client, "not sent");
        }
    }
}

#[async_trait]
impl Conn for Downlink {
    async fn send_to(&self, bytes: &[u8], client: SocketAddr) -> Result<usize, webrtc_util::Error> {
        self.send(bytes, client);
        Ok(bytes.len())
    }

    fn local_addr(&self) -> Result<SocketAddr, webrtc_util::Error> {
        Ok(self.address)
    }

    async fn recv_from(&self, _: &mut [u8]) -> Result<(usize, SocketAddr), webrtc_util::Error> {
        Err(unconnected())
    }

    async fn connect(&self, _: SocketAddr) -> Result<(), webrtc_util::Error> {
        Err(unconnected())
    }

    async fn recv(&self, _: &mut [u8]) -> Result<usize, webrtc_util::Error> {
        Err(unconnected())
    }

    async fn send(&self, _: &[u8]) -> Result<usize, webrtc_util::Error> {
        Err(unconnected())
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }

    async fn close(&self) -> Result<(), webrtc_util::Error> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}
