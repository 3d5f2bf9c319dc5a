//! What a game shares: the names of its types and their fields, compared before two peers play together.

mod compare;

use serde::{Deserialize, Serialize};

pub use compare::{Mismatch, TypeMap};

use crate::{Channel, EventChannel, session::TypeId};

/// The most types that a game can share.
pub const MAX_TYPES: usize = 1024;
/// The most fields that one type can have.
pub const MAX_FIELDS: usize = 64;
/// The most bytes of a type's name, of a field's name, and of a field's coding.
pub const MAX_NAME: usize = 256;
/// The most bytes of all names and codings together, each counted with [`NAME_OVERHEAD`], so that a schema fits one message.
pub const MAX_TEXT: usize = 60 * 1024;
/// How many bytes a name or coding takes on the wire besides its own, at the most.
pub const NAME_OVERHEAD: usize = 4;

/// All types that a game shares, in the order of their names: neither order of registration nor build matters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    types: Vec<TypeSchema>,
}

/// One shared type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeSchema {
    /// Its TypePath, or what `#[net(name = "..")]` says.
    pub name: String,
    /// What it is for.
    pub kind: TypeKind,
    /// Whether a peer may lack it (`#[net(optional)]`).
    pub optional: bool,
    /// How it travels, if it is an event; else the default.
    pub delivery: Delivery,
    /// Its fields in order.
    pub fields: Vec<FieldSchema>,
}

/// One field of a shared type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldSchema {
    /// Its name; the index for a tuple struct.
    pub name: String,
    /// How it is coded, quantisation included: `f32`, `vec2 step 0.01 range -512..=512`, `serde`.
    pub coding: String,
}

/// What a shared type is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TypeKind {
    /// Newest wins, from the owner to everyone.
    Component,
    /// From the controller to the owner.
    Input,
    /// Once and in order.
    Event,
}

/// How an event travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// Exactly once, in the order in which one peer sends what is of the channel with this name. The empty name is that of
    /// the channel of all events that name none, which is the default.
    Ordered(String),
    /// Exactly once, as soon as it comes: `#[net(unordered)]`.
    Unordered,
    /// Sent once, delivered as soon as it comes, or lost: `#[net(unreliable)]`.
    Unreliable,
}

impl Default for Delivery {
    fn default() -> Self {
        Self::Ordered(String::new())
    }
}

/// Why types cannot be shared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// Two types have the same name.
    #[error(
        "N0004: two shared types are named `{0}`: add each type once, and give one of them a `#[net(name = \"..\")]`"
    )]
    Duplicate(String),
    /// More than [`MAX_TYPES`].
    #[error("N0005: {0} types are shared, and at most {MAX_TYPES} can be: put several values into one type")]
    TooManyTypes(usize),
    /// More than [`MAX_FIELDS`].
    #[error(
        "N0005: type `{0}` has more than {MAX_FIELDS} fields: group some of them into a struct with `#[net(serde)]`"
    )]
    TooManyFields(String),
    /// A name or coding that is empty, longer than [`MAX_NAME`], or has control characters.
    #[error(
        "N0005: `{0}` is no name that can be shared (1 to {MAX_NAME} bytes of text): give it a `#[net(name = \"..\")]`"
    )]
    Name(String),
    /// More than [`MAX_TEXT`].
    #[error(
        "N0005: the names of all shared types take {0} bytes, and at most {MAX_TEXT} can be sent: shorten them with `#[net(name = \"..\")]`"
    )]
    TooMuchText(usize),
    /// More than [`EventChannel::MOST`].
    #[error("N0005: the events name {0} channels, and at most {most} can be: let some share a channel", most = EventChannel::MOST)]
    TooManyChannels(usize),
    /// A way to travel for what is no event.
    #[error("type `{0}` is no event, and says how one travels: leave that out")]
    NoEvent(String),
    /// Types that are not in the order of their names: no schema of a coplay peer.
    #[error("the types of a schema are not in the order of their names")]
    Unordered,
}

impl Schema {
    /// The schema of these types, in whatever order.
    pub fn new(mut types: Vec<TypeSchema>) -> Result<Self, SchemaError> {
        types.sort_by(|a, b| a.name.cmp(&b.name));
        let schema = Self { types };
        schema.validate_remote()?;
        Ok(schema)
    }

    /// Checks what [`Self::new`] sees to, for a schema that came over the wire.
    pub fn validate_remote(&self) -> Result<(), SchemaError> {
        if self.types.len() > MAX_TYPES {
            return Err(SchemaError::TooManyTypes(self.types.len()));
        }
        let mut text = 0;
        for shared in &self.types {
            if shared.fields.len() > MAX_FIELDS {
                return Err(SchemaError::TooManyFields(shown(&shared.name)));
            }
            if shared.kind != TypeKind::Event && shared.delivery != Delivery::default() {
                return Err(SchemaError::NoEvent(shown(&shared.name)));
            }
            let fields = shared.fields.iter().flat_map(|field| [&field.name, &field.coding]);
            for name in core::iter::once(&shared.name).chain(fields).chain(shared.channel_name()) {
                if name.is_empty() || name.len() > MAX_NAME || name.contains(char::is_control) {
                    return Err(SchemaError::Name(shown(name)));
                }
                text += name.len() + NAME_OVERHEAD;
            }
        }
        if text > MAX_TEXT {
            return Err(SchemaError::TooMuchText(text));
        }
        let named = self.channel_names().len();
        if named > usize::from(EventChannel::MOST) {
            return Err(SchemaError::TooManyChannels(named));
        }
        for (one, next) in self.types.iter().zip(self.types.iter().skip(1)) {
            match one.name.cmp(&next.name) {
                core::cmp::Ordering::Less => {}
                core::cmp::Ordering::Equal => return Err(SchemaError::Duplicate(one.name.clone())),
                core::cmp::Ordering::Greater => return Err(SchemaError::Unordered),
            }
        }
        Ok(())
    }

    /// The types in the order of their names; a [`TypeId`] is the index into it.
    pub fn types(&self) -> &[TypeSchema] {
        &self.types
    }

    /// The type with this id.
    pub fn get(&self, id: TypeId) -> Option<&TypeSchema> {
        self.types.get(usize::from(id.0))
    }

    /// The id of the type with this name.
    pub fn index_of(&self, name: &str) -> Option<TypeId> {
        let index = self.types.binary_search_by(|shared| shared.name.as_str().cmp(name)).ok()?;
        u16::try_from(index).ok().map(TypeId)
    }

    /// The channel that each type's messages take, by its id; the control channel for what is no event. Channels have
    /// numbers in the order of their names, so that those of another schema may differ.
    pub fn channels(&self) -> Vec<Channel> {
        let names = self.channel_names();
        let channel = |shared: &TypeSchema| match &shared.delivery {
            _ if shared.kind != TypeKind::Event => Channel::Control,
            Delivery::Unordered => Channel::Unordered,
            Delivery::Unreliable => Channel::Unreliable,
            Delivery::Ordered(name) => {
                let number = names.iter().position(|other| *other == name).and_then(|number| u8::try_from(number).ok());
                number.and_then(EventChannel::new).map_or(Channel::Events, Channel::Named)
            }
        };
        self.types.iter().map(channel).collect()
    }

    /// In their order, each once.
    fn channel_names(&self) -> Vec<&String> {
        let mut names: Vec<_> = self.types.iter().filter_map(TypeSchema::channel_name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Compares what two peers share: how each names the other's types, or the first thing, in the order of the
    /// names, that keeps them from playing together.
    pub fn map(ours: &Self, theirs: &Self) -> Result<TypeMap, Mismatch> {
        compare::compare(&ours.types, &theirs.types, theirs.channels())
    }
}

impl TypeSchema {
    /// The same event, in order with those of the channel with this name.
    #[must_use]
    pub fn channel(mut self, name: &str) -> Self {
        self.delivery = Delivery::Ordered(name.to_owned());
        self
    }

    /// The same event, [unordered](Delivery::Unordered).
    #[must_use]
    pub fn unordered(mut self) -> Self {
        self.delivery = Delivery::Unordered;
        self
    }

    /// The same event, [unreliable](Delivery::Unreliable).
    #[must_use]
    pub fn unreliable(mut self) -> Self {
        self.delivery = Delivery::Unreliable;
        self
    }

    fn channel_name(&self) -> Option<&String> {
        match &self.delivery {
            Delivery::Ordered(name) => Some(name).filter(|name| !name.is_empty()),
            Delivery::Unordered | Delivery::Unreliable => None,
        }
    }
}

/// A name fit to be shown, however it came to be.
fn shown(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn shared(name: &str) -> TypeSchema {
        let fields = vec![FieldSchema { name: "0".into(), coding: "f32".into() }];
        TypeSchema {
            name: name.into(),
            kind: TypeKind::Component,
            optional: false,
            delivery: Delivery::default(),
            fields,
        }
    }

    #[test]
    fn types_are_in_the_order_of_their_names() {
        let one = Schema::new(vec![shared("c"), shared("a"), shared("b")]).unwrap();
        let other = Schema::new(vec![shared("b"), shared("c"), shared("a")]).unwrap();
        assert_eq!(one, other);
        assert_eq!(one.types().iter().map(|shared| shared.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(one.index_of("b"), Some(TypeId(1)));
        assert_eq!(one.index_of("d"), None);
        assert_eq!(one.get(TypeId(2)), Some(&shared("c")));
        assert_eq!(one.get(TypeId(3)), None);
    }

    #[test]
    fn two_types_of_one_name_are_refused_with_a_code_and_a_fix() {
        let error = Schema::new(vec![shared("game::Pos"), shared("a"), shared("game::Pos")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "N0004: two shared types are named `game::Pos`: add each type once, and give one of them a `#[net(name = \"..\")]`"
        );
    }

    #[test]
    fn bounds_hold_for_ours_and_theirs() {
        let many = (0..=MAX_TYPES).map(|index| shared(&format!("t{index}"))).collect();
        assert_eq!(Schema::new(many), Err(SchemaError::TooManyTypes(MAX_TYPES + 1)));
        let mut wide = shared("wide");
        wide.fields =
            (0..=MAX_FIELDS).map(|index| FieldSchema { name: format!("f{index}"), coding: "f32".into() }).collect();
        assert_eq!(Schema::new(vec![wide]), Err(SchemaError::TooManyFields("wide".into())));
        assert!(matches!(Schema::new(vec![shared(&"x".repeat(MAX_NAME + 1))]), Err(SchemaError::Name(_))));
        assert_eq!(Schema::new(vec![shared("a\u{1b}[2J")]), Err(SchemaError::Name("a\\u{1b}[2J".into())));
        assert_eq!(Schema::new(vec![shared("")]), Err(SchemaError::Name(String::new())));
        let long = (0..350).map(|index| shared(&format!("{index:0>200}"))).collect();
        assert!(matches!(Schema::new(long), Err(SchemaError::TooMuchText(_))));
        assert_eq!(Schema { types: vec![shared("b"), shared("a")] }.validate_remote(), Err(SchemaError::Unordered));
        assert_eq!(
            Schema { types: vec![shared("b"), shared("b")] }.validate_remote(),
            Err(SchemaError::Duplicate("b".into()))
        );
    }

    fn event(name: &str, delivery: Delivery) -> TypeSchema {
        TypeSchema { kind: TypeKind::Event, delivery, ..shared(name) }
    }

    fn in_channel(name: &str, channel: &str) -> TypeSchema {
        event(name, Delivery::Ordered(channel.into()))
    }

    #[test]
    fn channels_are_numbered_by_their_names() {
        let types = vec![
            in_channel("a", "score"),
            shared("b"),
            in_channel("c", "chat"),
            in_channel("d", ""),
            event("e", Delivery::Unordered),
            event("f", Delivery::Unreliable),
            in_channel("g", "score"),
        ];
        let named = |number| Channel::Named(EventChannel::new(number).unwrap());
        let channels =
            [named(1), Channel::Control, named(0), Channel::Events, Channel::Unordered, Channel::Unreliable, named(1)];
        assert_eq!(Schema::new(types).unwrap().channels(), channels);
    }

    #[test]
    fn channels_are_bounded_and_of_events_alone() {
        let many = |count: usize| {
            Schema::new((0..count).map(|index| in_channel(&format!("{index}"), &format!("{index}"))).collect())
        };
        assert!(many(usize::from(EventChannel::MOST)).is_ok());
        assert_eq!(many(16), Err(SchemaError::TooManyChannels(16)));
        let state = TypeSchema { delivery: Delivery::Unordered, ..shared("state") };
        assert_eq!(Schema::new(vec![state]), Err(SchemaError::NoEvent("state".into())));
        assert!(matches!(Schema::new(vec![in_channel("a", "b\n")]), Err(SchemaError::Name(_))));
    }

    /// As many bytes as a schema of names that long can take on the wire.
    fn largest(name: usize, fields: usize) -> usize {
        let mut types = Vec::new();
        let schema = loop {
            let mut next = shared(&format!("{:0>name$}", types.len()));
            let field = |index| FieldSchema { name: format!("{index:0>name$}"), coding: "f".into() };
            next.fields = (0..fields).map(field).collect();
            types.push(next);
            if Schema::new(types.clone()).is_err() {
                types.pop();
                break Schema::new(types).unwrap();
            }
        };
        let bytes = crate::codec::opaque::encode(&schema).unwrap();
        assert!(crate::codec::opaque::decode::<Schema>(&bytes) == Ok(schema), "what fits is read");
        bytes.len()
    }

    #[test]
    fn the_largest_schema_fits_one_message_with_room_for_the_rest() {
        for (name, fields) in [(4, 0), (40, 0), (255, 1), (2, 64), (3, 8)] {
            let size = largest(name, fields);
            assert!(size < crate::link::MAX_MESSAGE - 1024, "{size} bytes with {fields} names of {name}");
        }
    }
}
