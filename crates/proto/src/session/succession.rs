//! Who leads a mesh when its leader is gone, and how the others come to follow.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::{
    DisconnectReason, Fact, Session,
    config::{MEETING, RELINK},
    control::{Control, LeaveReason},
    membership::{Roster, RosterWire, Seat},
};
use crate::{MemberId, PeerId, Term, Topology};

/// What we know of the leader's end.
#[derive(Debug, Default)]
pub(super) struct Succession {
    /// When we lost our link to the leader.
    lost: Option<Duration>,
    /// The leader said goodbye to us.
    goodbye: bool,
    /// Whom we told that we lost the leader.
    told: Option<PeerId>,
    /// Who told us.
    votes: BTreeSet<MemberId>,
    /// Members that said goodbye, and are not declared gone yet.
    departed: BTreeSet<MemberId>,
    /// Who says that it leads, while as far as we know it is not its turn.
    pending: Option<PeerId>,
    /// As the leader: since when we miss a link to a member.
    unlinked: BTreeMap<MemberId, Duration>,
}

impl Succession {
    pub(super) fn linked(&mut self, member: MemberId) {
        self.departed.remove(&member);
        self.unlinked.remove(&member);
    }

    pub(super) fn left(&mut self, member: MemberId) {
        self.linked(member);
        self.votes.remove(&member);
    }
}

impl Session {
    /// In a mesh, the link to a member is over, and we do not lead: that member may still be in.
    pub(super) fn mesh_link_lost(&mut self, peer: PeerId, member: MemberId, goodbye: bool) {
        if goodbye {
            self.succession.departed.insert(member);
            self.succession.goodbye |= self.leader() == Some(peer);
        }
        if self.joined.contains(&peer) {
            self.fact(Fact::Responsive(peer, false));
        }
        self.want_claimed_of(member);
        for peer in self.peers.keys().copied().collect::<Vec<_>>() {
            self.meet(peer);
        }
        self.succession();
    }

    /// Whether we follow somebody that we have no link to.
    pub(super) fn leader_is_lost(&self) -> bool {
        self.config.topology == Topology::Mesh
            && !self.is_leader()
            && self.leader().is_some_and(|leader| !self.is_paired(leader))
    }

    /// Takes over, or tells whoever is to take over, once the leader is lost.
    pub(super) fn succession(&mut self) {
        self.follow_pending();
        let (Some(me), true) = (self.me, self.member().is_some() && self.leader_is_lost()) else { return };
        let lost = *self.succession.lost.get_or_insert(self.now);
        let meeting = self.now < lost + MEETING;
        let mut heirs = self.roster.heirs();
        heirs.retain(|seat| {
            let reached = seat.peer == me || self.has_met(seat.peer) || (meeting && self.is_paired(seat.peer));
            reached && !self.succession.departed.contains(&seat.member)
        });
        let Some(heir) = heirs.first().map(|seat| seat.peer) else { return };
        if heir != me {
            if self.succession.told != Some(heir) {
                self.succession.told = Some(heir);
                self.say(heir, &Control::Lost(self.roster.term));
            }
            return;
        }
        // One lost link is no lost leader, unless more than half of those whom we can reach have lost it, too.
        let votes = 1 + heirs.iter().filter(|seat| self.succession.votes.contains(&seat.member)).count();
        if self.succession.goodbye || votes * 2 > heirs.len() {
            self.take_over(me);
        }
    }

    /// A member has lost its link to the leader.
    pub(super) fn leader_lost_elsewhere(&mut self, peer: PeerId, term: Term) {
        let Some(member) = self.roster.member(peer) else { return };
        if term == self.roster.term && !self.is_leader() {
            self.succession.votes.insert(member);
            self.succession();
        } else if self.is_leader()
            && let Some(roster) = self.roster.to_wire()
        {
            self.say(peer, &Control::Roster(roster));
        }
    }

    /// A leader says what the membership is.
    pub(super) fn roster(&mut self, peer: PeerId, wire: RosterWire) {
        let leads = wire.leader == peer && wire.id == self.roster.id;
        let Some(roster) = Roster::from_wire(wire).filter(|_| leads) else {
            return self.misbehaves(peer, "a membership that contradicts itself");
        };
        let current = self.roster.leader();
        let follows = if current == Some(peer) {
            roster.term >= self.roster.term
        } else if roster.term == self.roster.term {
            // Two took over at once: the longer member leads.
            current.is_none_or(|leader| self.roster.seniority(peer) < self.roster.seniority(leader))
        } else {
            roster.term > self.roster.term && self.is_next(peer)
        };
        if follows {
            self.follow(roster);
        } else if roster.term > self.roster.term {
            self.succession.pending = Some(peer);
        }
    }

    /// The leader admitted another peer.
    pub(super) fn member_joined(&mut self, seat: Seat) {
        if self.roster.join(seat) {
            self.meet_member(seat.peer, seat.member);
        }
    }

    /// A new leader gives the members that it has no link to some time.
    pub(super) fn succession_elapsed(&mut self) {
        let now = self.now;
        let over = self.succession.unlinked.iter().filter(|(_, since)| **since + RELINK <= now);
        for member in over.map(|(member, _)| *member).collect::<Vec<_>>() {
            self.succession.unlinked.remove(&member);
            self.declare(member, &DisconnectReason::Declared);
        }
        if self.succession.lost.is_some() {
            self.succession();
        }
    }

    fn take_over(&mut self, me: PeerId) {
        let mut gone: Vec<MemberId> = core::mem::take(&mut self.succession.departed).into_iter().collect();
        let leader = self.roster.leader().and_then(|leader| self.roster.member(leader));
        gone.extend(leader);
        let said_goodbye = self.succession.goodbye;
        self.roster.succeed(me);
        self.clock.lead(self.now);
        self.succession = Succession::default();
        for member in gone {
            let reason = if said_goodbye || Some(member) != leader {
                DisconnectReason::Goodbye
            } else {
                DisconnectReason::Declared
            };
            if let Some(seat) = self.roster.leave(member) {
                self.forget_member(seat, LeaveReason::Lost, reason);
            }
        }
        self.fact(Fact::Leader(me));
        if let Some(roster) = self.roster.to_wire() {
            self.say_all(&Control::Roster(roster), None);
        }
        let unlinked: Vec<MemberId> = self
            .roster
            .seats()
            .filter(|seat| seat.peer != me && !self.has_met(seat.peer))
            .map(|seat| seat.member)
            .collect();
        self.succession.unlinked = unlinked.into_iter().map(|member| (member, self.now)).collect();
        self.tell_session();
    }

    /// From now on this is the membership.
    fn follow(&mut self, roster: Roster) {
        let Some(me) = self.me else { return };
        if roster.member(me) != self.member() {
            return self.close(DisconnectReason::Declared);
        }
        let goodbye = self.succession.goodbye;
        let former = core::mem::replace(&mut self.roster, roster);
        self.succession = Succession::default();
        for seat in former.seats() {
            if self.roster.peer(seat.member) != Some(seat.peer) {
                if former.leader() != Some(seat.peer) {
                    // The new leader may only not have heard of it: then it asks to be let in again.
                    self.unseat(*seat, DisconnectReason::Declared);
                } else if goodbye {
                    self.forget_member(*seat, LeaveReason::Goodbye, DisconnectReason::Goodbye);
                } else {
                    self.forget_member(*seat, LeaveReason::Lost, DisconnectReason::Declared);
                }
            }
        }
        if former.leader() != self.roster.leader()
            && let Some(leader) = self.roster.leader()
        {
            self.fact(Fact::Leader(leader));
        }
        self.pair_all();
        self.tell_session();
    }

    /// Asks whoever claimed to lead for the membership, once it can be its turn.
    fn follow_pending(&mut self) {
        if let Some(peer) = self.succession.pending
            && self.is_next(peer)
        {
            self.succession.pending = None;
            self.say(peer, &Control::AskRoster);
        }
    }

    /// Whether nobody that we can reach is to lead before this member, once the leader is gone.
    fn is_next(&self, peer: PeerId) -> bool {
        let heirs = self.roster.heirs();
        let reached = |seat: &&Seat| {
            !self.succession.departed.contains(&seat.member) && (Some(seat.peer) == self.me || self.has_met(seat.peer))
        };
        heirs.iter().find(reached).is_some_and(|seat| seat.peer == peer)
    }

    fn is_paired(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(|link| link.pair.is_some())
    }
}
