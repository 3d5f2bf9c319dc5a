//! Whether two peers can play together: greetings, and where each message of the control channel goes.

use super::{
    DisconnectReason, Fact, Session, SessionConfig, Standing,
    control::{self, Control, Hello, Message},
    membership::SessionInfo,
};
use crate::{Channel, PROTOCOL_VERSION, PeerId, schema::Schema};

impl Session {
    /// Says what we speak and share, and which session we are in.
    pub(super) fn greet(&mut self, peer: PeerId, session: Option<SessionInfo>) {
        let SessionConfig { topology, ref schema, .. } = self.config;
        let hello = Hello { topology, tick_rate: self.config.rate(), session, schema: schema.clone() };
        let message = control::encode_hello(&hello);
        self.hand(peer, Channel::Control, message.into());
    }

    pub(super) fn control(&mut self, peer: PeerId, message: &[u8]) {
        let greeted = self.peers.get(&peer).is_some_and(|link| link.types.is_some());
        match control::decode(message) {
            Err(what) => self.misbehaves(peer, what),
            Ok(Message::Hello(_) | Message::OtherVersion(_)) if greeted => self.misbehaves(peer, "a second greeting"),
            Ok(Message::OtherVersion(theirs)) => {
                self.refuse(peer, DisconnectReason::Version { ours: PROTOCOL_VERSION, theirs }, None);
            }
            Ok(Message::Hello(hello)) => self.hello(peer, *hello),
            Ok(Message::Control(..)) if !greeted => self.misbehaves(peer, "a control message before the greeting"),
            Ok(Message::Control(tag, control)) => self.dispatch(peer, message.len(), tag, control),
        }
    }

    /// What only members say to each other.
    pub(super) fn pair_control(&mut self, peer: PeerId, tag: u16, control: Control) {
        if Some(tag) != self.tag_from(peer) {
            // Of a session that is over, or of a former member.
            return;
        }
        self.met(peer);
        match control {
            Control::Lost(term) => self.leader_lost_elsewhere(peer, term),
            Control::Tombstones(tombstones) => self.tombstones(peer, tombstones),
            Control::Grant(entity, epoch, to) => self.granted(peer, entity, epoch, to),
            Control::Want(entity) => self.wanted(peer, entity),
            _ => {}
        }
    }

    fn hello(&mut self, peer: PeerId, hello: Hello) {
        let Hello { topology, tick_rate, session, schema } = hello;
        let ours = self.config.topology;
        if topology != ours {
            return self.refuse(peer, DisconnectReason::Topology { ours, theirs: topology }, session);
        }
        let ours = self.config.rate();
        if tick_rate != ours {
            return self.refuse(peer, DisconnectReason::TickRate { ours, theirs: tick_rate }, session);
        }
        if schema.validate_remote().is_err() {
            return self.misbehaves(peer, "a schema that no coplay peer has");
        }
        match Schema::map(&self.config.schema, &schema) {
            Err(mismatch) => self.refuse(peer, DisconnectReason::Schema(mismatch), session),
            Ok(types) => {
                if let Some(link) = self.peers.get_mut(&peer) {
                    link.types = Some(types);
                    link.info = session;
                }
                self.pair(peer);
                self.meet(peer);
            }
        }
    }

    /// We cannot play with the peer. If it leads the session that we came to join, we are out.
    fn refuse(&mut self, peer: PeerId, reason: DisconnectReason, session: Option<SessionInfo>) {
        self.fact(Fact::Refused(peer, reason.clone()));
        self.end_link(peer, reason.clone());
        let leads = session.is_some_and(|session| session.leader == peer);
        let named = self.named.is_some_and(|named| named.peer == peer);
        if matches!(self.standing, Standing::Seeking { .. }) && (leads || named) {
            self.close(reason);
        }
    }

    fn dispatch(&mut self, peer: PeerId, size: usize, tag: u16, control: Control) {
        let ours = tag == self.tag() && self.member().is_some();
        let leads = ours && self.leader() == Some(peer);
        match control {
            Control::Session(info) => {
                if let Some(link) = self.peers.get_mut(&peer) {
                    link.info = info;
                }
                self.meet(peer);
            }
            Control::Ask => self.asked(peer),
            Control::Welcome { you, ticks, roster } => self.welcome(peer, you, ticks, roster),
            Control::Full(most) => self.full(peer, most),
            Control::AskRoster if ours => self.asked_roster(peer),
            Control::Roster(roster) if ours => self.roster(peer, roster),
            Control::Join(term, seat) if leads && term == self.roster.term => self.member_joined(seat),
            Control::Leave(term, member, why) if ours => self.member_left(peer, term, member, why),
            Control::Absorbed(term, into) if leads && term == self.roster.term => self.dissolve(into),
            // Of a session or a term that is over.
            Control::AskRoster
            | Control::Roster(_)
            | Control::Join(..)
            | Control::Leave(..)
            | Control::Absorbed(..) => {}
            Control::Lost(_) | Control::Tombstones(_) | Control::Grant(..) | Control::Want(_) => {
                if self.peers.get(&peer).is_some_and(|link| link.pair.is_some()) {
                    self.pair_control(peer, tag, control);
                } else {
                    self.hold_control(peer, size, tag, control);
                }
            }
        }
    }
}
