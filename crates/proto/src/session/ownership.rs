//! Who owns an entity: giving it away, being given it, and telling a new owner from a peer that only says so.
//!
//! In a mesh, the one who gives an entity away tells all others by a `Grant`, its word on who may announce the next
//! epoch; the ownership itself changes when the new owner announces it. An announcement that comes before the grant
//! is turned down and noted as a claim, its last known owner is asked what it says to that, and the claimer to say it
//! again (both by `Want`) when the grant comes. Under a host, the host
//! decides and all others believe it.

use core::time::Duration;
use std::collections::BTreeMap;

use super::{
    Denied, Fact, Session, WriteError,
    control::Control,
    store::{Handoff, Orphan},
    tombstones::{Intervals, Tombstones},
};
use crate::{MemberId, NetId, PeerId, Topology};

/// The most claims that are noted of one member, and the most grants in all.
const MAX_CLAIMS: usize = 1024;
const MAX_GRANTS: usize = 65_536;
/// A claim that the owner, which we hear, did not confirm for so long is reported.
const CLAIM_PATIENCE: Duration = Duration::from_secs(5);

/// What is said of ownership, and not yet so.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// To whom an entity was given, and with which epoch: said by whoever could.
    grants: BTreeMap<NetId, (u32, MemberId)>,
    /// By claimer.
    claims: BTreeMap<MemberId, BTreeMap<NetId, Claim>>,
}

#[derive(Clone, Copy, Debug)]
struct Claim {
    epoch: u32,
    since: Duration,
    reported: bool,
}

/// What a claim to own an entity is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    Proven,
    /// It was so once.
    Stale,
    /// It may be so: whoever could confirm it did not yet.
    Unproven,
    Forged,
}

impl Claims {
    /// The entity is gone.
    pub(super) fn forget(&mut self, entity: NetId) {
        self.grants.remove(&entity);
        for claims in self.claims.values_mut() {
            claims.remove(&entity);
        }
    }

    /// The entity is known to have this epoch now. Says whether somebody claims a later one.
    fn resolved(&mut self, entity: NetId, epoch: u32) -> bool {
        if self.grants.get(&entity).is_some_and(|(granted, _)| *granted <= epoch) {
            self.grants.remove(&entity);
        }
        let mut later = false;
        for claims in self.claims.values_mut() {
            if claims.get(&entity).is_some_and(|claim| claim.epoch <= epoch) {
                claims.remove(&entity);
            }
            later |= claims.contains_key(&entity);
        }
        later
    }

    /// Who claims the entity.
    fn claimers(&self, entity: NetId) -> Vec<MemberId> {
        self.claims.iter().filter(|(_, claims)| claims.contains_key(&entity)).map(|(member, _)| *member).collect()
    }
}

impl Session {
    pub(super) fn give(&mut self, entity: NetId, to: PeerId) -> Result<(), WriteError> {
        let (host, me) = (self.is_host(), self.member());
        let known = self.store.get(entity).ok_or(WriteError::Gone(entity))?;
        let Some(me) = me.filter(|me| host || known.owner == *me) else { return Err(WriteError::NotOwner(entity)) };
        let member = self.roster.member(to).ok_or(WriteError::NoMember(to))?;
        // In a mesh it goes over the link to the new owner.
        let linked = self.peers.get(&to).is_some_and(|link| link.pair.is_some());
        if !linked && to_other(member, me) && !self.is_guest() {
            return Err(WriteError::NoMember(to));
        }
        if known.owner == member || known.epoch == u32::MAX {
            return Ok(());
        }
        let epoch = known.epoch + 1;
        if !self.store.fits(entity, member) {
            return Err(WriteError::StateFull { limit: super::MAX_STATE_BYTES });
        }
        if let Some(known) = self.store.own(entity, member, epoch) {
            known.released = member != me;
        }
        match self.config.topology {
            Topology::Mesh => {
                if let Some(pair) = self.peers.get_mut(&to).and_then(|link| link.pair.as_mut()) {
                    pair.outbox.renew(entity, true);
                }
                self.say_all(&Control::Grant(entity, epoch, member), Some(to));
            }
            Topology::Host => self.tell_anew(entity, true),
        }
        self.inputs_changed(entity);
        Ok(())
    }

    /// What the claim of a member to own the entity, with this epoch, is worth. Of use in a mesh.
    pub(super) fn proof(&self, member: MemberId, entity: NetId, epoch: u32) -> Proof {
        let Some(known) = self.store.get(entity) else { return Proof::Unproven };
        if known.owner == member {
            return Proof::Proven;
        }
        if Some(known.owner) == self.member() {
            return Proof::Forged;
        }
        match self.claims.grants.get(&entity) {
            Some((granted, to)) if *to == member && epoch >= *granted => Proof::Proven,
            Some((granted, _)) if epoch < *granted => Proof::Stale,
            // Nobody that we can hear will confirm it.
            _ if !self.confirmer(entity).is_some_and(|confirmer| self.hears(confirmer)) => Proof::Proven,
            _ => Proof::Unproven,
        }
    }

    /// Notes that a member claims an entity, and asks whoever can confirm it.
    pub(super) fn claim(&mut self, member: MemberId, entity: NetId, epoch: u32) {
        let confirmer = self.confirmer(entity).filter(|confirmer| *confirmer != member && self.hears(*confirmer));
        let claims = self.claims.claims.entry(member).or_default();
        if let Some(claim) = claims.get_mut(&entity) {
            claim.epoch = claim.epoch.max(epoch);
            return;
        }
        if claims.len() >= MAX_CLAIMS {
            return;
        }
        claims.insert(entity, Claim { epoch, since: self.now, reported: false });
        if let Some(peer) = confirmer.and_then(|confirmer| self.roster.peer(confirmer)) {
            self.say(peer, &Control::Want(entity));
        }
    }

    /// The entity is known to have this epoch now. Where a later one was claimed before, its owner says who is next:
    /// if it has said so already, we turned it down.
    pub(super) fn resolved(&mut self, entity: NetId, epoch: u32) {
        let owner = self.store.get(entity).map(|known| known.owner);
        if self.claims.resolved(entity, epoch)
            && let Some(owner) = owner.filter(|owner| self.hears(*owner))
            && let Some(peer) = self.roster.peer(owner)
        {
            self.say(peer, &Control::Want(entity));
        }
    }

    /// A member says that it has given an entity away.
    pub(super) fn granted(&mut self, peer: PeerId, entity: NetId, epoch: u32, to: MemberId) {
        let Some(member) = self.roster.member(peer).filter(|_| self.config.topology == Topology::Mesh) else { return };
        if self.store.tombstones.contains(entity)
            || self.store.orphan(entity).is_some_and(|orphan| epoch <= orphan.epoch)
        {
            return;
        }
        let known = self.store.get(entity);
        if known.is_some_and(|known| epoch <= known.epoch) || Some(to) == self.member() {
            return;
        }
        let earlier = self.claims.grants.get(&entity).copied();
        if earlier.is_some_and(|(granted, _)| epoch <= granted) {
            return;
        }
        let proven = match known {
            Some(_) => self.proof(member, entity, epoch) == Proof::Proven,
            None => entity.creator == member || earlier.is_some_and(|(_, to)| to == member),
        };
        if !proven {
            return self.claim(member, entity, epoch);
        }
        if self.roster.known(to) == super::Known::Dead {
            self.orphan(entity, Orphan { epoch, owner: to });
            return;
        }
        if self.claims.grants.len() >= MAX_GRANTS {
            self.claims.grants.pop_first();
        }
        self.claims.grants.insert(entity, (epoch, to));
        if self.hears(to) {
            self.want_claimed(entity, to);
        } else {
            self.want_claimed_by_all(entity);
        }
    }

    /// A member turned down what we said of an entity, and can believe it now.
    pub(super) fn wanted(&mut self, peer: PeerId, entity: NetId) {
        let (me, theirs) = (self.member(), self.roster.member(peer));
        let Some(pair) = self.peers.get_mut(&peer).and_then(|link| link.pair.as_mut()) else { return };
        if self.store.tombstones.contains(entity) {
            // It holds, whatever the epoch.
            return pair.outbox.end(entity, u32::MAX);
        }
        let successor = match self.store.get(entity) {
            Some(known) if Some(known.owner) == me => return pair.outbox.renew(entity, false),
            Some(known) if known.released && Some(known.owner) == theirs => return pair.outbox.renew(entity, true),
            Some(known) => Some((known.epoch, known.owner)),
            None => self.store.orphan(entity).map(|orphan| (orphan.epoch, orphan.owner)),
        };
        if let Some((epoch, owner)) = successor {
            self.say(peer, &Control::Grant(entity, epoch, owner));
        }
    }

    /// A member says what is gone for good. It holds for what is its own, and from the leader also for what we never
    /// heard of.
    pub(super) fn tombstones(&mut self, peer: PeerId, tombstones: Vec<(MemberId, Intervals)>) {
        let Some(member) = self.roster.member(peer) else { return };
        let leads = self.leader() == Some(peer);
        // Said once more in order and without overlaps, so that no entity is looked at twice.
        let mut said = Tombstones::default();
        for (creator, intervals) in tombstones {
            for (first, last) in intervals {
                said.insert_interval(creator, first, last);
            }
        }
        for (creator, intervals) in said.pieces(usize::MAX).into_iter().flatten() {
            for (first, last) in intervals {
                let range = NetId { creator, counter: first }..=NetId { creator, counter: last };
                let alive: Vec<(NetId, bool)> = self
                    .store
                    .range(range)
                    .map(|(entity, known)| {
                        (entity, self.is_guest() || self.proof(member, entity, known.epoch) == Proof::Proven)
                    })
                    .collect();
                for (entity, _) in alive.iter().filter(|(_, lawful)| *lawful) {
                    self.end(*entity);
                    self.fact(Fact::Despawned(*entity));
                }
                if (leads || creator == member) && alive.iter().all(|(_, lawful)| *lawful) {
                    self.store.tombstones.insert_interval(creator, first, last);
                }
            }
        }
    }

    /// The owner of an entity has left, or the entity was given to somebody who has.
    pub(super) fn orphan(&mut self, entity: NetId, orphan: Orphan) {
        for link in self.peers.values_mut() {
            if let Some(pair) = &mut link.pair {
                pair.outbox.forget(entity);
            }
        }
        self.inputs.forget(entity);
        if self.store.orphaned(entity, orphan) {
            self.fact(Fact::Despawned(entity));
        }
        self.claims.grants.remove(&entity);
        self.want_claimed_by_all(entity);
    }

    /// A member has left: it claims nothing, and what it was given, but did not announce, is an orphan.
    pub(super) fn drop_claims_of(&mut self, member: MemberId) {
        self.claims.claims.remove(&member);
        let to_member = self.claims.grants.iter().filter(|(_, (_, to))| *to == member);
        let grants: Vec<(NetId, u32)> = to_member.map(|(entity, (epoch, _))| (*entity, *epoch)).collect();
        for (entity, epoch) in grants {
            self.orphan(entity, Orphan { epoch, owner: member });
        }
    }

    /// A member cannot confirm any more who owns what it owned: whoever claims it is believed.
    pub(super) fn want_claimed_of(&mut self, owner: MemberId) {
        let claimed = self.claims.claims.values().flat_map(BTreeMap::keys).copied();
        let of_owner = claimed.filter(|entity| self.confirmer(*entity) == Some(owner));
        for entity in of_owner.collect::<Vec<_>>() {
            self.want_claimed_by_all(entity);
        }
    }

    /// A member that we have just been paired with has entities that it was given before.
    pub(super) fn want_granted(&mut self, peer: PeerId, member: MemberId) {
        let to_member = self.claims.grants.iter().filter(|(_, (_, to))| *to == member);
        for entity in to_member.map(|(entity, _)| *entity).collect::<Vec<_>>() {
            self.say(peer, &Control::Want(entity));
        }
    }

    /// Reports claims that nobody confirmed.
    pub(super) fn claims_elapsed(&mut self) {
        let late = |(entity, claim): (&NetId, &Claim)| {
            let owner = self.confirmer(*entity).and_then(|owner| self.roster.peer(owner));
            let heard = owner.and_then(|owner| self.peers.get(&owner)).is_some_and(|link| !link.silent);
            (heard && !claim.reported && claim.since + CLAIM_PATIENCE <= self.now).then_some(*entity)
        };
        let all = self.claims.claims.iter();
        let denied: Vec<(MemberId, NetId)> =
            all.flat_map(|(member, claims)| claims.iter().filter_map(late).map(|entity| (*member, entity))).collect();
        for (member, entity) in denied {
            if let Some(claim) = self.claims.claims.get_mut(&member).and_then(|claims| claims.get_mut(&entity)) {
                claim.reported = true;
            }
            if let Some(peer) = self.roster.peer(member) {
                self.fact(Fact::Denied(peer, Denied::NotOwner(entity)));
            }
        }
    }

    /// Begins to take over an entity, or, as the host, to pass it on.
    pub(super) fn begin_handoff(&mut self, entity: NetId, handoff: Handoff) {
        let Some(known) = self.store.get_mut(entity) else { return };
        if known.owner != handoff.from {
            known.forget_stamps();
        }
        known.handoff = Some(handoff);
    }

    /// Completes a handoff once all has come.
    pub(super) fn complete_handoff(&mut self, entity: NetId) {
        let Some(known) = self.store.get_mut(entity) else { return };
        let complete = known.handoff.take_if(|handoff| handoff.parts.len() >= handoff.count as usize);
        let Some(Handoff { from, to, epoch, controller, .. }) = complete else { return };
        if self.roster.known(to) == super::Known::Dead {
            return self.end_everywhere(entity);
        }
        let Some(known) = self.store.own(entity, to, epoch) else { return };
        known.previous = Some(from);
        let controlled = known.set_controller(controller);
        self.resolved(entity, epoch);
        let owner = self.roster.peer(to);
        if let Some(owner) = owner {
            self.fact(Fact::Owner(entity, owner));
        }
        if controlled {
            self.controller_changed(entity);
        }
        self.inputs_changed(entity);
        self.tell_anew(entity, self.is_host());
    }

    /// The entity has another owner, and it is for us to tell the peers all of it, whatever they were told before. What
    /// is still on its way counts for nothing where the news overtake it; in a mesh, the owners in between may have
    /// told something else; and under a host, who lost an entity may have written what the host never took (`whole`
    /// says how much there is).
    fn tell_anew(&mut self, entity: NetId, whole: bool) {
        for link in self.peers.values_mut() {
            if let Some(pair) = &mut link.pair {
                pair.outbox.renew(entity, whole);
            }
        }
    }

    /// Ends an entity on our own authority, and tells everyone, the game included.
    pub(super) fn end_everywhere(&mut self, entity: NetId) {
        let epoch = self.store.get(entity).map_or(0, |known| known.epoch);
        if self.end(entity) {
            self.fact(Fact::Despawned(entity));
        }
        self.tell_end(entity, epoch, None);
    }

    /// Who is to say who owns the entity next: its last owner that we were told of.
    fn confirmer(&self, entity: NetId) -> Option<MemberId> {
        let granted = self.claims.grants.get(&entity).map(|(_, to)| *to);
        granted.or_else(|| self.store.get(entity).map(|known| known.owner))
    }

    fn want_claimed_by_all(&mut self, entity: NetId) {
        for claimer in self.claims.claimers(entity) {
            self.want_claimed(entity, claimer);
        }
    }

    /// Asks a member for an entity that it claimed, if it did.
    fn want_claimed(&mut self, entity: NetId, member: MemberId) {
        let claimed = self.claims.claims.get_mut(&member).and_then(|claims| claims.remove(&entity));
        if let (Some(_), Some(peer)) = (claimed, self.roster.peer(member))
            && self.hears(member)
        {
            self.say(peer, &Control::Want(entity));
        }
    }

    /// Whether we are paired with this member.
    fn hears(&self, member: MemberId) -> bool {
        let link = self.roster.peer(member).and_then(|peer| self.peers.get(&peer));
        link.is_some_and(|link| link.pair.is_some())
    }
}

fn to_other(member: MemberId, me: MemberId) -> bool {
    member != me
}
