//! How an event is laid out as a message. Both directions; `docs/WIRE.md` has the table.

use bytes::Bytes;

use super::{
    MAX_ABOUT, MAX_EVENT,
    frame::{read_age, read_member, read_u16, read_u32, write_age, write_member},
};
use crate::{
    MemberId, NetId, Tick,
    codec::{BitReader, BitWriter, DecodeError},
};

/// The most components of one of them that are waited for.
pub(super) const MAX_PARTS: usize = 31;

/// The way an event takes over one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// From the one end to the other.
    Direct,
    /// To the host, for itself and for all others.
    Others,
    /// To the host, for another member.
    To(MemberId),
    /// From the host, passed on for this member.
    Of(MemberId),
    /// To the host, for itself and for all others who see the first of the entities that it is about.
    Seers,
}

/// An entity that an event names, and what is to be here of it first: components, each as of this tick of its owner's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct About<T> {
    pub(super) entity: NetId,
    pub(super) parts: Vec<(T, Tick)>,
}

/// An event on its way. Types are indices in the schema of this link's sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Envelope<'a> {
    /// Of this session and these two members ([`super::membership::SessionId::pair_tag`]).
    pub(super) tag: u16,
    pub(super) route: Route,
    /// Only for who sees the first of the entities that it is about.
    pub(super) seen: bool,
    /// At most [`MAX_ABOUT`], with at most [`MAX_PARTS`] each.
    pub(super) about: Vec<About<u16>>,
    /// The sender's tick, by which those of the components are written. Only read where there are any.
    pub(super) tick: Tick,
    pub(super) event: u16,
    pub(super) value: &'a [u8],
}

impl Envelope<'_> {
    pub(super) fn write(&self) -> Bytes {
        let mut bits = BitWriter::with_capacity(self.value.len() + 16);
        bits.write_bits(u64::from(self.tag), 16);
        let (route, member) = match self.route {
            Route::Direct => (0, None),
            Route::Others => (1, None),
            Route::To(member) => (2, Some(member)),
            Route::Of(member) => (3, Some(member)),
            Route::Seers => (4, None),
        };
        bits.write_bits(route, 3);
        if let Some(member) = member {
            write_member(&mut bits, member);
        }
        bits.write_bool(!self.about.is_empty());
        if !self.about.is_empty() {
            bits.write_bool(self.seen);
            bits.write_bits(u64::from(self.tick.0), 32);
            let about = self.about.iter().take(MAX_ABOUT);
            bits.write_bits(about.len() as u64 - 1, 3);
            for About { entity, parts } in about {
                write_member(&mut bits, entity.creator);
                bits.write_varint(u64::from(entity.counter));
                let parts = parts.iter().take(MAX_PARTS);
                bits.write_bits(parts.len() as u64, 5);
                for (component, tick) in parts {
                    bits.write_varint(u64::from(*component));
                    write_age(&mut bits, self.tick, *tick);
                }
            }
        }
        bits.write_varint(u64::from(self.event));
        bits.write_bytes(self.value);
        bits.finish().into()
    }
}

pub(super) fn read(message: &[u8]) -> Result<Envelope<'_>, DecodeError> {
    let mut bits = BitReader::new(message);
    let tag = bits.read_bits(16)? as u16;
    let route = match bits.read_bits(3)? {
        0 => Route::Direct,
        1 => Route::Others,
        2 => Route::To(read_member(&mut bits)?),
        3 => Route::Of(read_member(&mut bits)?),
        4 => Route::Seers,
        _ => return Err(DecodeError::Opaque("route")),
    };
    let (mut seen, mut tick, mut about) = (false, Tick::default(), Vec::new());
    if bits.read_bool()? {
        seen = bits.read_bool()?;
        tick = Tick(bits.read_bits(32)? as u32);
        for _ in 0..=bits.read_bits(3)? {
            let entity = NetId { creator: read_member(&mut bits)?, counter: read_u32(&mut bits)? };
            let mut parts = Vec::new();
            for _ in 0..bits.read_bits(5)? {
                parts.push((read_u16(&mut bits)?, read_age(&mut bits, tick)?));
            }
            about.push(About { entity, parts });
        }
    }
    if route == Route::Seers && !seen {
        return Err(DecodeError::Opaque("for those who see nothing"));
    }
    let event = read_u16(&mut bits)?;
    let value = bits.read_bytes()?;
    bits.finish()?;
    if value.len() > MAX_EVENT {
        return Err(DecodeError::TooLarge(MAX_EVENT));
    }
    Ok(Envelope { tag, route, seen, about, tick, event, value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{link::MAX_UNRELIABLE, schema::MAX_TYPES, session::MAX_UNRELIABLE_EVENT};

    fn member() -> impl Strategy<Value = MemberId> {
        (any::<u16>(), any::<u16>()).prop_map(|(slot, incarnation)| MemberId { slot, incarnation })
    }

    fn route(seen: bool) -> impl Strategy<Value = Route> {
        prop_oneof![
            Just(Route::Direct),
            Just(if seen { Route::Seers } else { Route::Others }),
            member().prop_map(Route::To),
            member().prop_map(Route::Of)
        ]
    }

    fn about() -> impl Strategy<Value = About<u16>> {
        let part = (any::<u16>(), any::<u32>().prop_map(Tick));
        let entity = (member(), any::<u32>()).prop_map(|(creator, counter)| NetId { creator, counter });
        (entity, proptest::collection::vec(part, 0..=MAX_PARTS)).prop_map(|(entity, parts)| About { entity, parts })
    }

    fn abouts() -> impl Strategy<Value = (bool, Tick, Vec<About<u16>>)> {
        prop_oneof![
            Just((false, Tick::default(), Vec::new())),
            (any::<bool>(), any::<u32>().prop_map(Tick), proptest::collection::vec(about(), 1..=MAX_ABOUT)),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            tag in any::<u16>(),
            ((seen, tick, about), route) in abouts().prop_flat_map(|about| { let seen = about.0; (Just(about), route(seen)) }),
            event in any::<u16>(),
            value in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let envelope = Envelope { tag, route, seen, about, tick, event, value: &value };
            let message = envelope.write();
            prop_assert_eq!(read(&message), Ok(envelope));
        }

        #[test]
        fn garbage_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(envelope) = read(&bytes) {
                prop_assert!(envelope.about.len() <= MAX_ABOUT);
                prop_assert!(envelope.about.iter().all(|about| about.parts.len() <= MAX_PARTS));
            }
        }
    }

    /// The longest that a peer writes.
    fn longest(value: &[u8], parts: usize) -> Envelope<'_> {
        let far = MemberId { slot: u16::MAX, incarnation: u16::MAX };
        let parts = vec![(MAX_TYPES as u16 - 1, Tick(i32::MAX as u32)); parts];
        let about = About { entity: NetId { creator: far, counter: u32::MAX }, parts };
        let about = vec![about; MAX_ABOUT];
        Envelope { tag: 0, route: Route::Of(far), seen: true, about, tick: Tick(0), event: MAX_TYPES as u16, value }
    }

    #[test]
    fn the_largest_event_fits_a_message() {
        let size = longest(&vec![0; MAX_EVENT], MAX_PARTS).write().len();
        assert!(size <= crate::link::MAX_MESSAGE, "{size}");
    }

    #[test]
    fn the_largest_unreliable_event_fits_a_datagram_without_what_it_would_wait_for() {
        let size = longest(&vec![0; MAX_UNRELIABLE_EVENT], 0).write().len();
        assert!(size <= MAX_UNRELIABLE, "{size}");
    }

    /// What docs/WIRE.md says, byte by byte.
    #[test]
    fn an_event_is_laid_out_as_the_book_says() {
        let mut envelope = Envelope {
            tag: 0x0201,
            route: Route::Others,
            seen: false,
            about: Vec::new(),
            tick: Tick(0),
            event: 5,
            value: &[0xaa, 0xbb],
        };
        // 1 of 3 bits, a bit that is not set, 5 and 2 of 8 bits each, zeros up to a whole byte.
        assert_eq!(envelope.write()[..], [0x01, 0x02, 0b0101_0001, 0b0010_0000, 0, 0xaa, 0xbb]);
        let entity = NetId { creator: MemberId { slot: 1, incarnation: 0 }, counter: 2 };
        envelope.about = vec![About { entity, parts: vec![(3, Tick(0x0101_0100))] }];
        envelope.tick = Tick(0x0101_0101);
        envelope.route = Route::Seers;
        envelope.seen = true;
        // 4 of 3 bits, set, set; the tick of 32; 0 of 3; 1, 0 and 2 of 8 each; 1 of 5; 3 of 8; set, and 1 zigzag of 8;
        // then the event as above.
        let mut bits: u128 = 0;
        let mut at = 0_usize;
        for (value, width) in [
            (4, 3),
            (1, 1),
            (1, 1),
            (0x0101_0101, 32),
            (0, 3),
            (1, 8),
            (0, 8),
            (2, 8),
            (1, 5),
            (3, 8),
            (1, 1),
            (2, 8),
            (5, 8),
            (2, 8),
        ] {
            bits |= value << at;
            at += width;
        }
        let mut expected = vec![0x01, 0x02];
        expected.extend(bits.to_le_bytes().into_iter().take(at.div_ceil(8)));
        expected.extend([0xaa, 0xbb]);
        assert_eq!(envelope.write()[..], expected);
    }
}
