//! How is a connection tried, again, and given up for another way?

use std::time::Duration;

use coplay_proto::{PeerId, link::CloseReason, signal::Signal};

use super::{
    Attempt, Output, Switchboard,
    handshake::{Handshake, Role, Servers, Stage},
    relay,
};
use crate::RelayPolicy;

impl Switchboard {
    /// Starts the peer's next attempt in place of the one before.
    pub(super) fn start(&mut self, now: Duration, peer: PeerId, offer: bool) -> Attempt {
        self.attempts += 1;
        let attempt = Attempt { peer, number: self.attempts };
        if let Some(relay) = self.relays.get_mut(&peer) {
            relay.moving = relay::Moving::default();
        }
        if let Some(old) = self.peers.get_mut(&peer).and_then(|peer| peer.start(now, attempt, &self.config)) {
            self.out.push_back(Output::Stop(old));
        }
        self.out.push_back(Output::Start { attempt, ice_servers: self.ice_servers.clone(), offer });
        attempt
    }

    pub(super) fn describe(&mut self, attempt: Attempt, signal: Signal) {
        self.out.push_back(Output::Describe(attempt, signal));
        for candidate in self.peers.get_mut(&attempt.peer).map(Handshake::described_there).into_iter().flatten() {
            self.out.push_back(Output::Candidate(attempt, candidate));
        }
    }

    /// The attempt came to nothing: the next one, or none.
    pub(super) fn attempt_failed(&mut self, now: Duration, attempt: Attempt, why: &str) {
        if !self.is_current(attempt) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&attempt.peer) else { return };
        tracing::debug!(peer = %attempt.peer, why, number = attempt.number, "an attempt to connect failed");
        if peer.mend.is_some() {
            return self.mend_failed(attempt);
        }
        if peer.role == Role::Offers && peer.may_try_again(now, &self.config) {
            self.start(now, attempt.peer, true);
        } else if peer.role == Role::Answers && peer.give_up_at > now {
            // The offer is the peer's to make again.
            peer.attempt = None;
            peer.stage = Stage::Idle;
            self.out.push_back(Output::Stop(attempt));
        } else {
            self.give_up(now, attempt.peer);
        }
    }

    /// One more attempt to a peer that is relayed to.
    pub(super) fn retry(&mut self, now: Duration, peer: PeerId) {
        let Some(handshake) = self.peers.get_mut(&peer) else { return };
        handshake.retry_at = None;
        handshake.tried = self.config.handshake_attempts.max(1) - 1;
        handshake.reached = false;
        self.start(now, peer, true);
    }

    /// WebRTC does not work: it is to be relayed, or this is the end.
    pub(super) fn give_up(&mut self, now: Duration, peer: PeerId) {
        let only = self.config.relay == RelayPolicy::Only;
        let Some(handshake) = self.peers.get_mut(&peer) else { return };
        if handshake.tried == 0 && !handshake.relayed && !only {
            // Candidates whose offer never came.
            return self.forget(peer, None);
        }
        let (relayed, refused) = (handshake.relayed, handshake.relay_failure.is_some());
        // Who answers no signals answers no relay either, and would only keep who waits from knowing.
        let pointless = refused || (handshake.is_unheard() && !only);
        if relayed || (!pointless && self.start_relay(now, peer)) {
            if let Some(attempt) = self.peers.get_mut(&peer).and_then(Handshake::rest) {
                self.out.push_back(Output::Stop(attempt));
            }
            if let Some(relay) = self.relays.get_mut(&peer) {
                relay.moving = relay::Moving::default();
            }
            return self.retry_later(now, peer);
        }
        self.no_path(peer);
    }

    /// There is no connection, and why.
    pub(super) fn no_path(&mut self, peer: PeerId) {
        let Some(handshake) = self.peers.get(&peer) else { return };
        let reason = handshake.verdict(self.config.ice_transport_policy, &Servers::of(&self.ice_servers));
        self.close(peer, reason);
    }

    /// Whether a TURN server is named.
    pub(super) fn has_turn(&self) -> bool {
        self.ice_servers.iter().flat_map(|server| &server.urls).any(|url| url.starts_with("turn"))
    }

    /// The peer sent what no WebRTC peer sends. An open connection does not suffer from it.
    pub(super) fn refuse(&mut self, peer: PeerId, why: &'static str) {
        tracing::warn!(%peer, why, "refused a signal");
        if self.peers.get(&peer).is_some_and(|peer| !peer.is_linked()) {
            self.close(peer, CloseReason::Failed(format!("the peer sent a signal that cannot be used: {why}")));
        }
    }
}
