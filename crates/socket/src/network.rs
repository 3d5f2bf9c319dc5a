//! How does a game loop talk to its peers, while links run where bytes arrive?
//!
//! ```text
//!   game loop             native: thread `coplay-link`        socket's thread
//!   Network ──commands──▶  Links: one Link a peer  ◀──▶  Box<dyn Socket>
//!      ▲                   web: within the browser's events
//!      └────events─────    inline: within Network::turn, with the caller's time
//! ```

use std::{collections::BTreeMap, fmt, sync::Arc, sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use coplay_proto::{
    Channel, PeerId,
    link::{CONTROL_RESERVE, LinkConfig, LinkEvent, MAX_MESSAGE, Refused},
    signal::{Leader, lobby::RoomCommand},
};

use self::links::{Command, Links, Outward, Pressure};
use crate::{Entered, Path, RoomEvent, SignalingState, Socket, SocketError};

#[cfg(target_arch = "wasm32")]
mod callback;
mod links;
#[cfg(not(target_arch = "wasm32"))]
mod thread;

#[cfg(target_arch = "wasm32")]
use callback::Running;
#[cfg(not(target_arch = "wasm32"))]
use thread::Running;

/// The game loop's end of the connections to a room's peers.
///
/// What is handed over is on its way at the latest after the next [`turn`](Self::turn): hand over everything of a frame,
/// then turn, so that it shares datagrams. Dropping it says goodbye to every peer, and does not wait for that.
pub struct Network {
    mode: Mode,
    peers: BTreeMap<PeerId, Arc<Pressure>>,
    send_queue: usize,
}

enum Mode {
    /// The links run in `turn`.
    Inline { links: Box<Links>, now: Duration },
    /// The links run by themselves.
    Running(Running),
}

/// What happens to a network.
#[derive(Clone, Debug, PartialEq)]
pub enum NetworkEvent {
    /// The room is entered. See [`crate::SocketEvent::Entered`].
    Entered(Entered),
    /// The room has another leader.
    Leader(Leader),
    /// What signaling says about the room. See [`crate::SocketEvent::Room`].
    Room(RoomEvent),
    /// What the link to a peer tells. First comes [`LinkEvent::Opened`], last [`LinkEvent::Closed`]; where a peer could
    /// not be connected, only that.
    Link(PeerId, LinkEvent),
    /// The path to a peer is known, or has other figures than a second ago.
    Path(PeerId, Path),
    /// The connection to signaling changed.
    Signaling(SignalingState),
    /// The room cannot be entered.
    Failed(SocketError),
}

impl Network {
    /// Runs the links by themselves: on a thread, or in the browser's events. Time is that of [`crate::now`].
    pub fn start(socket: Box<dyn Socket>, config: LinkConfig) -> Self {
        let send_queue = config.send_queue;
        let mode = Mode::Running(Running::start(Links::new(socket, config)));
        Self { mode, peers: BTreeMap::new(), send_queue }
    }

    /// Runs the links within [`Self::turn`], with the time given there. For tests with virtual time.
    pub fn inline(socket: Box<dyn Socket>, config: LinkConfig) -> Self {
        let send_queue = config.send_queue;
        let mode = Mode::Inline { links: Box::new(Links::new(socket, config)), now: Duration::ZERO };
        Self { mode, peers: BTreeMap::new(), send_queue }
    }

    /// Sends what was handed over. Where the links do not run by themselves, does also everything else that is to be
    /// done by `now`, which is ignored elsewhere.
    pub fn turn(&mut self, now: Duration) {
        match &mut self.mode {
            Mode::Inline { links, now: last } => {
                *last = now.max(*last);
                while links.turn(*last) {}
            }
            Mode::Running(running) => running.turn(),
        }
    }

    /// The next thing that happened, or `None` when there is nothing more for now.
    pub fn poll(&mut self) -> Option<NetworkEvent> {
        let outward = match &mut self.mode {
            Mode::Inline { links, .. } => links.poll(),
            Mode::Running(running) => running.poll(),
        };
        Some(match outward? {
            Outward::Opened(peer, pressure) => {
                self.peers.insert(peer, pressure);
                NetworkEvent::Link(peer, LinkEvent::Opened)
            }
            Outward::Event(event) => {
                match &event {
                    NetworkEvent::Link(peer, LinkEvent::State(_) | LinkEvent::Figures(_)) => {
                        if let Some(pressure) = self.peers.get(peer) {
                            pressure.waiting.fetch_sub(1, Ordering::Relaxed);
                        }
                    }
                    NetworkEvent::Link(peer, LinkEvent::Closed(_)) => _ = self.peers.remove(peer),
                    _ => {}
                }
                event
            }
        })
    }

    /// Sends a frame of the session, at most [`coplay_proto::link::MAX_STATE`] bytes: once, and it may be lost.
    pub fn state(&mut self, peer: PeerId, bytes: Bytes) {
        if self.peers.contains_key(&peer) {
            // Lost, if there is no room: the session finds out, as with any loss.
            let _ = self.command(Command::State(peer, bytes));
        }
    }

    /// Sends a message: exactly once, in order within its channel. To a peer that is gone, nothing is sent.
    ///
    /// # Errors
    /// Nothing was sent: more than [`MAX_MESSAGE`] bytes, or more than [`LinkConfig::send_queue`] bytes wait;
    /// [`CONTROL_RESERVE`] more on the control channel.
    pub fn message(&mut self, peer: PeerId, channel: Channel, bytes: Bytes) -> Result<(), Refused> {
        let Some(pressure) = self.peers.get(&peer) else { return Ok(()) };
        let reserve = if channel == Channel::Control { CONTROL_RESERVE } else { 0 };
        let (size, limit) = (bytes.len(), self.send_queue + reserve);
        if size > MAX_MESSAGE {
            return Err(Refused::TooLarge { size, limit: MAX_MESSAGE });
        }
        let waiting = pressure.outgoing();
        if waiting > 0 && waiting + size > limit {
            return Err(Refused::QueueFull { limit });
        }
        let pressure = pressure.clone();
        pressure.handed.fetch_add(size, Ordering::Relaxed);
        self.command(Command::Message(peer, channel, bytes)).map_err(|_| {
            pressure.handed.fetch_sub(size, Ordering::Relaxed);
            Refused::QueueFull { limit }
        })
    }

    /// Whether more than half of the messages that may wait for this peer do.
    pub fn is_pressed(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(|pressure| pressure.outgoing() > self.send_queue / 2)
    }

    /// The session has taken messages of this peer with so many bytes, so that the peer may send more.
    pub fn consumed(&mut self, peer: PeerId, bytes: usize) {
        if let Some(pressure) = self.peers.get(&peer) {
            pressure.consumed.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Says goodbye to a peer and closes the connection. [`LinkEvent::Closed`] follows.
    pub fn disconnect(&mut self, peer: PeerId) {
        if self.command(Command::Disconnect(peer)).is_err() {
            tracing::warn!(%peer, "too many commands at once: not disconnected");
        }
    }

    /// Has signaling do something with the room: see [`Socket::room_command`].
    pub fn room_command(&mut self, command: RoomCommand) {
        if self.command(Command::Room(command)).is_err() {
            tracing::warn!("too many commands at once: one to the room was dropped");
        }
    }

    /// Says goodbye to every peer and waits until that is done, at most so long. For the end of a process, which would
    /// cut a goodbye off; elsewhere drop the network.
    pub fn close(mut self, within: Duration) {
        if let Mode::Running(running) = &mut self.mode {
            running.close(within);
        }
    }

    fn command(&mut self, command: Command) -> Result<(), Command> {
        match &mut self.mode {
            Mode::Inline { links, now } => {
                links.command(*now, command);
                Ok(())
            }
            Mode::Running(running) => running.command(command),
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Mode::Inline { links, now } = &mut self.mode {
            links.close(*now);
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("peers", &self.peers.keys()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod flood;
#[cfg(test)]
mod tests;
