//! What does one who awaits messages do with a connection?

use bytes::Bytes;
use coplay_proto::Lane;

/// One open connection to one peer.
pub(crate) trait Port {
    /// The next message, or why there will be none.
    async fn next(&mut self) -> Result<(Lane, Bytes), String>;
    /// Sends one.
    async fn send(&mut self, lane: Lane, bytes: Bytes) -> Result<(), String>;
}

/// Sends all back that comes, until the connection is over.
pub(crate) async fn echo(mut port: impl Port) -> Result<(), String> {
    loop {
        let (lane, bytes) = port.next().await?;
        port.send(lane, bytes).await?;
    }
}
