//! Which way an event goes: to each member directly in a mesh, through the host under one.
//!
//! A link delivers each message exactly once and in order, the host passes on in the order in which it receives, and
//! so each member's events arrive exactly once and in order everywhere.

use bytes::Bytes;

use super::{Denied, Fact, MAX_EVENT, SendError, Session, Target, TypeId, config::HELD_OVERHEAD, membership::Known};
use crate::{
    Channel, MemberId, PeerId,
    codec::{BitReader, BitWriter, DecodeError},
    schema::TypeKind,
};

/// The most bytes of events that wait for us to hear of their sender.
const MAX_WAITING: usize = 1 << 20;

/// The way an event takes over one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    /// From the one end to the other.
    Direct,
    /// To the host, for itself and for all others.
    Others,
    /// To the host, for another member.
    To(MemberId),
    /// From the host, passed on for this member.
    Of(MemberId),
}

/// An event on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Envelope<'a> {
    /// Of this session and these two members ([`super::membership::SessionId::pair_tag`]).
    tag: u16,
    route: Route,
    /// The type's index in the schema of this link's sender.
    event: u16,
    value: &'a [u8],
}

impl Envelope<'_> {
    fn write(&self) -> Bytes {
        let mut bits = BitWriter::with_capacity(self.value.len() + 16);
        bits.write_bits(u64::from(self.tag), 16);
        let (route, member) = match self.route {
            Route::Direct => (0, None),
            Route::Others => (1, None),
            Route::To(member) => (2, Some(member)),
            Route::Of(member) => (3, Some(member)),
        };
        bits.write_bits(route, 2);
        if let Some(member) = member {
            bits.write_varint(u64::from(member.slot));
            bits.write_varint(u64::from(member.incarnation));
        }
        bits.write_varint(u64::from(self.event));
        bits.write_bytes(self.value);
        bits.finish().into()
    }
}

fn read(message: &[u8]) -> Result<Envelope<'_>, DecodeError> {
    let mut bits = BitReader::new(message);
    let tag = bits.read_bits(16)? as u16;
    let route = bits.read_bits(2)?;
    let mut word = || u16::try_from(bits.read_varint()?).map_err(|_| DecodeError::Varint);
    let route = match route {
        0 => Route::Direct,
        1 => Route::Others,
        2 => Route::To(MemberId { slot: word()?, incarnation: word()? }),
        _ => Route::Of(MemberId { slot: word()?, incarnation: word()? }),
    };
    let event = word()?;
    let value = bits.read_bytes()?;
    bits.finish()?;
    if value.len() > MAX_EVENT {
        return Err(DecodeError::TooLarge(MAX_EVENT));
    }
    Ok(Envelope { tag, route, event, value })
}

impl Session {
    pub(super) fn send_event(&mut self, target: Target, event: TypeId, value: Bytes) -> Result<(), SendError> {
        let (Some(me), Some(_)) = (self.me, self.member()) else { return Err(SendError::NotAdmitted) };
        let size = value.len();
        if size > MAX_EVENT {
            return Err(SendError::TooLarge { size, limit: MAX_EVENT });
        }
        let one = match target {
            Target::Everyone | Target::Others => None,
            Target::Host => Some(self.leader().ok_or(SendError::NotAdmitted)?),
            Target::Peer(peer) => Some(peer),
        };
        match one {
            Some(peer) if peer == me => {}
            Some(peer) => {
                let member = self.roster.member(peer).filter(|_| self.joined.contains(&peer));
                let member = member.ok_or(SendError::NoMember(peer))?;
                match self.leader() {
                    Some(host) if self.is_guest() && host != peer => {
                        self.post(host, Route::To(member), event, &value);
                    }
                    _ => self.post(peer, Route::Direct, event, &value),
                }
            }
            None => {
                let route = if self.is_guest() { Route::Others } else { Route::Direct };
                for peer in self.paired(None) {
                    self.post(peer, route, event, &value);
                }
            }
        }
        if target == Target::Everyone || one == Some(me) {
            self.fact(Fact::Event { from: me, event, value });
        }
        Ok(())
    }

    /// A message of the events channel.
    pub(super) fn event(&mut self, peer: PeerId, message: Bytes) {
        if self.peers.get(&peer).and_then(|link| link.pair.as_ref()).is_some_and(|pair| !pair.waiting.is_empty()) {
            return self.wait(peer, message);
        }
        let Ok(Envelope { tag, route, event, value }) = read(&message) else {
            return self.misbehaves(peer, "an event that cannot be read");
        };
        if Some(tag) != self.tag_from(peer) {
            // Of a session that is over, or of a former member.
            return;
        }
        let Some(types) = self.peers.get(&peer).and_then(|link| link.types.as_ref()) else { return };
        let ours = types.ours(event);
        let kind = ours.and_then(|ours| self.config.schema.get(ours)).map_or(TypeKind::Event, |shared| shared.kind);
        if !types.contains(event) || kind != TypeKind::Event {
            return self.misbehaves(peer, "an event that cannot be one");
        }
        let (Some(sender), event) = (self.roster.member(peer), ours) else { return };
        let value = Bytes::copy_from_slice(value);
        match route {
            Route::Direct => self.deliver(peer, event, value),
            Route::Others if self.is_host() => {
                if let Some(event) = event {
                    for other in self.paired(Some(peer)) {
                        self.post(other, Route::Of(sender), event, &value);
                    }
                }
                self.deliver(peer, event, value);
            }
            Route::To(member) if self.is_host() => {
                // Whoever has left meanwhile does not hear it.
                if let (Some(to), Some(event)) = (self.roster.peer(member).filter(|to| *to != peer), event) {
                    self.post(to, Route::Of(sender), event, &value);
                }
            }
            Route::Of(member) if self.is_guest() => match self.roster.known(member) {
                Known::Alive(origin) => self.deliver(origin, event, value),
                Known::Dead => {}
                Known::NotYet => self.wait(peer, message),
            },
            Route::Others | Route::To(_) | Route::Of(_) => self.fact(Fact::Denied(peer, Denied::NotHost)),
        }
    }

    pub(super) fn event_relays(&self, peer: PeerId, message: &[u8]) -> Vec<PeerId> {
        let paired = self.peers.get(&peer).is_some_and(|link| link.pair.is_some());
        match read(message) {
            Ok(Envelope { route: Route::Others, .. }) if paired && self.is_host() => self.paired(Some(peer)),
            Ok(Envelope { route: Route::To(member), .. }) if paired && self.is_host() => {
                self.roster.peer(member).filter(|to| *to != peer).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// Takes the events that waited for a member to become known.
    pub(super) fn take_waiting_events(&mut self, host: PeerId) {
        let Some(pair) = self.peers.get_mut(&host).and_then(|link| link.pair.as_mut()) else { return };
        pair.waiting_bytes = 0;
        for message in core::mem::take(&mut pair.waiting) {
            self.event(host, message);
        }
    }

    fn wait(&mut self, peer: PeerId, message: Bytes) {
        let Some(pair) = self.peers.get_mut(&peer).and_then(|link| link.pair.as_mut()) else { return };
        pair.waiting_bytes += message.len() + HELD_OVERHEAD;
        pair.waiting.push_back(message);
        if pair.waiting_bytes > MAX_WAITING {
            self.misbehaves(peer, "too many events of members that nobody knows");
        }
    }

    /// Tells the game of an event, if we know its type.
    fn deliver(&mut self, from: PeerId, event: Option<TypeId>, value: Bytes) {
        if let Some(event) = event {
            self.fact(Fact::Event { from, event, value });
        }
    }

    /// Sends an event over one link, if the peer there knows its type.
    fn post(&mut self, peer: PeerId, route: Route, event: TypeId, value: &Bytes) {
        let Some(link) = self.peers.get(&peer) else { return };
        let (Some(me), Some(pair), Some(types)) = (self.member(), &link.pair, &link.types) else { return };
        if types.theirs(event).is_some() {
            let tag = self.roster.id.pair_tag(me, pair.member);
            let message = Envelope { tag, route, event: event.0, value }.write();
            self.out.push_back(super::Output::Message(peer, Channel::Events, message));
        }
    }

    fn paired(&self, but: Option<PeerId>) -> Vec<PeerId> {
        let paired = self.peers.iter().filter(|(peer, link)| link.pair.is_some() && Some(**peer) != but);
        paired.map(|(peer, _)| *peer).collect()
    }
}

/// An event as the host would pass it on.
#[cfg(test)]
pub(super) fn forge(tag: u16, origin: MemberId, event: TypeId, value: &[u8]) -> Bytes {
    Envelope { tag, route: Route::Of(origin), event: event.0, value }.write()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route() -> impl Strategy<Value = Route> {
        let member = || (any::<u16>(), any::<u16>()).prop_map(|(slot, incarnation)| MemberId { slot, incarnation });
        prop_oneof![
            Just(Route::Direct),
            Just(Route::Others),
            member().prop_map(Route::To),
            member().prop_map(Route::Of)
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            tag in any::<u16>(),
            route in route(),
            event in any::<u16>(),
            value in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let envelope = Envelope { tag, route, event, value: &value };
            let message = envelope.write();
            prop_assert_eq!(read(&message), Ok(envelope));
        }

        #[test]
        fn garbage_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..50)) {
            let _ = read(&bytes);
        }
    }

    #[test]
    fn the_largest_event_fits_a_message() {
        let far = MemberId { slot: u16::MAX, incarnation: u16::MAX };
        let value = vec![0; MAX_EVENT];
        let envelope = Envelope { tag: 0, route: Route::Of(far), event: u16::MAX, value: &value };
        assert!(envelope.write().len() <= crate::link::MAX_MESSAGE);
    }
}
