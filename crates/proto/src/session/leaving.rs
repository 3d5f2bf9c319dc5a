//! How a member goes: links that end, leaves that the leader declares, what becomes of the leaver's entities, and the end.

use super::{
    DisconnectReason, Fact, Output, Session, Standing,
    control::{Control, LeaveReason},
    membership::{Roster, Seat},
    ownership::Claims,
    store::{Orphan, Store},
};
use crate::{Channel, MemberId, NetId, PeerId, Term, Topology};

impl Session {
    /// The link to a peer is over.
    pub(super) fn lost(&mut self, peer: PeerId, goodbye: bool, reason: DisconnectReason) {
        // What has come of it and waits is not to be lost with the link.
        self.release_all(Some(peer), None);
        if self.peers.remove(&peer).is_none() {
            return;
        }
        match self.standing {
            Standing::Away | Standing::Closed => {}
            Standing::Seeking { since, asked } => {
                if asked == Some(peer) {
                    self.standing = Standing::Seeking { since, asked: None };
                }
                if self.depends_on(peer) {
                    self.close(reason);
                } else if self.into == Some(peer) {
                    self.into = None;
                }
            }
            Standing::In(_) => {
                let Some(member) = self.roster.member(peer) else { return };
                if self.is_leader() {
                    self.declare(member, &reason);
                } else if self.config.topology == Topology::Host {
                    // Others have no link to us that counts.
                    if self.leader() == Some(peer) {
                        self.close(DisconnectReason::HostLeft);
                    }
                } else {
                    self.mesh_link_lost(peer, member, goodbye);
                }
            }
        }
    }

    /// A message to the peer is lost, as its link is too slow for all that was sent. One of the two has to go: the
    /// leader stays, and of two others of a mesh, both do without the link.
    pub(super) fn too_slow(&mut self, peer: PeerId) {
        let reason = DisconnectReason::TooSlow;
        // What comes after the message that is lost is not to come without it.
        let behind = |output: &Output| match output {
            Output::Message(to, channel, _) => *to == peer && *channel != Channel::Control,
            _ => false,
        };
        self.out.retain(|output| !behind(output));
        match (self.member(), self.roster.member(peer)) {
            _ if !self.peers.contains_key(&peer) => {}
            (Some(_), Some(member)) if self.is_leader() => self.declare(member, &reason),
            (Some(me), Some(_)) if self.leader() == Some(peer) => {
                self.say(peer, &Control::Leave(self.roster.term, me, LeaveReason::TooSlow));
                self.close(reason);
            }
            _ => self.drop_link(peer, reason),
        }
    }

    /// As the leader: the member is gone.
    pub(super) fn declare(&mut self, member: MemberId, reason: &DisconnectReason) {
        let why = match reason {
            DisconnectReason::Goodbye => LeaveReason::Goodbye,
            DisconnectReason::Kicked => LeaveReason::Kicked,
            DisconnectReason::TooSlow => LeaveReason::TooSlow,
            _ => LeaveReason::Lost,
        };
        if let Some(seat) = self.roster.leave(member) {
            self.say_all(&Control::Leave(self.roster.term, member, why), Some(seat.peer));
            self.forget_member(seat, why, reason.clone());
        }
    }

    /// The leader declared a member gone; or another member tells us that we were.
    pub(super) fn member_left(&mut self, peer: PeerId, term: Term, member: MemberId, why: LeaveReason) {
        let leads = self.leader() == Some(peer) && term == self.roster.term;
        let reason = match why {
            LeaveReason::Goodbye => DisconnectReason::Goodbye,
            LeaveReason::Kicked => DisconnectReason::Kicked,
            LeaveReason::TooSlow => DisconnectReason::TooSlow,
            LeaveReason::Lost | LeaveReason::Returns => DisconnectReason::Declared,
        };
        if Some(member) == self.member() {
            // Whoever has lost the leader itself hears of it from the others.
            let astray = self.leader_is_lost() && term >= self.roster.term && self.roster.member(peer).is_some();
            if leads || astray {
                self.close(reason);
            }
        } else if self.is_leader() {
            if why == LeaveReason::TooSlow && self.roster.member(peer) == Some(member) {
                self.declare(member, &reason);
            }
        } else if leads && let Some(seat) = self.roster.leave(member) {
            if why == LeaveReason::Returns {
                self.unseat(seat, reason);
            } else {
                self.forget_member(seat, why, reason);
            }
            self.succession();
        }
    }

    /// A member was taken off the membership: its entities go, the game is told, its link ends.
    pub(super) fn forget_member(&mut self, seat: Seat, why: LeaveReason, reason: DisconnectReason) {
        let Seat { peer, member, .. } = seat;
        self.unseat(seat, reason.clone());
        if self.peers.contains_key(&peer) {
            self.say(peer, &Control::Leave(self.roster.term, member, why));
            self.end_link(peer, reason);
        }
    }

    /// The same for a member that may come back over the link that it has.
    pub(super) fn unseat(&mut self, seat: Seat, reason: DisconnectReason) {
        let Seat { peer, member, .. } = seat;
        self.leaving = Some((member, peer));
        self.release_all(None, Some(member));
        self.leaving = None;
        self.drop_entities_of(member);
        self.succession.left(member);
        if let Some(link) = self.peers.get_mut(&peer) {
            link.pair = None;
        }
        if self.joined.remove(&peer) {
            self.fact(Fact::Left { peer, member, reason });
        }
    }

    /// We are out, for good.
    pub(super) fn close(&mut self, reason: DisconnectReason) {
        self.fact(Fact::Closed(reason.clone()));
        self.reset();
        self.standing = Standing::Closed;
        for (peer, _) in core::mem::take(&mut self.peers) {
            self.out.push_back(Output::Disconnect(peer, DisconnectReason::Local));
        }
    }

    /// Forgets everything of the session but the links.
    pub(super) fn reset(&mut self) {
        self.roster = Roster::default();
        self.succession = super::Succession::default();
        self.store = Store::default();
        self.claims = Claims::default();
        self.inputs = super::Inputs::default();
        self.joined.clear();
        for link in self.peers.values_mut() {
            link.pair = None;
        }
    }

    /// The entities of a leaver go with it. As the host decides, they are gone for good; elsewhere one that was just
    /// given to another member may turn up with a later epoch.
    fn drop_entities_of(&mut self, member: MemberId) {
        let (host, guest) = (self.is_host(), self.is_guest());
        let owned = self.store.iter().filter(|(_, known)| known.owner == member);
        let owned: Vec<_> = owned.map(|(entity, known)| (entity, known.epoch, known.released)).collect();
        for (entity, epoch, released) in owned {
            if host {
                self.end_everywhere(entity);
            } else if guest && released {
                // The host may not have heard yet that we gave it to the leaver: then it is still ours to end. Or it
                // has, and the leaver has given it on, which we have not heard: then it comes back as the host has it.
                self.orphan(entity, Orphan { epoch: epoch.saturating_sub(1), owner: member });
                self.tell_end(entity, epoch, None);
            } else {
                self.orphan(entity, Orphan { epoch, owner: member });
            }
        }
        self.drop_claims_of(member);
        let touched = |(entity, known): (NetId, &super::Entity)| {
            let handed = known.handoff.as_ref().is_some_and(|handoff| handoff.from == member || handoff.to == member);
            (known.controller == Some(member) || handed).then_some(entity)
        };
        let entities: Vec<NetId> = self.store.iter().filter_map(touched).collect();
        for entity in entities {
            self.drop_hold_on(entity, member);
        }
    }

    /// The entity is no longer controlled by the leaver, nor given by or to it.
    fn drop_hold_on(&mut self, entity: NetId, member: MemberId) {
        let me = self.member();
        let host = self.is_host();
        let Some(known) = self.store.get_mut(entity) else { return };
        let handoff = known.handoff.take_if(|handoff| handoff.from == member || handoff.to == member);
        if host && handoff.is_some_and(|handoff| handoff.to == member) {
            // Its owner has given it up, and nobody is there to take it.
            return self.end_everywhere(entity);
        }
        let ours = Some(known.owner) == me;
        if known.controller == Some(member) && known.set_controller(None) {
            self.controller_changed(entity);
            if ours {
                self.changed(entity, None);
            }
        }
    }
}
