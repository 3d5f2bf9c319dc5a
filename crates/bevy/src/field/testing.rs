//! What do the tests of fields have in common? There and back through bits, with and without known entities.

use bevy_ecs::entity::Entity;
use coplay_proto::{
    NetId,
    codec::{BitReader, BitWriter, DecodeError},
};

use super::{FieldOptions, NetField, Precision};
use crate::net_type::{EncodeError, EntityRefs};

/// Knows no entity.
pub(crate) struct NoRefs;

impl EntityRefs for NoRefs {
    fn to_net(&self, _: Entity) -> Option<NetId> {
        None
    }

    fn to_entity(&mut self, _: NetId) -> Option<Entity> {
        None
    }
}

/// Knows one.
pub(crate) struct OneRef(Entity, NetId);

impl OneRef {
    pub(crate) fn new(entity: Entity, id: NetId) -> Self {
        Self(entity, id)
    }
}

impl EntityRefs for OneRef {
    fn to_net(&self, entity: Entity) -> Option<NetId> {
        (entity == self.0).then_some(self.1)
    }

    fn to_entity(&mut self, id: NetId) -> Option<Entity> {
        (id == self.1).then_some(self.0)
    }
}

pub(crate) fn field<T: NetField>(precision: Precision) -> FieldOptions {
    FieldOptions::new::<T>("Type.field", precision)
}

pub(crate) fn encode<T: NetField>(value: &T, options: &FieldOptions) -> Result<Vec<u8>, EncodeError> {
    let mut out = BitWriter::new();
    value.write(&mut out, options, &NoRefs)?;
    Ok(out.finish())
}

pub(crate) fn decode<T: NetField>(bytes: &[u8], options: &FieldOptions) -> Result<T, DecodeError> {
    let mut input = BitReader::new(bytes);
    let value = T::read(&mut input, options, &mut NoRefs)?;
    input.finish()?;
    Ok(value)
}

/// What comes back, and how many bits it took.
pub(crate) fn trip<T: NetField>(value: &T, options: &FieldOptions) -> (T, usize) {
    let mut out = BitWriter::new();
    value.write(&mut out, options, &NoRefs).unwrap();
    let bits = out.bit_len();
    (decode(&out.finish(), options).unwrap(), bits)
}
