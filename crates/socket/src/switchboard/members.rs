//! Who is in the room, by what signaling says?

use std::time::Duration;

use coplay_proto::{
    PeerId, Topology,
    link::CloseReason,
    signal::{KEEP_ALIVE, Welcome},
};

use super::{
    MAX_PEERS, Signaling, Switchboard,
    handshake::{Handshake, Role, Stage},
    relay::Relay,
};
use crate::{Entered, RelayPolicy, RoomEvent, SignalingState, SocketEvent};

/// The most members that are remembered. A room has fewer.
const MAX_MET: usize = 4 * MAX_PEERS;

impl Switchboard {
    pub(super) fn entered(&mut self, now: Duration, entered: Entered) {
        self.me = Some(entered.me);
        self.met.clear();
        self.connected(now);
        self.event(SocketEvent::Entered(entered));
    }

    /// We have our seat again. What was on its way when the connection was lost may be lost with it, so the list of the
    /// members counts.
    pub(super) fn resumed(&mut self, now: Duration, welcome: Welcome) {
        self.ice_servers = self.config.ice_servers.iter().cloned().chain(welcome.ice_servers).collect();
        self.resume = welcome.resume;
        self.connected(now);
        self.offered(now, welcome.relay);
        self.mend_again(now);
        self.event(SocketEvent::Room(RoomEvent::Resumed));
        self.led_by(welcome.leader);
        if let Some(lobby) = welcome.lobby {
            self.past.told(&lobby);
            self.event(SocketEvent::Room(RoomEvent::Settings(lobby)));
        }
        let left: Vec<PeerId> = self.met.iter().filter(|peer| !welcome.members.contains(peer)).copied().collect();
        for peer in left {
            self.peer_left(peer);
        }
        // Who came later is offered to by us, as everyone whom we lead.
        let ours = welcome.topology == Topology::Mesh || welcome.members.first() == self.me.as_ref();
        let later = welcome.members.into_iter().skip_while(|member| Some(*member) != self.me).skip(1);
        for peer in later.filter(|_| ours).collect::<Vec<_>>() {
            if !self.met.contains(&peer) {
                self.new_peer(now, peer);
            }
        }
    }

    pub(super) fn connected(&mut self, now: Duration) {
        self.dialer.entered();
        if !matches!(self.signaling, Signaling::Waiting { .. }) {
            self.event(SocketEvent::Signaling(SignalingState::Connected));
        }
        self.signaling = Signaling::Up { keep_alive: now + KEEP_ALIVE };
    }

    pub(super) fn new_peer(&mut self, now: Duration, peer: PeerId) {
        self.meet(peer);
        let linked = self.is_linked(peer);
        match self.peers.get_mut(&peer) {
            Some(known) if linked || known.role == Role::Offers => {
                tracing::debug!(%peer, "signaling names a peer as new that is known");
                let came_back = known.role == Role::Answers;
                known.role = Role::Offers;
                let (relayed, mends) = (known.relayed && known.stage == Stage::Idle, known.mend.is_some());
                if came_back && mends {
                    self.mend_again(now);
                } else if came_back && relayed {
                    self.retry_later(now, peer);
                }
                return;
            }
            // It came to the room anew, and what it wanted to offer is ours to offer now.
            Some(_) => self.forget(peer, None),
            None => {}
        }
        if !self.is_led_by_former() && self.has_room(peer) {
            self.peers.insert(peer, Handshake::new(Role::Offers, now, &self.config));
            if self.config.relay == RelayPolicy::Only {
                self.give_up(now, peer);
            } else {
                self.start(now, peer, true);
            }
        }
    }

    pub(super) fn peer_left(&mut self, peer: PeerId) {
        self.met.remove(&peer);
        if self.live(peer).is_some_and(Relay::is_open) {
            // Nothing is relayed to who is gone from there.
            self.close(peer, CloseReason::Goodbye);
        } else if self.peers.get(&peer).and_then(|peer| peer.mend.as_ref()).is_some_and(|mend| mend.carrier.is_none()) {
            // There is no connection, and nobody to make one with.
            self.close(peer, CloseReason::Goodbye);
        } else if self.peers.get(&peer).is_some_and(|peer| !peer.is_linked()) {
            // A link that is open stays: who lost signaling may still be there.
            self.forget(peer, None);
        }
    }

    /// Bounded, for a server that names peers without end.
    pub(super) fn meet(&mut self, peer: PeerId) {
        if self.met.len() < MAX_MET {
            self.met.insert(peer);
        }
    }
}
