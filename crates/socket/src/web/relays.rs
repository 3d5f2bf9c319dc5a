//! Which peers are reached by the signaling server, and how much went there?

use std::{collections::BTreeMap, time::Duration};

use coplay_proto::PeerId;

use crate::{Path, PathKind, switchboard::Attempt};

/// The peers that are relayed to.
#[derive(Default)]
pub(super) struct Relays(BTreeMap<PeerId, End>);

struct End {
    attempt: Attempt,
    sent: u64,
    received: u64,
    /// What is for the peer goes by its connection now; what comes from it may still come here.
    left: bool,
}

impl Relays {
    pub(super) fn open(&mut self, attempt: Attempt) {
        self.0.insert(attempt.peer, End { attempt, sent: 0, received: 0, left: false });
    }

    pub(super) fn stop(&mut self, attempt: Attempt) {
        if self.0.get(&attempt.peer).is_some_and(|end| end.attempt == attempt) {
            self.0.remove(&attempt.peer);
        }
    }

    /// What is sent to the peer goes by another way from now on. Returns the relay, and how much went there and back.
    pub(super) fn leave(&mut self, peer: PeerId) -> Option<(Attempt, u64, u64)> {
        let end = self.0.get_mut(&peer)?;
        end.left = true;
        Some((end.attempt, end.sent, end.received))
    }

    /// The relay that carries what is for the peer.
    pub(super) fn carrying(&self, peer: PeerId) -> Option<Attempt> {
        self.0.get(&peer).filter(|end| !end.left).map(|end| end.attempt)
    }

    pub(super) fn sent(&mut self, peer: PeerId, bytes: usize) {
        if let Some(end) = self.0.get_mut(&peer) {
            end.sent += bytes as u64;
        }
    }

    pub(super) fn received(&mut self, attempt: Attempt, bytes: usize) {
        if let Some(end) = self.0.get_mut(&attempt.peer) {
            end.received += bytes as u64;
        }
    }

    pub(super) fn path(&self, peer: PeerId, rtt: Option<Duration>) -> Option<Path> {
        let End { sent, received, .. } = self.0.get(&peer)?;
        let [local, remote] = ["websocket of signaling", "websocket of signaling"].map(str::to_owned);
        let kind = PathKind::WebSocket;
        Some(Path { kind, local, remote, rtt, bytes_sent: *sent, bytes_received: *received })
    }
}
