//! UDP itself: what no stack above it can be faster than.

use bytes::Bytes;
use coplay_proto::Lane;
use tokio::net::UdpSocket;

use super::ready;
use crate::port::Port;

/// More than any message.
const MOST: usize = 2048;

pub(super) struct Udp(UdpSocket);

impl Udp {
    /// Side A listens at this address, and side B tells it from where.
    pub(super) async fn meet(address: &str, leads: bool) -> Result<Self, String> {
        let cannot = |error: std::io::Error| format!("UDP at {address}: {error}");
        let socket = UdpSocket::bind(if leads { address } else { "127.0.0.1:0" }).await.map_err(cannot)?;
        ready();
        if leads {
            let (_, peer) = socket.recv_from(&mut [0; MOST]).await.map_err(cannot)?;
            socket.connect(peer).await.map_err(cannot)?;
        } else {
            socket.connect(address).await.map_err(cannot)?;
            socket.send(&[]).await.map_err(cannot)?;
        }
        Ok(Self(socket))
    }
}

impl Port for Udp {
    async fn next(&mut self) -> Result<(Lane, Bytes), String> {
        let mut buffer = [0; MOST];
        let bytes = self.0.recv(&mut buffer).await.map_err(|error| error.to_string())?;
        Ok((Lane::Unreliable, Bytes::copy_from_slice(buffer.get(..bytes).unwrap_or_default())))
    }

    async fn send(&mut self, _: Lane, bytes: Bytes) -> Result<(), String> {
        self.0.send(&bytes).await.map(drop).map_err(|error| error.to_string())
    }
}
