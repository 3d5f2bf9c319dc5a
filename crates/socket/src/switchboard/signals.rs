//! What comes and goes between two sockets by way of signaling: descriptions, candidates, and words of ours?

use std::time::Duration;

use coplay_proto::{
    PeerId,
    link::CloseReason,
    signal::{ClientMessage, Signal},
};

use super::{
    MAX_PEERS, Output, Signaling, Switchboard,
    handshake::{self, Handshake, MAX_CANDIDATE, Role},
    mark::{Mark, Word},
};
use crate::RelayPolicy;

impl Switchboard {
    pub(super) fn signal(&mut self, now: Duration, from: PeerId, signal: Signal) {
        self.meet(from);
        let (mark, signal) = match signal {
            Signal::Offer(sdp) => {
                let (mark, sdp) = Mark::take(&sdp);
                (mark, Signal::Offer(sdp))
            }
            Signal::Answer(sdp) => {
                let (mark, sdp) = Mark::take(&sdp);
                (mark, Signal::Answer(sdp))
            }
            Signal::IceCandidate(candidate) => match Word::read(&candidate) {
                Some(word) => return self.word(now, from, word),
                None => (None, Signal::IceCandidate(candidate)),
            },
        };
        if matches!(signal, Signal::Answer(_)) && self.is_over(from, mark) {
            return;
        }
        let marks = mark.is_some() && self.config.mends();
        let known = self.peers.get(&from);
        match signal {
            _ if known.is_none() && self.is_led_by_former() => {
                tracing::debug!(peer = %from, "refused a signal from a peer that another is to be connected with");
            }
            // Signaling named the peer new to us, so the offer is ours to make.
            Signal::Offer(_) if known.is_some_and(|peer| peer.role == Role::Offers) => {
                tracing::debug!(peer = %from, "refused an offer from a peer that was to wait for ours");
            }
            Signal::Answer(_) if !known.is_some_and(|peer| peer.awaits_answer().is_some_and(|it| it.answers(mark))) => {
                tracing::debug!(peer = %from, "refused an answer that nothing was asked for");
            }
            Signal::Offer(ref sdp) | Signal::Answer(ref sdp) if let Err(why) = handshake::check(sdp) => {
                self.refuse(from, why);
            }
            Signal::Offer(_) if self.config.relay == RelayPolicy::Only => {
                // By what the peer asks for, there is no connection here; but there is the relay.
                if known.is_none() && self.has_room(from) {
                    self.peers.insert(from, Handshake::new(Role::Answers, now, &self.config));
                    if !self.start_relay(now, from) {
                        self.give_up(now, from);
                    }
                }
            }
            Signal::IceCandidate(_) if self.config.relay == RelayPolicy::Only => {}
            Signal::Offer(_) => {
                let replaces = match mark {
                    Some(Mark { mends: Some(link), .. }) if !self.may_replace(now, from, link) => return,
                    Some(Mark { mends, .. }) => mends.is_some(),
                    None => false,
                };
                let known = self.peers.get(&from);
                // One that is still relayed to had no luck with the one before.
                let relayed = self.live(from).is_some_and(|relay| !relay.moving.leaving);
                if !relayed && !replaces && known.is_some_and(Handshake::is_linked) {
                    // It only offers again if the connection did not open, or ended, on its side.
                    self.close(from, CloseReason::Failed("the peer connects anew".into()));
                }
                if !self.peers.contains_key(&from) {
                    if !self.has_room(from) {
                        return;
                    }
                    self.peers.insert(from, Handshake::new(Role::Answers, now, &self.config));
                }
                let attempt = self.start(now, from, false);
                if let Some(peer) = self.peers.get_mut(&from) {
                    (peer.marks, peer.offer) = (marks, mark.map_or(0, |mark| mark.offer));
                }
                self.describe(attempt, signal);
            }
            Signal::Answer(_) => {
                let awaits = known.and_then(Handshake::awaits_answer);
                if let Some(peer) = self.peers.get_mut(&from) {
                    peer.marks = marks;
                }
                if let Some(attempt) = awaits {
                    self.describe(attempt, signal);
                }
            }
            Signal::IceCandidate(candidate) if candidate.len() > MAX_CANDIDATE => {
                tracing::debug!(peer = %from, "refused a candidate that is too long");
            }
            Signal::IceCandidate(candidate) => {
                if known.is_none() {
                    // It overtook its offer. Kept for as long as an attempt may take.
                    if !self.has_room(from) {
                        return;
                    }
                    self.peers.insert(from, Handshake::new(Role::Answers, now, &self.config));
                }
                if let Some(peer) = self.peers.get_mut(&from)
                    && let Some((attempt, candidate)) = peer.candidate(candidate)
                {
                    self.out.push_back(Output::Candidate(attempt, candidate));
                }
            }
        }
    }

    pub(super) fn send(&mut self, receiver: PeerId, data: Signal) {
        if matches!(self.signaling, Signaling::Up { .. }) {
            self.out.push_back(Output::Send(ClientMessage::Signal { receiver, data }));
        }
    }

    /// Sends a description, with what others of ours are to know of it.
    pub(super) fn send_description(&mut self, receiver: PeerId, signal: Signal) {
        let Some(peer) = self.peers.get(&receiver).filter(|_| self.config.mends()) else {
            return self.send(receiver, signal);
        };
        let (offer, mends) = (peer.offer, peer.mend.as_ref().map(|_| peer.link));
        let signal = match signal {
            Signal::Offer(sdp) => Signal::Offer(Mark { offer, mends }.put(&sdp)),
            Signal::Answer(sdp) if peer.marks => Signal::Answer(Mark { offer, mends }.put(&sdp)),
            signal => signal,
        };
        self.send(receiver, signal);
    }

    pub(super) fn has_room(&self, peer: PeerId) -> bool {
        let room = self.peers.len() < MAX_PEERS;
        if !room {
            tracing::warn!(%peer, "refused a peer: {MAX_PEERS} are connected");
        }
        room
    }
}
