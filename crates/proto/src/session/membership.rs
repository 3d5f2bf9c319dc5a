//! Who is in the session, in which seat, since when, and who comes next when the leader is gone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::MAX_MEMBERS;
use crate::{MemberId, PeerId, Term};

/// How far a new leader counts every slot's incarnation up, so that it never gives one that the former leader gave
/// just before it was gone.
const SUCCESSION_SKIP: u16 = 8;

/// Which session: who founded it, and how many it had founded before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct SessionId {
    pub(super) founder: Option<PeerId>,
    pub(super) count: u16,
}

impl SessionId {
    /// What marks the session's frames and messages, so that those of a former session are known as such.
    pub(super) fn tag(self) -> u16 {
        let bits = self.founder.map_or(0, PeerId::as_u128);
        mix(self.count, (0..8).map(|part| (bits >> (part * 16)) as u16))
    }

    /// What marks what one member says to another, so that nothing said to or by a former member is taken for it.
    pub(super) fn pair_tag(self, from: MemberId, to: MemberId) -> u16 {
        mix(self.tag(), [from.slot, from.incarnation, to.slot, to.incarnation].into_iter())
    }
}

fn mix(tag: u16, words: impl Iterator<Item = u16>) -> u16 {
    words.fold(tag, |tag, word| (tag.rotate_left(5) ^ word).wrapping_mul(0x9e37))
}

/// What a peer says of the session that it is in: enough to ask for admission, and to tell which of two absorbs the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SessionInfo {
    pub(super) id: SessionId,
    pub(super) term: Term,
    pub(super) members: u16,
    pub(super) leader: PeerId,
}

impl SessionInfo {
    /// The higher one absorbs the other.
    pub(super) fn rank(&self) -> (Term, u16, SessionId) {
        (self.term, self.members, self.id)
    }
}

/// One member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seat {
    pub(super) peer: PeerId,
    pub(super) member: MemberId,
    /// The how-manieth admission of the session this was: the lowest is the longest member.
    pub(super) order: u32,
}

/// The membership as it goes over the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RosterWire {
    pub(super) id: SessionId,
    pub(super) term: Term,
    pub(super) leader: PeerId,
    pub(super) seats: Vec<Seat>,
    /// By slot: the incarnation that the slot is given next.
    pub(super) incarnations: Vec<u16>,
    pub(super) next_order: u32,
}

/// Whether a seat that somebody names is one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// This peer holds it.
    Alive(PeerId),
    /// It was given, and its holder is gone.
    Dead,
    /// As far as we know it was not given yet.
    NotYet,
}

/// The membership. Empty while we are in no session.
#[derive(Clone, Debug, Default)]
pub(super) struct Roster {
    pub(super) id: SessionId,
    pub(super) term: Term,
    leader: Option<PeerId>,
    seats: BTreeMap<MemberId, Seat>,
    by_peer: BTreeMap<PeerId, MemberId>,
    incarnations: Vec<u16>,
    next_order: u32,
}

impl Roster {
    /// A new session with nobody in it yet.
    pub(super) fn found(founder: PeerId, count: u16, term: Term) -> Self {
        let id = SessionId { founder: Some(founder), count };
        Self { id, term, leader: Some(founder), ..Self::default() }
    }

    /// What another peer says the membership is; None if it contradicts itself.
    pub(super) fn from_wire(wire: RosterWire) -> Option<Self> {
        let RosterWire { id, term, leader, seats, incarnations, next_order } = wire;
        let mut roster = Self { id, term, leader: Some(leader), incarnations, next_order, ..Self::default() };
        if seats.len() > usize::from(MAX_MEMBERS) || roster.incarnations.len() > usize::from(MAX_MEMBERS) {
            return None;
        }
        for seat in seats {
            let given = roster.incarnations.get(usize::from(seat.member.slot)).copied().unwrap_or(0);
            let fits = seat.member.incarnation < given && seat.order < next_order;
            if !fits || roster.seats.values().any(|other| clash(other, &seat)) {
                return None;
            }
            roster.by_peer.insert(seat.peer, seat.member);
            roster.seats.insert(seat.member, seat);
        }
        roster.by_peer.contains_key(&leader).then_some(roster)
    }

    pub(super) fn to_wire(&self) -> Option<RosterWire> {
        Some(RosterWire {
            id: self.id,
            term: self.term,
            leader: self.leader?,
            seats: self.seats.values().copied().collect(),
            incarnations: self.incarnations.clone(),
            next_order: self.next_order,
        })
    }

    /// Gives a peer a seat. None if every slot is taken, or used up.
    pub(super) fn admit(&mut self, peer: PeerId, most: usize) -> Option<Seat> {
        if self.seats.len() >= most || self.by_peer.contains_key(&peer) {
            return None;
        }
        let taken: Vec<u16> = self.seats.keys().map(|member| member.slot).collect();
        let slot = (0..MAX_MEMBERS).find(|slot| !taken.contains(slot) && self.next_incarnation(*slot) < u16::MAX)?;
        let member = MemberId { slot, incarnation: self.next_incarnation(slot) };
        let seat = Seat { peer, member, order: self.next_order };
        self.join(seat).then_some(seat)
    }

    /// Notes that a peer was given a seat. False, and nothing is changed, if that cannot be.
    pub(super) fn join(&mut self, seat: Seat) -> bool {
        let Seat { peer, member, order } = seat;
        if member.slot >= MAX_MEMBERS
            || member.incarnation == u16::MAX
            || self.seats.len() >= usize::from(MAX_MEMBERS)
            || member.incarnation < self.next_incarnation(member.slot)
            || self.seats.values().any(|other| clash(other, &seat))
        {
            return false;
        }
        let slot = usize::from(member.slot);
        if self.incarnations.len() <= slot {
            self.incarnations.resize(slot + 1, 0);
        }
        if let Some(next) = self.incarnations.get_mut(slot) {
            *next = member.incarnation + 1;
        }
        self.next_order = self.next_order.max(order.saturating_add(1));
        self.by_peer.insert(peer, member);
        self.seats.insert(member, seat);
        true
    }

    /// Takes a member off. None if it is none.
    pub(super) fn leave(&mut self, member: MemberId) -> Option<Seat> {
        let seat = self.seats.remove(&member)?;
        self.by_peer.remove(&seat.peer);
        Some(seat)
    }

    /// Makes this peer the leader of the next term.
    pub(super) fn succeed(&mut self, leader: PeerId) {
        self.term = Term(self.term.0.saturating_add(1));
        self.leader = Some(leader);
        // The former one may have given slots that we have seen nobody in.
        self.incarnations.resize(usize::from(MAX_MEMBERS), 0);
        for next in &mut self.incarnations {
            *next = next.saturating_add(SUCCESSION_SKIP);
        }
    }

    pub(super) fn leader(&self) -> Option<PeerId> {
        self.leader
    }

    pub(super) fn member(&self, peer: PeerId) -> Option<MemberId> {
        self.by_peer.get(&peer).copied()
    }

    pub(super) fn peer(&self, member: MemberId) -> Option<PeerId> {
        self.seats.get(&member).map(|seat| seat.peer)
    }

    /// What is known of a seat that somebody names.
    pub(super) fn known(&self, member: MemberId) -> Known {
        match self.seats.get(&member) {
            Some(seat) => Known::Alive(seat.peer),
            None if member.incarnation < self.next_incarnation(member.slot) => Known::Dead,
            None => Known::NotYet,
        }
    }

    /// In the order of the slots.
    pub(super) fn seats(&self) -> impl Iterator<Item = &Seat> {
        self.seats.values()
    }

    /// All but the leader, the longest member first.
    pub(super) fn heirs(&self) -> Vec<Seat> {
        let mut heirs: Vec<Seat> = self.seats.values().filter(|seat| Some(seat.peer) != self.leader).copied().collect();
        heirs.sort_by_key(|seat| (seat.order, seat.member));
        heirs
    }

    /// The how-manieth member the peer is; the last, if it is none.
    pub(super) fn seniority(&self, peer: PeerId) -> (u32, MemberId) {
        let seat = self.member(peer).and_then(|member| self.seats.get(&member));
        seat.map_or((u32::MAX, MemberId { slot: u16::MAX, incarnation: u16::MAX }), |seat| (seat.order, seat.member))
    }

    pub(super) fn info(&self) -> Option<SessionInfo> {
        let members = u16::try_from(self.seats.len()).unwrap_or(u16::MAX);
        Some(SessionInfo { id: self.id, term: self.term, members, leader: self.leader? })
    }

    fn next_incarnation(&self, slot: u16) -> u16 {
        self.incarnations.get(usize::from(slot)).copied().unwrap_or(0)
    }
}

fn clash(one: &Seat, other: &Seat) -> bool {
    one.peer == other.peer || one.member.slot == other.member.slot || one.order == other.order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(id: u128) -> PeerId {
        PeerId::from_u128(id)
    }

    fn roster(peers: u128) -> Roster {
        let mut roster = Roster::found(peer(0), 0, Term(1));
        for id in 0..peers {
            roster.admit(peer(id), 8).expect("a free seat");
        }
        roster
    }

    #[test]
    fn a_seat_given_again_counts_its_incarnation_up() {
        let mut roster = roster(3);
        let seat = MemberId { slot: 1, incarnation: 0 };
        assert_eq!(roster.peer(seat), Some(peer(1)));
        roster.leave(seat);
        assert_eq!(roster.known(seat), Known::Dead);
        let next = MemberId { slot: 1, incarnation: 1 };
        assert_eq!(roster.known(next), Known::NotYet);
        assert_eq!(roster.admit(peer(9), 8).map(|seat| seat.member), Some(next));
        assert_eq!(roster.known(next), Known::Alive(peer(9)));
        assert_eq!(roster.admit(peer(10), 3), None, "full");
        assert_eq!(roster.admit(peer(9), 8), None, "is in already");
    }

    #[test]
    fn the_longest_member_comes_next() {
        let mut roster = roster(4);
        roster.leave(MemberId { slot: 1, incarnation: 0 });
        roster.admit(peer(9), 8);
        assert_eq!(roster.heirs().iter().map(|seat| seat.peer).collect::<Vec<_>>(), [peer(2), peer(3), peer(9)]);
        roster.succeed(peer(2));
        assert_eq!((roster.term, roster.leader()), (Term(2), Some(peer(2))));
        let given = MemberId { slot: 4, incarnation: 8 };
        assert_eq!(roster.admit(peer(10), 8).map(|seat| seat.member), Some(given));
        for (slot, incarnation) in [(1, 9), (4, 0), (9, 7)] {
            let former = roster.known(MemberId { slot, incarnation });
            assert_eq!(former, Known::Dead, "what the former leader may have given is not given again");
        }
    }

    #[test]
    fn a_membership_that_contradicts_itself_is_refused() {
        let wire = roster(3).to_wire().expect("has a leader");
        assert!(Roster::from_wire(wire.clone()).is_some());
        let mut twice = wire.clone();
        let seat = *twice.seats.first().expect("three");
        twice.seats.push(Seat { peer: peer(7), ..seat });
        assert!(Roster::from_wire(twice).is_none());
        let mut headless = wire.clone();
        headless.leader = peer(77);
        assert!(Roster::from_wire(headless).is_none());
        let mut future = wire;
        future.incarnations = vec![0];
        assert!(Roster::from_wire(future).is_none());
    }

    #[test]
    fn a_join_that_cannot_be_changes_nothing() {
        let mut roster = roster(2);
        let seat =
            |id, slot, incarnation, order| Seat { peer: peer(id), member: MemberId { slot, incarnation }, order };
        assert!(!roster.join(seat(1, 5, 0, 9)), "the peer is in");
        assert!(!roster.join(seat(5, 1, 1, 9)), "the slot is taken");
        assert!(!roster.join(seat(5, MAX_MEMBERS, 0, 9)), "no such slot");
        assert!(!roster.join(seat(5, 2, u16::MAX, 9)), "no such incarnation");
        assert_eq!(roster.seats().count(), 2);
        assert!(roster.join(seat(5, 2, 4, 9)), "incarnations may be skipped");
    }
}
