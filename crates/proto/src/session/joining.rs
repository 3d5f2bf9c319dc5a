//! How a peer comes into a session: finds one, founds one, asks, is admitted; and how two sessions become one.

use core::time::Duration;

use super::{
    DisconnectReason, Fact, JOIN_TIMEOUT, Session, Standing,
    clock::Clock,
    control::{Control, LeaveReason},
    membership::{Roster, RosterWire, SessionInfo},
};
use crate::{MemberId, PeerId, Term, Topology, signal::Leader};

/// Ticks that a clock can be set to: what a counter of 32 bits holds.
const MAX_TICKS: f64 = u32::MAX as f64;
/// A peer with a lower id that met us does not found a session within so many times the founding time: then we do.
const PATIENCE: u32 = 3;

impl Session {
    pub(super) fn entered(&mut self, me: PeerId, leader: Option<Leader>) {
        if self.me == Some(me) {
            self.named = leader.or(self.named);
            return;
        }
        if self.member().is_some() {
            // Whoever comes next knows us by another id, and our session by that of nobody.
            self.fact(Fact::Closed(DisconnectReason::Absorbed));
            self.reset();
        }
        self.me = Some(me);
        self.named = leader;
        self.into = None;
        self.standing = Standing::Seeking { since: self.now, asked: None };
        self.tell_session();
    }

    /// While we are in no session: asks whoever leads one, or founds one.
    pub(super) fn seek(&mut self) {
        let (Standing::Seeking { since, asked: None }, Some(me)) = (self.standing, self.me) else {
            return self.give_up();
        };
        let waited = self.now.saturating_sub(since);
        let preferred = self.preferred();
        if preferred == Some(me) && self.infos().next().is_none() {
            return self.found(self.named.map_or(Term(1), |named| named.term));
        }
        if let Some(leader) = self.whom_to_ask() {
            self.standing = Standing::Seeking { since, asked: Some(leader) };
            return self.say(leader, &Control::Ask);
        }
        if preferred.is_none() && self.infos().next().is_none() && waited >= self.founding(me) {
            return self.found(Term(1));
        }
        self.give_up();
    }

    /// The peer says which session it is in. Where two meet, the lower one gives way.
    pub(super) fn meet(&mut self, peer: PeerId) {
        let Some(link) = self.peers.get(&peer) else { return };
        let (info, told, greeted) = (link.info, link.told, link.types.is_some());
        if let Standing::Seeking { since, asked } = self.standing
            && asked == Some(peer)
            && info.is_none_or(|info| info.leader != peer)
        {
            // It does not lead, or no more.
            self.standing = Standing::Seeking { since, asked: None };
        }
        if self.into == Some(peer) && info.is_none() {
            self.into = None;
        }
        let Some(ours) = self.roster.info().filter(|_| self.member().is_some()) else { return };
        let deserted =
            |theirs: SessionInfo| theirs.id != ours.id || (theirs.term >= ours.term && theirs.leader != peer);
        if greeted && !self.is_leader() && self.leader() == Some(peer) && info.is_none_or(deserted) {
            // It follows another leader, who has not heard of us, or is in another session.
            return self.dissolve(info.map_or(peer, |info| info.leader));
        }
        let Some(theirs) = info else { return };
        if theirs.leader != peer {
            return;
        }
        let gives_way = if self.is_leader() {
            let higher = told.is_some_and(|told| theirs.rank() > told.rank());
            match self.named.map(|named| named.peer) {
                // No member of ours leads another session.
                _ if self.has_met(peer) => false,
                // Where signaling says who leads, that one does.
                Some(named) if named == peer => true,
                Some(named) if Some(named) == self.me => false,
                // By what each has told the other, so that both come to the same end.
                _ => higher,
            }
        } else {
            // Whoever took over from the leader that we have lost does not know of us.
            theirs.id == ours.id && theirs.term > ours.term && self.leader_is_lost()
        };
        if gives_way {
            if self.is_leader() {
                self.say_all(&Control::Absorbed(self.roster.term, peer), None);
            }
            self.dissolve(peer);
        }
    }

    /// The session is over, and we look for the one that this peer is in.
    pub(super) fn dissolve(&mut self, into: PeerId) {
        self.fact(Fact::Closed(DisconnectReason::Absorbed));
        self.reset();
        self.into = Some(into);
        self.standing = Standing::Seeking { since: self.now, asked: None };
        self.tell_session();
    }

    /// A peer asks to be admitted.
    pub(super) fn asked(&mut self, peer: PeerId) {
        if !self.is_leader() {
            let info = self.member().and_then(|_| self.roster.info());
            self.tell(peer, info);
            return;
        }
        if let Some(member) = self.roster.member(peer) {
            if !self.has_met(peer)
                && let Some(roster) = self.roster.to_wire()
            {
                // A former leader has admitted it, and it never heard.
                return self.say_welcome(peer, member, roster);
            }
            if let Some(seat) = self.roster.leave(member) {
                self.say_all(&Control::Leave(self.roster.term, member, LeaveReason::Returns), Some(peer));
                self.unseat(seat, DisconnectReason::Declared);
            }
        }
        let most = self.config.max_members();
        let Some(seat) = self.roster.admit(peer, most) else {
            let reason = DisconnectReason::Full(most as u16);
            self.say(peer, &Control::Full(most as u16));
            self.fact(Fact::Refused(peer, reason.clone()));
            return self.end_link(peer, reason);
        };
        self.say_all(&Control::Join(self.roster.term, seat), None);
        if let Some(roster) = self.roster.to_wire() {
            self.say_welcome(peer, seat.member, roster);
        }
        self.pair(peer);
    }

    /// A member asks who is in.
    pub(super) fn asked_roster(&mut self, peer: PeerId) {
        let member = self.is_leader() && self.roster.member(peer).is_some();
        if let Some(roster) = self.roster.to_wire().filter(|_| member) {
            self.say(peer, &Control::Roster(roster));
        }
    }

    /// The leader that we asked lets us in.
    pub(super) fn welcome(&mut self, peer: PeerId, you: MemberId, ticks: f64, wire: RosterWire) {
        let Standing::Seeking { asked: Some(asked), .. } = self.standing else { return };
        let (Some(me), true) = (self.me, asked == peer) else { return };
        let fits = wire.leader == peer && (0.0..MAX_TICKS).contains(&ticks);
        let Some(roster) = Roster::from_wire(wire).filter(|roster| fits && roster.member(me) == Some(you)) else {
            return self.misbehaves(peer, "a welcome that contradicts itself");
        };
        let rtt = self.peers.get(&peer).map_or(Duration::ZERO, |link| link.rtt);
        let rate = self.config.tick_rate();
        self.roster = roster;
        self.clock = Clock::new(self.now, rate);
        self.clock.set(self.now, ticks + rtt.as_secs_f64() / 2.0 * rate);
        self.admitted(you);
        self.pair(peer);
        self.pair_all();
    }

    /// The leader that we asked takes no more.
    pub(super) fn full(&mut self, peer: PeerId, most: u16) {
        if let Standing::Seeking { asked: Some(asked), .. } = self.standing
            && asked == peer
        {
            self.fact(Fact::Refused(peer, DisconnectReason::Full(most)));
            self.close(DisconnectReason::Full(most));
        }
    }

    /// Pairs with all members that are ready for it, and tells the game of those that we meet through the host.
    pub(super) fn pair_all(&mut self) {
        let seats: Vec<_> = self.roster.seats().copied().collect();
        for seat in seats {
            self.meet_member(seat.peer, seat.member);
        }
    }

    /// Pairs with a member, or tells the game of one that we meet through the host.
    pub(super) fn meet_member(&mut self, peer: PeerId, member: MemberId) {
        let through_host = self.is_guest() && self.leader() != Some(peer);
        if through_host && Some(peer) != self.me && !self.joined.contains(&peer) {
            self.joined(peer, member);
        }
        self.pair(peer);
    }

    /// Tells the peers that are no members, or do not know that they are, which session we are in, if that is news.
    pub(super) fn tell_session(&mut self) {
        let info = self.member().and_then(|_| self.roster.info());
        let news = |told: Option<SessionInfo>| {
            told.map(|told| (told.id, told.term, told.leader)) != info.map(|info| (info.id, info.term, info.leader))
        };
        let peers: Vec<PeerId> = self.peers.iter().filter(|(_, link)| news(link.told)).map(|(peer, _)| *peer).collect();
        for peer in peers {
            if self.roster.member(peer).is_none() || !self.has_met(peer) {
                self.tell(peer, info);
            }
        }
    }

    /// What is due by time.
    pub(super) fn elapsed(&mut self) {
        self.links_elapsed();
        self.claims_elapsed();
        self.succession_elapsed();
    }

    fn say_welcome(&mut self, peer: PeerId, you: MemberId, roster: RosterWire) {
        let ticks = self.clock.ticks(self.now);
        self.say(peer, &Control::Welcome { you, ticks, roster });
    }

    fn tell(&mut self, peer: PeerId, info: Option<SessionInfo>) {
        if let Some(link) = self.peers.get_mut(&peer) {
            link.told = info;
            self.say(peer, &Control::Session(info));
        }
    }

    fn found(&mut self, term: Term) {
        let Some(me) = self.me else { return };
        self.roster = Roster::found(me, self.founded, term);
        self.founded = self.founded.wrapping_add(1);
        self.clock = Clock::new(self.now, self.config.tick_rate());
        if let Some(seat) = self.roster.admit(me, self.config.max_members()) {
            self.admitted(seat.member);
        }
    }

    fn admitted(&mut self, member: MemberId) {
        self.counter = 0;
        self.into = None;
        self.standing = Standing::In(member);
        self.fact(Fact::Admitted(member));
        if let Some(leader) = self.roster.leader() {
            self.fact(Fact::Leader(leader));
        }
        self.tell_session();
    }

    /// The sessions of the peers that greeted us.
    fn infos(&self) -> impl Iterator<Item = SessionInfo> {
        let greeted = self.peers.values().filter(|link| link.types.is_some());
        greeted.filter_map(|link| link.info)
    }

    /// Who leads the session that we are to join, once we can ask it.
    fn whom_to_ask(&self) -> Option<PeerId> {
        let greeted = |peer: &PeerId| self.peers.get(peer).filter(|link| link.types.is_some());
        let info = match self.preferred().and_then(|peer| greeted(&peer)) {
            // Whoever is named knows who leads, and founds a session where there is none.
            Some(link) => link.info,
            None => self.infos().max_by_key(SessionInfo::rank),
        };
        info.map(|info| info.leader).filter(|leader| greeted(leader).is_some())
    }

    /// How long we wait before we found a session. Of the peers that have met, the one with the lowest id does.
    fn founding(&self, me: PeerId) -> Duration {
        let greeted = self.peers.iter().filter(|(_, link)| link.types.is_some());
        let lowest = greeted.map(|(peer, _)| *peer).min();
        let patience = if lowest.is_some_and(|lowest| lowest < me) { PATIENCE } else { 1 };
        self.config.founding * patience
    }

    fn give_up(&mut self) {
        if let Standing::Seeking { since, .. } = self.standing
            && since + JOIN_TIMEOUT <= self.now
        {
            self.close(DisconnectReason::Unreachable);
        }
    }

    /// Who is said to lead the session that we are to join.
    fn preferred(&self) -> Option<PeerId> {
        self.into.or_else(|| self.named.map(|named| named.peer))
    }

    /// Whether losing the link to this peer means that we cannot get in.
    pub(super) fn depends_on(&self, peer: PeerId) -> bool {
        self.config.topology == Topology::Host && self.preferred() == Some(peer)
    }
}
