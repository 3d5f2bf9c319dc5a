//! What does derived code call? Everything here is for the derives alone, and may change with them.

use core::fmt::{Display, Write};

use coplay_proto::schema::{Delivery, MAX_FIELDS, MAX_NAME};
pub use coplay_proto::{
    codec::{BitReader, BitWriter, DecodeError},
    schema::{FieldSchema, TypeKind, TypeSchema},
};

pub use super::{EncodeError, EntityRefs, NetEvent, NetInput, NetType, Networked, Register, Registrar};
pub use crate::field::{FieldOptions, NetField, Precision, read_opaque, write_opaque};

/// The schema of one type; the fields by name and coding.
///
/// What is longer than a schema may be is cut, and ends in a digest of all of it, so that it still tells two apart.
pub fn schema<const N: usize>(name: &str, kind: TypeKind, optional: bool, fields: [(&str, String); N]) -> TypeSchema {
    let mut fields: Vec<_> = fields.into_iter().map(|(name, coding)| field(name.to_owned(), coding)).collect();
    if fields.len() > MAX_FIELDS {
        let rest = fields.split_off(MAX_FIELDS - 1);
        let name = format!("and {} more", rest.len());
        fields.push(field(name, braced(rest.iter().map(|field| (&field.name, &field.coding)))));
    }
    TypeSchema { name: name.to_owned(), kind, optional, delivery: Delivery::default(), fields }
}

/// The coding of several fields as that of one: `{x: f32, y: u8}`.
pub fn coding<const N: usize>(fields: [(&str, String); N]) -> String {
    braced(fields)
}

/// The coding of an enum, of the codings of its variants.
pub fn variants<const N: usize>(variants: [(&str, String); N]) -> String {
    format!("enum{}", braced(variants))
}

/// What the decoder of an enum says of a variant that it does not have.
pub fn no_variant<T>() -> DecodeError {
    DecodeError::Opaque(core::any::type_name::<T>())
}

fn braced(fields: impl IntoIterator<Item = (impl Display, impl Display)>) -> String {
    let fields: Vec<_> = fields.into_iter().map(|(name, coding)| format!("{name}: {coding}")).collect();
    format!("{{{}}}", fields.join(", "))
}

fn field(name: String, mut coding: String) -> FieldSchema {
    const DIGEST: usize = " #0123456789abcdef".len();
    if coding.len() > MAX_NAME {
        let digest = fnv1a(coding.as_bytes());
        coding.truncate(coding.floor_char_boundary(MAX_NAME - DIGEST));
        let _ = write!(coding, " #{digest:016x}");
    }
    FieldSchema { name, coding }
}

/// The 64-bit FNV-1a hash: the same on every peer, which is all that it is for.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use coplay_proto::schema::Schema;

    use super::*;

    #[test]
    fn long_codings_are_cut_but_still_tell_two_apart() {
        let long = |last: &str| {
            let coding = coding([("before", "x".repeat(300)), ("last", last.to_owned())]);
            schema("Long", TypeKind::Event, false, [("0", coding)])
        };
        let (one, other) = (long("u8"), long("u16"));
        assert_eq!(one.fields[0].coding.len(), MAX_NAME);
        assert!(one.fields[0].coding.starts_with("{before: xxx"));
        assert_ne!(one, other);
        assert_eq!(one, long("u8"));
        assert!(Schema::new(vec![one]).is_ok());
    }

    #[test]
    fn more_fields_than_a_schema_takes_are_put_together() {
        let many = |last: &str| {
            let mut fields = [(); 300].map(|()| ("variant", "{}".to_owned()));
            fields[299].1 = last.to_owned();
            schema("Many", TypeKind::Event, false, fields)
        };
        let (one, other) = (many("u8"), many("u16"));
        assert_eq!(one.fields.len(), MAX_FIELDS);
        assert_eq!(one.fields.last().unwrap().name, "and 237 more");
        assert_ne!(one, other);
        assert!(Schema::new(vec![one]).is_ok());
    }

    #[test]
    fn the_digest_is_fnv1a() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
