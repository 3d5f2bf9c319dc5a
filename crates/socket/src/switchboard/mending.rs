//! A connection that was open is silent or lost: how does the link go on by another one?
//!
//! The consumer says that it hears nothing of a peer, or ICE gives up. Then, as long as the link above is not over, who
//! offers makes attempt after attempt beside the connection that there is, and who answers asks for them; after a second
//! the relay is tried, too. What opens first takes over; should the old one be heard again before, it stays. To do so takes
//! signaling: if nothing came from there meanwhile, it is dialled anew, with the token that brings us back to our seat. The
//! same is all that is done for a peer that is relayed to.
//!
//! That does what a restart of ICE does (RFC 8445, section 9), and does it with every pair of implementations, also where
//! DTLS or SCTP are what hangs. What was on its way by the old connection is lost: frames and messages of a link are said
//! again by its own acks, and the reliable lane begins anew.

use std::time::Duration;

use coplay_proto::{PeerId, link::CloseReason, signal::Signal};

use super::{
    Attempt, Output, Signaling, Switchboard,
    handshake::{Handshake, Role, Stage},
    mark::{Mark, Word},
    relay::Relay,
};
use crate::{SignalingState, SocketEvent};

/// How long attempts may take before the relay is tried, and how soon after one that failed it is tried again.
const RELAY_AFTER: Duration = Duration::from_secs(1);
const RELAY_AGAIN: Duration = Duration::from_secs(2);
/// How often who answers asks for an attempt.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// The least time between two attempts.
const PACE: Duration = Duration::from_secs(1);
/// Who asks has got no offer, unless one is answered within so long.
const UNHEARD: Duration = Duration::from_millis(300);
/// How long signaling may say nothing before it is dialled anew.
const PROOF: Duration = Duration::from_secs(1);
/// How long it may then take to answer: a path that came while it was dialled is only used by who dials again.
pub(super) const ANSWER: Duration = Duration::from_secs(3);
/// How long after another connection took over what the peer says may be about the one before; and how long the new one
/// may be silent.
pub(super) const FRESH: Duration = Duration::from_secs(3);
/// How long a link whose connection is lost is kept, if the consumer does not say that it is silent, and ends it itself.
const LOST: Duration = Duration::from_secs(15);

/// What there is of a peer whose connection is to be replaced.
#[derive(Debug)]
pub(super) struct Mend {
    /// The connection that there is; none once it is lost.
    pub(super) carrier: Option<Attempt>,
    /// When it was lost, or this began.
    since: Duration,
    /// When the next attempt is to begin, or to be asked for, if none runs.
    again: Duration,
}

impl Handshake {
    /// Whether the link's connection is a direct one, be it heard or not.
    pub(super) fn is_linked(&self) -> bool {
        self.stage == Stage::Open || self.mend.is_some()
    }

    /// Whether only signaling leads back to the peer: another connection is looked for, or it is relayed to and silent.
    fn awaits_signaling(&self) -> bool {
        self.mend.is_some() || self.silent && self.relayed
    }

    /// Whether another connection has only just taken over.
    pub(super) fn is_fresh(&self, now: Duration) -> bool {
        self.mended.is_some_and(|at| now < at + FRESH)
    }

    /// The link is open: it is known by the newest offer, if the peer does not know it by another.
    pub(super) fn link_begins(&mut self) {
        if self.link == 0 {
            self.link = self.offer;
        }
    }
}

impl Switchboard {
    /// The consumer hears nothing of the peer, or hears it again.
    pub(super) fn silence(&mut self, now: Duration, peer: PeerId, silent: bool) {
        let Some(handshake) = self.peers.get_mut(&peer) else { return };
        handshake.silent = silent;
        if silent {
            if handshake.awaits_signaling() {
                self.doubted.get_or_insert(now);
            }
            self.begin_mend(now, peer, false);
        } else {
            self.settle_mend(peer);
        }
    }

    /// Looks for another connection; false if that cannot be. If the one that there is is lost, it is closed.
    pub(super) fn begin_mend(&mut self, now: Duration, peer: PeerId, lost: bool) -> bool {
        let relayed = self.live(peer).is_some();
        let Some(handshake) = self.peers.get_mut(&peer) else { return false };
        if handshake.stage != Stage::Open || handshake.mend.is_some() || !handshake.marks || relayed {
            return false;
        }
        tracing::debug!(%peer, lost, "looks for another connection to a silent peer");
        self.doubted.get_or_insert(now);
        let open = handshake.attempt.take();
        (handshake.stage, handshake.tried, handshake.reached) = (Stage::Idle, 0, false);
        (handshake.relay_at, handshake.retry_at, handshake.relay_failure) = (Some(now + RELAY_AFTER), None, None);
        handshake.mend = Some(Mend { carrier: open.filter(|_| !lost), since: now, again: now });
        if lost {
            self.out.extend(open.map(Output::Stop));
        }
        true
    }

    /// Whether this is a connection that may be replaced.
    pub(super) fn is_carrier(&self, attempt: Attempt) -> bool {
        let mend = self.peers.get(&attempt.peer).and_then(|peer| peer.mend.as_ref());
        mend.is_some_and(|mend| mend.carrier == Some(attempt))
    }

    /// There is no going back to it.
    pub(super) fn carrier_lost(&mut self, attempt: Attempt) {
        if let Some(mend) = self.peers.get_mut(&attempt.peer).and_then(|peer| peer.mend.as_mut()) {
            (mend.carrier, mend.since) = (None, self.now);
            self.out.push_back(Output::Stop(attempt));
        }
    }

    /// The peer offers a connection in place of that of a link: whether that is one of ours.
    pub(super) fn may_replace(&mut self, now: Duration, from: PeerId, link: u64) -> bool {
        let relayed = self.live(from).is_some_and(Relay::is_open);
        match self.peers.get_mut(&from) {
            // It has moved to the relay on its way here.
            Some(_) if relayed => true,
            // Where it began by a relay, one of the two may know no number.
            Some(peer) if peer.is_linked() && (peer.link == link || peer.link == 0 || link == 0) => {
                self.begin_mend(now, from, false);
                true
            }
            // It was open there, and not here: nothing of the link has come yet.
            Some(peer) if !peer.is_linked() && (peer.offer == link || peer.link == link) => {
                peer.link = link;
                true
            }
            Some(_) => false,
            None => {
                self.say(from, Word::Gone(link));
                false
            }
        }
    }

    /// The peer answers an offer: it may be of a link that is over here.
    pub(super) fn is_over(&mut self, from: PeerId, mark: Option<Mark>) -> bool {
        let link = mark.and_then(|mark| mark.mends).filter(|_| !self.peers.contains_key(&from));
        if let Some(link) = link {
            self.say(from, Word::Gone(link));
        }
        link.is_some()
    }

    /// What the peer says of a link.
    pub(super) fn word(&mut self, now: Duration, from: PeerId, word: Word) {
        let known = self.peers.get_mut(&from);
        match (word, known) {
            (Word::Ask(link), None) => self.say(from, Word::Gone(link)),
            (Word::Ask(_), Some(peer)) if peer.role == Role::Offers && peer.is_linked() && !peer.is_fresh(now) => {
                if peer.stage == Stage::Started {
                    // What it waits for may be on its way.
                    peer.unheard_at.get_or_insert(now + UNHEARD);
                } else {
                    self.begin_mend(now, from, false);
                }
            }
            (Word::Gone(link), Some(peer)) if peer.is_linked() && peer.link == link => {
                let why = "the peer had not heard of us for too long, and has closed the connection";
                self.close(from, CloseReason::Failed(why.into()));
            }
            _ => {}
        }
    }

    fn say(&mut self, to: PeerId, word: Word) {
        self.send(to, Signal::IceCandidate(word.write()));
    }

    /// An attempt to make another connection came to nothing.
    pub(super) fn mend_failed(&mut self, attempt: Attempt) {
        let Some(handshake) = self.peers.get_mut(&attempt.peer) else { return };
        (handshake.attempt, handshake.stage) = (None, Stage::Idle);
        self.out.push_back(Output::Stop(attempt));
        self.settle_mend(attempt.peer);
    }

    /// A relay in place of the silent connection did not come to be.
    pub(super) fn mend_by_relay_failed(&mut self, peer: PeerId) {
        let Some(handshake) = self.peers.get_mut(&peer) else { return };
        if handshake.stage == Stage::Open {
            return self.mended(peer);
        }
        handshake.relay_at = Some(self.now + RELAY_AGAIN);
        self.settle_mend(peer);
    }

    /// Nothing is under way: if the peer is heard, all stays as it was.
    fn settle_mend(&mut self, peer: PeerId) {
        let relaying = self.live(peer).is_some();
        let Some(handshake) = self.peers.get_mut(&peer) else { return };
        let idle = handshake.attempt.is_none() && !handshake.silent && !relaying;
        if let Some(carrier) = handshake.mend.as_ref().filter(|_| idle).and_then(|mend| mend.carrier) {
            (handshake.attempt, handshake.stage, handshake.mend) = (Some(carrier), Stage::Open, None);
            handshake.relay_at = None;
        }
    }

    /// The other connection is open.
    pub(super) fn mended(&mut self, peer: PeerId) {
        let Some(handshake) = self.peers.get_mut(&peer) else { return };
        let (Some(mend), Some(attempt)) = (handshake.mend.take(), handshake.attempt) else { return };
        (handshake.mended, handshake.relay_at) = (Some(self.now), None);
        self.out.push_back(Output::Mended(attempt));
        self.out.extend(mend.carrier.map(Output::Stop));
    }

    /// The relay is open that is to take the place of a connection; false if there is none.
    pub(super) fn mended_by_relay(&mut self, relay: Attempt) -> bool {
        let Some(handshake) = self.peers.get_mut(&relay.peer) else { return false };
        let Some(mend) = handshake.mend.take() else { return false };
        // What is tried now goes on, and is tried again.
        (handshake.mended, handshake.pauses, handshake.tried) = (Some(self.now), 0, 0);
        self.out.push_back(Output::MendedByRelay(relay));
        self.out.extend(mend.carrier.map(Output::Stop));
        true
    }

    /// Another attempt that is to be made after a pause is made at once: there was a direct way only just now, and what was
    /// tried for another may have been lost with the connection to signaling.
    pub(super) fn retry_soon(&mut self, now: Duration, peer: PeerId) {
        let Some(handshake) = self.peers.get_mut(&peer) else { return };
        handshake.retry_at = handshake.retry_at.map(|_| now);
        handshake.pauses = 0;
    }

    /// The peer says hello by the relay for a link that is open on its side: whether it is here, and is to go there.
    pub(super) fn may_relay(&mut self, now: Duration, peer: PeerId) -> bool {
        let Some(handshake) = self.peers.get(&peer).filter(|peer| !peer.is_fresh(now)) else { return false };
        handshake.mend.is_some() || self.begin_mend(now, peer, false)
    }

    /// Signaling is there again: what was said last may be lost.
    pub(super) fn mend_again(&mut self, now: Duration) {
        let mut unanswered = Vec::new();
        for (peer, handshake) in &mut self.peers {
            let Some(mend) = &mut handshake.mend else { continue };
            mend.again = now;
            // One that is being made says its hellos again.
            handshake.relay_at = (!handshake.relayed).then_some(now + RELAY_AFTER);
            if handshake.stage == Stage::Started && handshake.role == Role::Offers {
                unanswered.push(*peer);
            }
        }
        for peer in unanswered {
            self.start(now, peer, true);
        }
    }

    /// Whether there is anybody to whom only signaling leads back.
    pub(super) fn awaits_signaling(&self) -> bool {
        self.peers.values().any(Handshake::awaits_signaling)
    }

    /// Time has passed.
    pub(super) fn mends_elapsed(&mut self, now: Duration) {
        let stale = self.peers.iter().filter(|(_, peer)| peer.stale_at().is_some_and(|at| at <= now));
        for peer in stale.map(|(&peer, _)| peer).collect::<Vec<_>>() {
            self.begin_mend(now, peer, false);
        }
        let up = self.is_up();
        let (mut due, mut over) = (Vec::new(), Vec::new());
        for (peer, handshake) in &mut self.peers {
            let silent = handshake.silent;
            let Some(mend) = &mut handshake.mend else { continue };
            if mend.over_at(silent).is_some_and(|at| at <= now) {
                over.push(*peer);
            } else if handshake.attempt.is_none() && up && mend.again <= now {
                mend.again = now + ASK_EVERY;
                due.push((*peer, handshake.role, handshake.link));
            }
        }
        for peer in over {
            let why = "the connection was lost, and no other could be made";
            self.close(peer, CloseReason::Failed(why.into()));
        }
        for (peer, role, link) in due {
            match role {
                Role::Offers => _ = self.start(now, peer, true),
                Role::Answers => self.say(peer, Word::Ask(link)),
            }
        }
        if let Some(since) = self.doubted.filter(|since| *since + PROOF <= now) {
            self.doubted = None;
            // A network that went away tells nobody.
            if self.heard < since && self.is_up() && self.resume.is_some() {
                let reason = "nothing comes from it, nor from a peer".to_owned();
                self.event(SocketEvent::Signaling(SignalingState::Lost { reason }));
                self.signaling = Signaling::Down { again: now };
            }
        }
    }

    pub(super) fn mends_deadline(&self) -> Option<Duration> {
        let up = self.is_up();
        let doubted = self.doubted.map(|since| since + PROOF);
        self.peers.values().filter_map(|peer| peer.mend_deadline(up)).chain(doubted).min()
    }
}

impl Handshake {
    /// When another connection is to be looked for because that which took over is silent as well.
    fn stale_at(&self) -> Option<Duration> {
        let silent = self.silent && self.mend.is_none() && self.stage == Stage::Open && !self.relayed;
        self.mended.filter(|_| silent && self.marks).map(|at| at + FRESH)
    }

    fn mend_deadline(&self, up: bool) -> Option<Duration> {
        let Some(mend) = &self.mend else { return self.stale_at() };
        let again = (up && self.attempt.is_none()).then_some(mend.again);
        again.into_iter().chain(mend.over_at(self.silent)).min()
    }
}

impl Mend {
    /// An attempt begins.
    pub(super) fn begins(&mut self, now: Duration) {
        self.again = now + PACE;
    }

    /// When there is no more hope, if the consumer does not decide that.
    fn over_at(&self, silent: bool) -> Option<Duration> {
        (self.carrier.is_none() && !silent).then_some(self.since + LOST)
    }
}
