//! The caller's lanes to peers that are reached by the signaling server: from its queues to the switchboard.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use coplay_proto::{Lane, PeerId};
use tokio::sync::{Notify, mpsc::error::TryRecvError};

use super::{
    inbox::Share,
    lanes::{Inlets, Outlets},
};
use crate::{
    Path, PathKind, clock,
    switchboard::{Attempt, Input, Switchboard},
};

/// The peers that are relayed to.
#[derive(Default)]
pub(super) struct Relays {
    peers: BTreeMap<PeerId, End>,
    wake: Arc<Notify>,
}

/// The socket thread's end of the lanes to one of them.
struct End {
    attempt: Attempt,
    inlets: Inlets,
    share: Share,
    /// The caller sends by another way now, and the switchboard knows.
    drained: bool,
}

impl Relays {
    /// Told when the caller has sent something.
    pub(super) fn wake(&self) -> Arc<Notify> {
        self.wake.clone()
    }

    /// Lays the lanes to a peer; the caller gets the other end.
    pub(super) fn open(&mut self, attempt: Attempt) -> Outlets {
        let (outlets, inlets) = Outlets::new(Some(self.wake.clone()));
        inlets.path.set(path(None));
        self.peers.insert(attempt.peer, End { attempt, inlets, share: Share::default(), drained: false });
        outlets
    }

    pub(super) fn stop(&mut self, attempt: Attempt) {
        if self.get(attempt).is_some() {
            self.peers.remove(&attempt.peer);
        }
    }

    /// What is counted for a datagram that came.
    pub(super) fn share(&self, attempt: Attempt) -> Option<&Share> {
        self.get(attempt).map(|end| &end.share)
    }

    /// The round trip is known.
    pub(super) fn measured(&self, attempt: Attempt, rtt: Option<Duration>) {
        if let Some(end) = self.get(attempt) {
            end.inlets.path.set(path(rtt));
        }
    }

    /// Has what the caller sent go by the switchboard, as far as there is room there. True if something did.
    pub(super) fn hand_over(&mut self, switchboard: &mut Switchboard) -> bool {
        let mut moved = false;
        for End { attempt, inlets, drained, .. } in self.peers.values_mut().filter(|end| !end.drained) {
            while let Ok(bytes) = inlets.unreliable.try_recv() {
                // One that there is no room for is lost.
                let _ = switchboard.relay(clock::now(), *attempt, Lane::Unreliable, bytes);
                moved = true;
            }
            while switchboard.relay_has_room(*attempt) {
                match inlets.reliable.try_recv() {
                    Ok(bytes) => {
                        let _ = switchboard.relay(clock::now(), *attempt, Lane::Reliable, bytes);
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        *drained = true;
                        switchboard.handle(clock::now(), Input::Drained(*attempt));
                        moved = true;
                        break;
                    }
                }
                moved = true;
            }
        }
        moved
    }

    fn get(&self, attempt: Attempt) -> Option<&End> {
        self.peers.get(&attempt.peer).filter(|end| end.attempt == attempt)
    }
}

fn path(rtt: Option<Duration>) -> Path {
    let [local, remote] = ["websocket of signaling", "websocket of signaling"].map(str::to_owned);
    Path { kind: PathKind::WebSocket, local, remote, rtt, bytes_sent: 0, bytes_received: 0 }
}
