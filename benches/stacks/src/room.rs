//! A room as a game loop has it, whatever the stack: asked for what happened, and never waited for.

use bytes::Bytes;

mod coplay;
mod matchbox;
mod raw;

pub use coplay::Coplay;
pub use matchbox::Matchbox;
pub use raw::{guest, hub};

/// A peer, by whatever number the stack has for it.
pub type Peer = u128;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Others find this side here from now on.
    Entered,
    /// It can be reached.
    Opened(Peer),
    /// Something came from it.
    Came(Peer, Bytes),
    /// The stack says that it does not answer, or is gone, and which.
    Lost(Peer, String),
    /// Nothing more will happen here, and why.
    Failed(String),
}

/// Connections to the peers of a room.
pub trait Room {
    /// The next that happened.
    fn poll(&mut self) -> Option<Heard>;
    /// Sends something that may be lost.
    fn state(&mut self, peer: Peer, bytes: Bytes);
    /// Sends something that may not.
    fn event(&mut self, peer: Peer, bytes: Bytes);
    /// What was sent goes out.
    fn turn(&mut self) {}
}

/// Enters the room at this URL by its signaling server.
///
/// # Errors
/// There is no such stack that meets by a signaling server.
pub fn meet(stack: &str, url: &str) -> Result<Box<dyn Room>, String> {
    match stack {
        "coplay" => Ok(Box::new(Coplay::meet(url))),
        "matchbox" => Ok(Box::new(Matchbox::meet(url))),
        other => Err(format!("no stack {other:?} meets by a signaling server")),
    }
}
