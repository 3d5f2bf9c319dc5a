//! Whether two peers share the same types, and how each names the other's.

use core::{cmp::Ordering, fmt};

use crate::{Channel, session::TypeId};

use super::{Delivery, FieldSchema, TypeKind, TypeSchema};

/// How the types of one peer are those of another: per pair of peers, made by [`super::Schema::map`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeMap {
    /// By their index.
    ours: Vec<Option<TypeId>>,
    /// By our index.
    theirs: Vec<Option<u16>>,
    /// By their index.
    channels: Vec<Channel>,
}

impl TypeMap {
    /// Our id of the type that has this index in the other's schema. None if we lack it (it is optional, and what
    /// is said of it is to be skipped), and if there is no such index ([`Self::contains`]).
    pub fn ours(&self, theirs: u16) -> Option<TypeId> {
        self.ours.get(usize::from(theirs)).copied().flatten()
    }

    /// The index in the other's schema of our type. None if the other lacks it: it is optional, and the other
    /// must not be told of it.
    pub fn theirs(&self, ours: TypeId) -> Option<u16> {
        self.theirs.get(usize::from(ours.0)).copied().flatten()
    }

    /// The channel by which the other sends what has this index in its schema.
    pub fn channel(&self, theirs: u16) -> Option<Channel> {
        self.channels.get(usize::from(theirs)).copied()
    }

    /// Whether the other's schema has this index at all.
    pub fn contains(&self, theirs: u16) -> bool {
        usize::from(theirs) < self.ours.len()
    }
}

/// What keeps two peers from playing together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// Only this peer has the type.
    #[error(
        "type `{name}` is not shared by the other peer (mark it `#[net(optional)]`, or build both from the same source)"
    )]
    OnlyHere {
        /// The type.
        name: String,
    },
    /// Only the other peer has the type.
    #[error(
        "type `{name}` of the other peer is not shared by this one (mark it `#[net(optional)]` there, or build both from the same source)"
    )]
    OnlyThere {
        /// The type.
        name: String,
    },
    /// The type is for something else there.
    #[error("type `{name}`: for this peer it is {}, for the other {}", Kind(*.ours), Kind(*.theirs))]
    Kind {
        /// The type.
        name: String,
        /// For this peer.
        ours: TypeKind,
        /// For the other.
        theirs: TypeKind,
    },
    /// The event travels in another way there.
    #[error("event `{name}`: for this peer it is {}, for the other {}", Way(.ours), Way(.theirs))]
    Delivery {
        /// The type.
        name: String,
        /// For this peer.
        ours: Delivery,
        /// For the other.
        theirs: Delivery,
    },
    /// A field is coded in another way there.
    #[error("type `{name}`, field `{field}`: this peer has `{ours}`, the other `{theirs}`")]
    Coding {
        /// The type.
        name: String,
        /// The field.
        field: String,
        /// How this peer codes it.
        ours: String,
        /// How the other does.
        theirs: String,
    },
    /// There is another field in this place, or none on one side.
    #[error("type `{name}`, field {}: this peer has {}, the other {}", .index + 1, Field(.ours), Field(.theirs))]
    Field {
        /// The type.
        name: String,
        /// Which field, from 0.
        index: usize,
        /// The field that this peer has there.
        ours: Option<Box<FieldSchema>>,
        /// The field that the other has there.
        theirs: Option<Box<FieldSchema>>,
    },
}

/// Both lists are in the order of their names.
pub(super) fn compare(ours: &[TypeSchema], theirs: &[TypeSchema], channels: Vec<Channel>) -> Result<TypeMap, Mismatch> {
    let mut map = TypeMap { ours: vec![None; theirs.len()], theirs: vec![None; ours.len()], channels };
    let mut left = ours.iter().zip(&mut map.theirs).zip(0..).peekable();
    let mut right = theirs.iter().zip(&mut map.ours).zip(0..).peekable();
    loop {
        let order = match (left.peek(), right.peek()) {
            (Some(((our, _), _)), Some(((their, _), _))) => our.name.cmp(&their.name),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => break,
        };
        // Advances the side that is behind, or both when they meet.
        let our = if order.is_le() { left.next() } else { None };
        let their = if order.is_ge() { right.next() } else { None };
        match (our, their) {
            (Some(((our, to_theirs), our_index)), Some(((their, to_ours), their_index))) => {
                compare_type(our, their)?;
                *to_theirs = Some(their_index);
                *to_ours = Some(TypeId(our_index));
            }
            (Some(((our, _), _)), None) if !our.optional => {
                return Err(Mismatch::OnlyHere { name: our.name.clone() });
            }
            (None, Some(((their, _), _))) if !their.optional => {
                return Err(Mismatch::OnlyThere { name: their.name.clone() });
            }
            _ => {}
        }
    }
    Ok(map)
}

fn compare_type(ours: &TypeSchema, theirs: &TypeSchema) -> Result<(), Mismatch> {
    let name = || ours.name.clone();
    if ours.kind != theirs.kind {
        return Err(Mismatch::Kind { name: name(), ours: ours.kind, theirs: theirs.kind });
    }
    if ours.delivery != theirs.delivery {
        return Err(Mismatch::Delivery { name: name(), ours: ours.delivery.clone(), theirs: theirs.delivery.clone() });
    }
    for index in 0..ours.fields.len().max(theirs.fields.len()) {
        match (ours.fields.get(index), theirs.fields.get(index)) {
            (Some(our), Some(their)) if our.name == their.name => {
                if our.coding != their.coding {
                    let (field, ours, theirs) = (our.name.clone(), our.coding.clone(), their.coding.clone());
                    return Err(Mismatch::Coding { name: name(), field, ours, theirs });
                }
            }
            (our, their) => {
                return Err(Mismatch::Field { name: name(), index, ours: boxed(our), theirs: boxed(their) });
            }
        }
    }
    Ok(())
}

fn boxed(field: Option<&FieldSchema>) -> Option<Box<FieldSchema>> {
    field.cloned().map(Box::new)
}

struct Kind(TypeKind);

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            TypeKind::Component => "a component",
            TypeKind::Input => "an input",
            TypeKind::Event => "an event",
        })
    }
}

struct Way<'a>(&'a Delivery);

impl fmt::Display for Way<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Delivery::Ordered(name) if name.is_empty() => f.write_str("of the channel that has no name"),
            Delivery::Ordered(name) => write!(f, "of the channel `{name}`"),
            Delivery::Unordered => f.write_str("unordered"),
            Delivery::Unreliable => f.write_str("unreliable"),
        }
    }
}

struct Field<'a>(&'a Option<Box<FieldSchema>>);

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(field) => write!(f, "`{}` (`{}`)", field.name, field.coding),
            None => f.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Schema;
    use super::*;

    fn shared(name: &str, fields: &[(&str, &str)]) -> TypeSchema {
        let fields = fields
            .iter()
            .map(|(name, coding)| FieldSchema { name: (*name).into(), coding: (*coding).into() })
            .collect();
        TypeSchema { fields, ..super::super::tests::shared(name) }
    }

    fn optional(name: &str) -> TypeSchema {
        TypeSchema { optional: true, ..shared(name, &[("0", "bool")]) }
    }

    /// What each of the two says about the other.
    fn mismatch(ours: Vec<TypeSchema>, theirs: Vec<TypeSchema>) -> [String; 2] {
        let (ours, theirs) = (Schema::new(ours).unwrap(), Schema::new(theirs).unwrap());
        [(&ours, &theirs), (&theirs, &ours)].map(|(ours, theirs)| Schema::map(ours, theirs).unwrap_err().to_string())
    }

    #[test]
    fn equal_schemas_map_to_themselves() {
        let schema = Schema::new(vec![shared("b", &[]), shared("a", &[("x", "f32")])]).unwrap();
        let map = Schema::map(&schema, &schema).unwrap();
        assert_eq!([0, 1, 2].map(|index| map.ours(index)), [Some(TypeId(0)), Some(TypeId(1)), None]);
        assert_eq!([0, 1, 2].map(|index| map.theirs(TypeId(index))), [Some(0), Some(1), None]);
        assert!(map.contains(1) && !map.contains(2));
    }

    #[test]
    fn optional_types_may_be_absent_on_either_side() {
        let ours = Schema::new(vec![optional("a"), shared("b", &[]), shared("d", &[])]).unwrap();
        let theirs = Schema::new(vec![shared("b", &[]), optional("c"), shared("d", &[]), optional("e")]).unwrap();
        let map = Schema::map(&ours, &theirs).unwrap();
        assert_eq!([0, 1, 2].map(|index| map.theirs(TypeId(index))), [None, Some(0), Some(2)]);
        assert_eq!([0, 1, 2, 3].map(|index| map.ours(index)), [Some(TypeId(1)), None, Some(TypeId(2)), None]);
        assert!(map.contains(3), "what is skipped is still known to be there");
        let back = Schema::map(&theirs, &ours).unwrap();
        assert_eq!([0, 1, 2].map(|index| back.ours(index)), [None, Some(TypeId(0)), Some(TypeId(2))]);
    }

    #[test]
    fn a_missing_type_is_named_on_both_sides() {
        let both = mismatch(vec![shared("game::Hat", &[])], vec![]);
        assert_eq!(
            both,
            [
                "type `game::Hat` is not shared by the other peer (mark it `#[net(optional)]`, or build both from the same source)",
                "type `game::Hat` of the other peer is not shared by this one (mark it `#[net(optional)]` there, or build both from the same source)",
            ]
        );
    }

    #[test]
    fn another_coding_names_the_field_and_what_both_say() {
        let ours = shared("game::Pos", &[("id", "u8"), ("xy", "vec2 step 0.01 range -512..=512")]);
        let theirs = shared("game::Pos", &[("id", "u8"), ("xy", "vec2")]);
        assert_eq!(
            mismatch(vec![ours], vec![theirs]),
            [
                "type `game::Pos`, field `xy`: this peer has `vec2 step 0.01 range -512..=512`, the other `vec2`",
                "type `game::Pos`, field `xy`: this peer has `vec2`, the other `vec2 step 0.01 range -512..=512`",
            ]
        );
    }

    #[test]
    fn other_fields_are_named_with_their_place() {
        let (ab, ba) = ([("a", "u8"), ("b", "f32")], [("b", "f32"), ("a", "u8")]);
        assert_eq!(
            mismatch(vec![shared("T", &ab)], vec![shared("T", &ba)])[0],
            "type `T`, field 1: this peer has `a` (`u8`), the other `b` (`f32`)"
        );
        assert_eq!(
            mismatch(vec![shared("T", &ab)], vec![shared("T", &[("a", "u8")])]),
            [
                "type `T`, field 2: this peer has `b` (`f32`), the other none",
                "type `T`, field 2: this peer has none, the other `b` (`f32`)",
            ]
        );
    }

    #[test]
    fn another_kind_is_a_mismatch() {
        let theirs = TypeSchema { kind: TypeKind::Event, ..shared("T", &[]) };
        assert_eq!(
            mismatch(vec![shared("T", &[])], vec![theirs])[0],
            "type `T`: for this peer it is a component, for the other an event"
        );
    }

    #[test]
    fn another_way_to_travel_is_a_mismatch() {
        let event = |delivery| vec![TypeSchema { kind: TypeKind::Event, delivery, ..shared("T", &[]) }];
        assert_eq!(
            mismatch(event(Delivery::Ordered("chat".into())), event(Delivery::Unreliable)),
            [
                "event `T`: for this peer it is of the channel `chat`, for the other unreliable",
                "event `T`: for this peer it is unreliable, for the other of the channel `chat`",
            ]
        );
        assert_eq!(
            mismatch(event(Delivery::default()), event(Delivery::Unordered))[0],
            "event `T`: for this peer it is of the channel that has no name, for the other unordered"
        );
    }

    #[test]
    fn each_side_numbers_the_channels_of_its_own_schema() {
        let event = |name: &str, channel: &str, optional| TypeSchema {
            kind: TypeKind::Event,
            delivery: Delivery::Ordered(channel.into()),
            optional,
            ..shared(name, &[])
        };
        let named = |number| Some(Channel::Named(crate::EventChannel::new(number).unwrap()));
        let ours = Schema::new(vec![event("b", "b", false)]).unwrap();
        let theirs = Schema::new(vec![event("a", "a", true), event("b", "b", false)]).unwrap();
        let map = Schema::map(&ours, &theirs).unwrap();
        assert_eq!([0, 1, 2].map(|index| map.channel(index)), [named(0), named(1), None]);
    }
}
