//! Which kind of connection is it to a peer? What the page's socket asks of one is the same for each.

use std::rc::Rc;

use bytes::Bytes;
use coplay_proto::{
    Lane,
    signal::{IceServer, Signal},
};

#[cfg(feature = "matchbox")]
use super::matchbox;
use super::{inbox::Inbox, path::Pair, peer::Peer};
use crate::{Path, SendError, SocketConfig, Transport, switchboard::Attempt};

/// One attempt to connect with a peer, and the connection that comes of it: see [`Peer`], whose methods these are.
pub(super) enum Connection {
    Own(Box<Peer>),
    #[cfg(feature = "matchbox")]
    Matchbox(Box<matchbox::Peer>),
}

macro_rules! either {
    ($connection:expr, $peer:ident => $work:expr) => {
        match $connection {
            Self::Own($peer) => $work,
            #[cfg(feature = "matchbox")]
            Self::Matchbox($peer) => $work,
        }
    };
}

impl Connection {
    pub(super) fn start(
        inbox: &Rc<Inbox>,
        attempt: Attempt,
        ice_servers: &[IceServer],
        config: &SocketConfig,
        offer: bool,
    ) -> Result<Self, String> {
        match config.transport {
            Transport::WebRtc => Peer::start(inbox, attempt, ice_servers, config.ice_transport_policy, offer)
                .map(|peer| Self::Own(Box::new(peer))),
            #[cfg(feature = "matchbox")]
            Transport::Matchbox => {
                matchbox::Peer::start(inbox, attempt, ice_servers, offer).map(|peer| Self::Matchbox(Box::new(peer)))
            }
        }
    }

    /// Our own, which makes its descriptions in steps.
    pub(super) fn own(&self) -> Option<&Peer> {
        match self {
            Self::Own(peer) => Some(peer),
            #[cfg(feature = "matchbox")]
            Self::Matchbox(_) => None,
        }
    }

    pub(super) fn attempt(&self) -> Attempt {
        either!(self, peer => peer.attempt)
    }

    pub(super) fn apply(&self, inbox: &Rc<Inbox>, signal: &Signal) {
        either!(self, peer => peer.apply(inbox, signal));
    }

    pub(super) fn add(&self, candidate: &str) {
        either!(self, peer => peer.add(candidate));
    }

    pub(super) fn is_open(&self) -> bool {
        either!(self, peer => peer.is_open())
    }

    pub(super) fn send(&mut self, lane: Lane, bytes: &Bytes) -> Result<(), SendError> {
        either!(self, peer => peer.send(lane, bytes))
    }

    pub(super) fn buffered(&self) -> usize {
        match self {
            Self::Own(peer) => peer.buffered(),
            // It says when it is full, and nothing before.
            #[cfg(feature = "matchbox")]
            Self::Matchbox(_) => 0,
        }
    }

    pub(super) fn received(&mut self, bytes: &[u8]) {
        either!(self, peer => peer.received(bytes));
    }

    pub(super) fn keep(&mut self, lane: Lane, bytes: Bytes) -> bool {
        match self {
            Self::Own(peer) => peer.keep(lane, bytes),
            // Nothing comes before it is open.
            #[cfg(feature = "matchbox")]
            Self::Matchbox(_) => false,
        }
    }

    pub(super) fn hold(&mut self, lane: Lane, bytes: Bytes) {
        either!(self, peer => peer.hold(lane, bytes));
    }

    pub(super) fn early(&mut self) -> Vec<(Lane, Bytes)> {
        either!(self, peer => peer.early())
    }

    /// Bytes sent and received so far.
    pub(super) fn traffic(&self) -> (u64, u64) {
        either!(self, peer => peer.traffic())
    }

    pub(super) fn go_on_from(&mut self, sent: u64, received: u64) {
        either!(self, peer => peer.go_on_from(sent, received));
    }

    pub(super) fn path(&self) -> Option<Path> {
        either!(self, peer => peer.path())
    }

    pub(super) fn measure(&self, inbox: &Rc<Inbox>) {
        either!(self, peer => peer.measure(inbox));
    }

    pub(super) fn measured(&mut self, pair: Pair) {
        either!(self, peer => peer.pair = Some(pair));
    }

    pub(super) fn close(self) {
        either!(self, peer => peer.close());
    }
}
