//! When does a pair go by the signaling server, what becomes of it there, and how does it get away from there again?
//!
//! A relay begins when WebRTC has failed or not opened in [`SocketConfig::relay_after`](crate::SocketConfig::relay_after), or when the peer says hello. While
//! it carries, who offers tries WebRTC again with growing pauses. Once that is open on both sides, each has its platform
//! send by it from now on, says so as the last thing by the relay, and takes what comes by WebRTC only after the peer's last
//! has come by the relay: nothing is lost, doubled or out of order.

use std::time::Duration;

use bytes::Bytes;
use coplay_proto::{
    Lane, PeerId,
    link::CloseReason,
    signal::{
        ClientMessage, Report, ReportedPath,
        relay::{FrameKind, RelayFrame, RelayOffer},
    },
};

use super::{
    Attempt, MAX_PEERS, Output, Signaling, Switchboard,
    handshake::{Handshake, Role, Stage},
    relay::{self, Heard, Moving, OVERHEAD, Relay, pace::Pace},
};
use crate::{PathKind, RelayPolicy, SendError};

/// How long what was said last is repeated, or acked again, before a relay is forgotten.
const PARTING: Duration = Duration::from_secs(2);
/// The longest pause before WebRTC is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The longest reason that is told to a peer, in bytes.
const MAX_REASON: usize = 200;

impl Switchboard {
    /// Whether the attempt's datagrams may be sent: it carries the peer, or will as soon as the peer has moved, too.
    pub(crate) fn may_send(&self, attempt: Attempt) -> bool {
        self.carries(attempt, |moving| moving.leaving)
    }

    /// Whether the attempt's connection is the one that there is: if it takes over from a relay, after so much of the move.
    pub(super) fn carries(&self, attempt: Attempt, has_moved: impl Fn(&Moving) -> bool) -> bool {
        let Some(peer) = self.peers.get(&attempt.peer) else { return false };
        match &peer.mend {
            Some(mend) => mend.carrier == Some(attempt),
            None => {
                let moved = self.live(attempt.peer).is_none_or(|relay| has_moved(&relay.moving));
                peer.attempt == Some(attempt) && peer.stage == Stage::Open && moved
            }
        }
    }

    /// Whether a relay takes another datagram on the reliable lane.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn relay_has_room(&self, attempt: Attempt) -> bool {
        self.relay_of(attempt).is_some_and(|relay| relay.out.has_room())
    }

    /// The last round trip through the server.
    pub(crate) fn relay_rtt(&self, attempt: Attempt) -> Option<Duration> {
        self.relay_of(attempt)?.out.rtt
    }

    /// Has a datagram relayed to a peer.
    pub(crate) fn relay(&mut self, now: Duration, attempt: Attempt, lane: Lane, bytes: Bytes) -> Result<(), SendError> {
        let up = self.is_up();
        let Some(relay) = self.relays.get_mut(&attempt.peer).filter(|relay| relay.carries(attempt)) else {
            return Err(SendError::UnknownPeer);
        };
        match lane {
            Lane::Reliable if relay.out.has_room() => relay.out.push(now, 0, bytes),
            Lane::Reliable => return Err(SendError::Full),
            Lane::Unreliable => {
                let pace = self.pace.as_mut().filter(|_| up).ok_or(SendError::Full)?;
                if !pace.spare(now, bytes.len() + OVERHEAD) {
                    return Err(SendError::Full);
                }
                self.out.extend(relay.unreliable(&bytes).map(Output::Relay));
            }
        }
        self.pump(now);
        Ok(())
    }

    /// The platform has handed over everything that is to go by this relay.
    pub(super) fn drained(&mut self, now: Duration, attempt: Attempt) {
        if let Some(relay) = self.relays.get_mut(&attempt.peer).filter(|relay| relay.carries(attempt))
            && relay.moving.leaving
            && !relay.moving.left
        {
            relay.moving.left = true;
            relay.out.push(now, relay::MOVED, Bytes::new());
            self.pump(now);
        }
    }

    /// The server relays so much, or nothing.
    pub(super) fn offered(&mut self, now: Duration, offer: Option<RelayOffer>) {
        self.pace = offer.filter(|_| self.config.relay != RelayPolicy::Never).map(|offer| Pace::new(now, offer));
        if self.pace.is_none() {
            self.close_relays("signaling does not relay any more");
        }
        for relay in self.relays.values_mut() {
            // What was on its way when signaling was lost is lost with it.
            relay.out.rewind(now);
        }
    }

    /// Ends what goes by the server, for it is not there for us any more.
    pub(super) fn close_relays(&mut self, why: &str) {
        for peer in self.relays.keys().copied().collect::<Vec<_>>() {
            if self.live(peer).is_some_and(Relay::is_open) {
                self.close(peer, CloseReason::Failed(format!("it was relayed by signaling: {why}")));
            } else if self.live(peer).is_some() {
                self.relay_failed(peer, why);
            }
        }
        self.relays.clear();
    }

    /// Tells everyone who is relayed to that this is the end, as far as that can be said at once.
    pub(crate) fn leave(&mut self, now: Duration) {
        let up = self.is_up();
        for (_, mut relay) in std::mem::take(&mut self.relays).into_iter().filter(|_| up) {
            if relay.is_open() && relay.parting.is_none() && !relay.moving.leaving {
                relay.out.push(now, relay::FAREWELL, Bytes::new());
            }
            while let Some(frame) = relay.next(now) {
                self.out.push_back(Output::Relay(frame));
            }
        }
    }

    /// Begins to relay to a peer; false if that cannot be.
    pub(super) fn start_relay(&mut self, now: Duration, peer: PeerId) -> bool {
        let (Some(me), Some(_), true) = (self.me, &self.pace, self.relays.len() < 2 * MAX_PEERS) else { return false };
        if self.config.relay == RelayPolicy::Never || !self.is_up() {
            return false;
        }
        self.attempts += 1;
        let attempt = Attempt { peer, number: self.attempts };
        let only = self.config.relay == RelayPolicy::Only;
        let Some(mut relay) = Relay::new(now, attempt, me, self.room.clone(), only) else { return false };
        let Some(handshake) = self.peers.get_mut(&peer) else { return false };
        (handshake.relayed, handshake.relay_at) = (true, None);
        relay.mends = handshake.mend.is_some();
        self.out.push_back(Output::Relay(relay.hello(now)));
        self.relays.insert(peer, relay);
        true
    }

    /// A frame from the server.
    pub(super) fn relayed(&mut self, now: Duration, frame: Bytes) {
        let Some(RelayFrame { peer, kind, body }) = RelayFrame::read(frame) else { return };
        if self.pace.is_none() || Some(peer) == self.me {
            return;
        }
        match kind {
            FrameKind::Hello => self.greeted(now, peer, &body),
            FrameKind::Refused => {
                if self.live(peer).is_some_and(|relay| !relay.is_open()) {
                    self.relay_failed(peer, "the peer cannot be reached by it");
                }
            }
            FrameKind::Unreliable | FrameKind::Reliable => {
                let Some(relay) = self.relays.get_mut(&peer) else { return };
                let attempt = relay.attempt;
                let heard = relay.take(now, kind, &body);
                if relay.parting.is_none() {
                    match heard {
                        Ok(heard) => self.heard(attempt, heard),
                        Err(why) => {
                            let why = format!("the peer sent by the relay what makes no sense: {why}");
                            self.close(peer, CloseReason::Failed(why));
                        }
                    }
                }
                self.end_move(now, peer);
            }
        }
        self.pump(now);
    }

    fn greeted(&mut self, now: Duration, peer: PeerId, body: &[u8]) {
        if self.live(peer).is_none() {
            let linked = self.peers.get(&peer).is_some_and(Handshake::is_linked);
            let mends = relay::mends(body);
            // One for a link is for who has it.
            if !relay::asks(body) || mends && !linked {
                return;
            }
            if linked && !(mends && self.may_relay(now, peer)) {
                return self.out.push_back(Output::Relay(relay::direct(peer)));
            }
            let known = self.peers.contains_key(&peer);
            if !known && (self.is_led_by_former() || !self.has_room(peer)) {
                return;
            }
            self.meet(peer);
            let config = &self.config;
            let tried = self.peers.entry(peer).or_insert_with(|| Handshake::new(Role::Answers, now, config)).tried;
            if !self.start_relay(now, peer) {
                if tried == 0 && !linked {
                    self.forget(peer, None);
                }
                return;
            }
        }
        let Some(relay) = self.relays.get_mut(&peer) else { return };
        let greeted = relay.greeted(now, body);
        if greeted.anew {
            self.close(peer, CloseReason::Failed("the peer connects anew".into()));
            self.relays.remove(&peer);
            return self.greeted(now, peer, body);
        }
        if greeted.direct {
            return self.relay_failed(peer, "the peer is connected directly");
        }
        if greeted.reply {
            self.out.push_back(Output::Relay(relay.hello(now)));
        }
        if greeted.opened {
            let (attempt, direct) = (relay.attempt, !relay.only_there);
            let mended = self.mended_by_relay(attempt);
            if !mended {
                self.out.push_back(Output::RelayOpen(attempt));
                self.report(Report::Path(ReportedPath::Websocket));
            }
            let Some(handshake) = self.peers.get_mut(&peer) else { return };
            handshake.reported = true;
            if handshake.role == Role::Offers {
                handshake.link_begins();
            }
            match handshake.stage {
                Stage::Open => self.direct_opened(now, peer),
                Stage::Idle if direct => {
                    self.retry_later(now, peer);
                    if mended {
                        self.retry_soon(now, peer);
                    }
                }
                _ => {}
            }
        }
    }

    fn heard(&mut self, attempt: Attempt, heard: Heard) {
        let peer = attempt.peer;
        let Some(moving) = self.relays.get_mut(&peer).map(|relay| &mut relay.moving) else { return };
        match heard {
            Heard::Nothing => {}
            // After its last word it has nothing to say here.
            Heard::Datagram(..) | Heard::Ready if moving.there_left => {}
            Heard::Datagram(lane, bytes) => self.out.push_back(Output::Received(attempt, lane, bytes)),
            Heard::Ready => {
                moving.there_open = true;
                self.begin_move(peer);
            }
            Heard::Moved if moving.leaving => {
                moving.there_left = true;
                if let Some(direct) = self.peers.get(&peer).and_then(|peer| peer.attempt) {
                    self.out.push_back(Output::Admit(direct));
                }
            }
            Heard::Moved => {
                let why = "the connection was lost when it was to go over to a direct one";
                self.close(peer, CloseReason::Failed(why.into()));
            }
            Heard::Farewell(why) => {
                let reason = if why.is_empty() { CloseReason::Goodbye } else { CloseReason::Failed(why) };
                self.close(peer, reason);
            }
        }
    }

    /// WebRTC is open here, to a peer that is relayed to.
    pub(super) fn direct_opened(&mut self, now: Duration, peer: PeerId) {
        if let Some(relay) = self.relays.get_mut(&peer)
            && !relay.moving.here_open
        {
            relay.moving.here_open = true;
            relay.out.push(now, relay::READY, Bytes::new());
            self.begin_move(peer);
            self.pump(now);
        }
    }

    fn begin_move(&mut self, peer: PeerId) {
        let direct = self.peers.get(&peer).and_then(|peer| peer.attempt);
        if let (Some(direct), Some(relay)) = (direct, self.relays.get_mut(&peer))
            && relay.moving.here_open
            && relay.moving.there_open
            && !relay.moving.leaving
        {
            relay.moving.leaving = true;
            self.out.push_back(Output::Moved(direct));
        }
    }

    fn end_move(&mut self, now: Duration, peer: PeerId) {
        let Some(relay) = self.relays.get_mut(&peer).filter(|relay| relay.parting.is_none()) else { return };
        if relay.has_moved() {
            relay.parting = Some(now + PARTING);
            self.out.push_back(Output::Stop(relay.attempt));
            if let Some(handshake) = self.peers.get_mut(&peer) {
                (handshake.relayed, handshake.pauses) = (false, 0);
            }
        }
    }

    /// A relay did not come to be. WebRTC may be open meanwhile, or on its way; else this is the end.
    fn relay_failed(&mut self, peer: PeerId, why: &str) {
        self.relays.remove(&peer);
        let Some(handshake) = self.peers.get_mut(&peer) else { return };
        handshake.relayed = false;
        if handshake.mend.is_some() {
            return self.mend_by_relay_failed(peer);
        }
        handshake.relay_failure.get_or_insert_with(|| why.to_owned());
        match (handshake.stage, handshake.attempt) {
            (Stage::Open, Some(_)) => self.opened(peer),
            (_, Some(_)) => {}
            (_, None) => self.no_path(peer),
        }
    }

    /// Has WebRTC tried again after a pause, if it is ours to offer.
    pub(super) fn retry_later(&mut self, now: Duration, peer: PeerId) {
        let (first, policy) = (self.config.relay_retry, self.config.relay);
        let only_there = self.live(peer).is_none_or(|relay| relay.only_there || !relay.is_open());
        let Some(handshake) = self.peers.get_mut(&peer) else { return };
        if handshake.role == Role::Offers && policy == RelayPolicy::Allowed && !only_there {
            let pause = first.saturating_mul(1 << handshake.pauses.min(16)).min(LONGEST_PAUSE.max(first));
            handshake.pauses += 1;
            handshake.retry_at = Some(now + pause);
        }
    }

    /// Ends the relay to a peer, with a word to it; what is acked and said again meanwhile is nobody else's business.
    pub(super) fn part(&mut self, peer: PeerId, reason: Option<&CloseReason>) {
        let Some(relay) = self.relays.get_mut(&peer).filter(|relay| relay.parting.is_none()) else { return };
        let attempt = relay.attempt;
        if relay.is_open() {
            relay.parting = Some(self.now + PARTING);
            let word = match reason {
                Some(CloseReason::Goodbye) => None,
                Some(CloseReason::Failed(why)) => Some(why.as_str()),
                _ => Some(""),
            };
            if let Some(word) = word {
                let word = word.get(..word.floor_char_boundary(MAX_REASON)).unwrap_or_default();
                relay.out.push(self.now, relay::FAREWELL, Bytes::copy_from_slice(word.as_bytes()));
            }
        } else {
            self.relays.remove(&peer);
        }
        self.out.push_back(Output::Stop(attempt));
        self.pump(self.now);
    }

    /// Time has passed.
    pub(super) fn relays_elapsed(&mut self, now: Duration) {
        let up = self.is_up();
        for peer in self.relays.keys().copied().collect::<Vec<_>>() {
            let Some(relay) = self.relays.get_mut(&peer) else { continue };
            match (relay.parting, relay.hello_due()) {
                (Some(until), _) => {
                    if until <= now || !relay.out.elapsed(now) {
                        self.relays.remove(&peer);
                    }
                }
                (None, Some((_, until))) if until <= now => self.relay_failed(peer, "the peer does not answer by it"),
                (None, Some((at, _))) if at <= now && up => {
                    let hello = relay.hello(now);
                    self.out.push_back(Output::Relay(hello));
                }
                (None, Some(_)) => {}
                (None, None) => {
                    if !relay.out.elapsed(now) {
                        let why = "what is relayed to the peer does not arrive any more";
                        self.close(peer, CloseReason::Failed(why.into()));
                        self.relays.remove(&peer);
                    }
                }
            }
        }
        self.pump(now);
    }

    pub(super) fn relays_deadline(&self) -> Option<Duration> {
        let up = self.is_up();
        let one = |relay: &Relay| match relay.hello_due() {
            Some((at, until)) => Some(if up { at.min(until) } else { until }),
            None => {
                // One that there is no room for is due when there is.
                let ack = relay.ack_at().filter(|_| up).map(|at| self.pump_at.map_or(at, |pump| at.max(pump)));
                relay.out.deadline().into_iter().chain(relay.parting).chain(ack).min()
            }
        };
        self.relays.values().filter_map(one).chain(self.pump_at.filter(|_| up)).min()
    }

    /// Sends what is due and what there is room for, one peer after the other.
    fn pump(&mut self, now: Duration) {
        self.pump_at = None;
        let (true, Some(pace)) = (self.is_up(), &mut self.pace) else { return };
        for relay in self.relays.values_mut().filter(|relay| relay.ack_at().is_some_and(|at| at <= now)) {
            if !pace.take(now, OVERHEAD) {
                self.pump_at = Some(now + pace.wait(now, OVERHEAD));
                return;
            }
            self.out.extend(relay.ack().map(Output::Relay));
        }
        loop {
            let waits = |relay: &&mut Relay| relay.out.next_length().is_some();
            let after = self.relays.range_mut((std::ops::Bound::Excluded(self.served), std::ops::Bound::Unbounded));
            let next = after.map(|(_, relay)| relay).find(waits);
            let next = match next {
                Some(relay) => Some(relay),
                None => self.relays.values_mut().find(waits),
            };
            let Some((relay, length)) = next.and_then(|relay| relay.out.next_length().map(|length| (relay, length)))
            else {
                return;
            };
            if !pace.take(now, length + OVERHEAD) {
                self.pump_at = Some(now + pace.wait(now, length + OVERHEAD));
                return;
            }
            self.served = relay.attempt.peer;
            self.out.extend(relay.next(now).map(Output::Relay));
        }
    }

    /// Tells signaling how connecting went, for its counters.
    pub(super) fn report(&mut self, report: Report) {
        if self.is_up() && self.dialer.dialect() == crate::Dialect::Coplay {
            self.out.push_back(Output::Send(ClientMessage::Report(report)));
        }
    }

    /// The path of an attempt is known.
    pub(super) fn path_found(&mut self, attempt: Attempt, kind: PathKind) {
        let path = match kind {
            PathKind::Host => ReportedPath::Host,
            PathKind::ServerReflexive | PathKind::PeerReflexive => ReportedPath::Srflx,
            PathKind::Relay => ReportedPath::Relay,
            PathKind::Memory | PathKind::WebSocket => return,
        };
        if self.is_open(attempt)
            && let Some(peer) = self.peers.get_mut(&attempt.peer).filter(|peer| !peer.reported)
        {
            peer.reported = true;
            self.report(Report::Path(path));
        }
    }

    /// The relay to a peer, until one of the two ended it.
    pub(super) fn live(&self, peer: PeerId) -> Option<&Relay> {
        self.relays.get(&peer).filter(|relay| relay.parting.is_none())
    }

    fn relay_of(&self, attempt: Attempt) -> Option<&Relay> {
        self.relays.get(&attempt.peer).filter(|relay| relay.carries(attempt))
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.signaling, Signaling::Up { .. })
    }
}

impl Relay {
    /// Whether datagrams of this attempt go by it.
    fn carries(&self, attempt: Attempt) -> bool {
        self.attempt == attempt && self.is_open() && self.parting.is_none() && !self.moving.left
    }
}
