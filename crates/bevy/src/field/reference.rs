//! How do references cross? By the names that all peers know entities and each other by.

use bevy_ecs::entity::Entity;
use coplay_proto::{
    MemberId, NetId, PeerId,
    codec::{BitReader, BitWriter, DecodeError},
};

use super::{FieldOptions, NetField, no_value};
use crate::net_type::{EncodeError, EntityRefs};

/// What has no name that all know, or is not known here, arrives as [`Entity::PLACEHOLDER`], and in an
/// `Option<Entity>` as `None`. Both have the same bits.
impl NetField for Entity {
    fn coding(_: &FieldOptions) -> String {
        "entity".to_owned()
    }

    fn write(&self, out: &mut BitWriter, options: &FieldOptions, refs: &dyn EntityRefs) -> Result<(), EncodeError> {
        Self::write_option(Some(self), out, options, refs)
    }

    fn read(input: &mut BitReader<'_>, options: &FieldOptions, refs: &mut dyn EntityRefs) -> Result<Self, DecodeError> {
        Ok(Self::read_option(input, options, refs)?.unwrap_or(Self::PLACEHOLDER))
    }

    fn write_option(
        value: Option<&Self>,
        out: &mut BitWriter,
        options: &FieldOptions,
        refs: &dyn EntityRefs,
    ) -> Result<(), EncodeError> {
        NetId::write_option(value.and_then(|entity| refs.to_net(*entity)).as_ref(), out, options, refs)
    }

    fn read_option(
        input: &mut BitReader<'_>,
        options: &FieldOptions,
        refs: &mut dyn EntityRefs,
    ) -> Result<Option<Self>, DecodeError> {
        Ok(NetId::read_option(input, options, refs)?.and_then(|id| refs.to_entity(id)))
    }
}

impl NetField for NetId {
    fn coding(_: &FieldOptions) -> String {
        "netid".to_owned()
    }

    fn write(&self, out: &mut BitWriter, _: &FieldOptions, _: &dyn EntityRefs) -> Result<(), EncodeError> {
        out.write_varint(self.creator.slot.into());
        out.write_varint(self.creator.incarnation.into());
        out.write_varint(self.counter.into());
        Ok(())
    }

    fn read(input: &mut BitReader<'_>, _: &FieldOptions, _: &mut dyn EntityRefs) -> Result<Self, DecodeError> {
        fn number<T: TryFrom<u64>>(input: &mut BitReader<'_>) -> Result<T, DecodeError> {
            T::try_from(input.read_varint()?).map_err(|_| no_value::<NetId>())
        }
        let creator = MemberId { slot: number(input)?, incarnation: number(input)? };
        Ok(Self { creator, counter: number(input)? })
    }
}

impl NetField for PeerId {
    fn coding(_: &FieldOptions) -> String {
        "peer".to_owned()
    }

    fn write(&self, out: &mut BitWriter, _: &FieldOptions, _: &dyn EntityRefs) -> Result<(), EncodeError> {
        let id = self.as_u128();
        out.write_bits(id as u64, 64);
        out.write_bits((id >> 64) as u64, 64);
        Ok(())
    }

    fn read(input: &mut BitReader<'_>, _: &FieldOptions, _: &mut dyn EntityRefs) -> Result<Self, DecodeError> {
        let low = u128::from(input.read_bits(64)?);
        let high = u128::from(input.read_bits(64)?);
        Ok(Self::from_u128(high << 64 | low))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{
        Precision,
        testing::{OneRef, decode, field, trip},
    };

    const ID: NetId = NetId { creator: MemberId { slot: 3, incarnation: u16::MAX }, counter: 1000 };

    fn across<T: NetField>(value: &T, from: &OneRef, to: &mut OneRef) -> T {
        let options = field::<T>(Precision::NONE);
        let mut out = BitWriter::new();
        value.write(&mut out, &options, from).unwrap();
        let bytes = out.finish();
        let mut input = BitReader::new(&bytes);
        let back = T::read(&mut input, &options, to).unwrap();
        input.finish().unwrap();
        back
    }

    #[test]
    fn an_entity_becomes_the_other_peers_own() {
        let (here, there) = (Entity::from_raw_u32(7).unwrap(), Entity::from_raw_u32(40).unwrap());
        let (mut from, mut to) = (OneRef::new(here, ID), OneRef::new(there, ID));
        assert_eq!(across(&here, &from, &mut to), there);
        assert_eq!(across(&Some(here), &from, &mut to), Some(there));
        assert_eq!(across(&None::<Entity>, &from, &mut to), None);
        assert_eq!(across(&vec![here, here], &from, &mut to), [there, there]);
        assert_eq!(across(&there, &to, &mut from), here);
    }

    #[test]
    fn what_the_sender_does_not_share_is_none() {
        let (here, other) = (Entity::from_raw_u32(7).unwrap(), Entity::from_raw_u32(8).unwrap());
        let (from, mut to) = (OneRef::new(here, ID), OneRef::new(here, ID));
        assert_eq!(across(&Some(other), &from, &mut to), None);
        assert_eq!(across(&other, &from, &mut to), Entity::PLACEHOLDER);
        assert_eq!(across(&[Some(other), Some(here)], &from, &mut to), [None, Some(here)]);
    }

    #[test]
    fn what_the_receiver_does_not_know_is_none() {
        let here = Entity::from_raw_u32(7).unwrap();
        let (from, mut to) = (OneRef::new(here, ID), OneRef::new(here, NetId { counter: 1, ..ID }));
        assert_eq!(across(&Some(here), &from, &mut to), None);
        assert_eq!(across(&here, &from, &mut to), Entity::PLACEHOLDER);
    }

    #[test]
    fn names_come_back() {
        let options = field::<NetId>(Precision::NONE);
        assert_eq!(trip(&ID, &options), (ID, 8 + 24 + 16));
        let options = field::<PeerId>(Precision::NONE);
        let peer = PeerId::from_u128(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        assert_eq!(trip(&peer, &options), (peer, 128));
    }

    #[test]
    fn a_name_that_does_not_fit_is_refused() {
        let options = field::<NetId>(Precision::NONE);
        // The slot is 2^16.
        assert!(matches!(decode::<NetId>(&[0x80, 0x80, 0x04, 0, 0], &options), Err(DecodeError::Opaque(_))));
        // The counter is 2^32.
        assert!(matches!(
            decode::<NetId>(&[0, 0, 0x80, 0x80, 0x80, 0x80, 0x10], &options),
            Err(DecodeError::Opaque(_))
        ));
        assert_eq!(decode::<NetId>(&[0, 0], &options), Err(DecodeError::Truncated));
    }
}
