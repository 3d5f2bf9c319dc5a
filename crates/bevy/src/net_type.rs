//! What can a type do that crosses the network? It has a schema, and it becomes bits and comes back from them.
//!
//! Games do not write these traits out: `derive(Networked)`, `derive(NetInput)` and `derive(NetEvent)` do. A type has
//! exactly one of the three kinds.

mod builtin;
#[doc(hidden)]
pub mod derived;

use bevy_ecs::{
    component::{Component, Mutable},
    entity::Entity,
};
use bytes::Bytes;
use coplay_proto::{
    NetId,
    codec::{BitReader, BitWriter, DecodeError, opaque},
    schema::TypeSchema,
};

/// How references to entities cross: every peer has its own [`Entity`] for the entity that all know by its [`NetId`].
pub trait EntityRefs {
    /// The name that all peers know the entity by. `None` if it is not shared, or gone.
    fn to_net(&self, entity: Entity) -> Option<NetId>;

    /// The entity of this peer's world that has this name. `None` if this peer does not know it.
    fn to_entity(&mut self, id: NetId) -> Option<Entity>;
}

/// A type whose values cross the network.
///
/// Derived together with its kind: [`Networked`], [`NetInput`] or [`NetEvent`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not shared between peers",
    label = "not a networked type",
    note = "derive `Networked` (state), `NetInput` (from the controller to the owner) or `NetEvent` for `{Self}`"
)]
pub trait NetType: Sized + Send + Sync + 'static {
    /// Its name, kind and fields: compared before two peers play together.
    fn schema() -> TypeSchema;

    /// Appends the value.
    ///
    /// # Errors
    /// The value is larger than can be sent. What was appended until then is to be thrown away.
    fn write(&self, out: &mut BitWriter, refs: &dyn EntityRefs) -> Result<(), EncodeError>;

    /// Takes a value off the front: the way back from [`Self::write`].
    ///
    /// # Errors
    /// The bits are no value of this type. Never panics, and allocates no more than a small multiple of the input.
    fn read(input: &mut BitReader<'_>, refs: &mut dyn EntityRefs) -> Result<Self, DecodeError>;
}

/// State: a component whose newest value goes from the owner of its entity to every peer.
///
/// ```
/// # use bevy_color::Color;
/// # use bevy_ecs::prelude::*;
/// # use bevy_math::Vec2;
/// use bevy_coplay::Networked;
///
/// #[derive(Component, Networked, Clone, Default)]
/// #[net(interpolate)]
/// struct Pos {
///     #[net(step = 0.01, range = -512.0..=512.0)]
///     xy: Vec2,
/// }
///
/// #[derive(Component, Networked, Clone, Default)]
/// struct Tint(Color);
/// ```
///
/// On the type:
///
/// * `interpolate`: what other peers own is shown between two received values, and not where it last was.
/// * `name = "game::Pos"`: peers know the type by this name; otherwise by its path, `my_game::Pos`.
/// * `optional`: a peer that does not have the type can play along, and misses what it says.
/// * `serde`: all of it goes by `serde`, as one value. `Entity` is not mapped then.
///
/// On a field: `step`, `range` and `bits`, as [`NetField`](crate::NetField) says, or `serde` for what is no `NetField`.
/// The types that serde reads must not contain themselves: a peer could send one so deep that reading it overflows the
/// stack.
///
/// What cannot work does not compile. Interpolation is for state:
///
/// ```compile_fail
/// # use bevy_coplay::NetEvent;
/// #[derive(NetEvent, Clone)]
/// #[net(interpolate)]
/// struct Honk;
/// ```
///
/// A float with a range needs a step, or bits:
///
/// ```compile_fail
/// # use bevy_coplay::NetEvent;
/// #[derive(NetEvent, Clone)]
/// struct Honk(#[net(range = 0.0..=1.0)] f32);
/// ```
///
/// also where the range is a constant, or the float is a part of something:
///
/// ```compile_fail
/// # use bevy_coplay::NetEvent;
/// #[derive(NetEvent, Clone)]
/// struct Honk(#[net(range = 0.0..=1.0)] Option<f32>);
/// ```
///
/// `usize` has another size in the browser:
///
/// ```compile_fail
/// # use bevy_coplay::NetEvent;
/// #[derive(NetEvent, Clone)]
/// struct Honk(usize);
/// ```
///
/// A type has one kind:
///
/// ```compile_fail
/// # use bevy_ecs::prelude::*;
/// # use bevy_coplay::{NetInput, Networked};
/// #[derive(Component, Networked, NetInput, Clone, Default)]
/// struct Move(f32);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not shared state",
    label = "not `Networked`",
    note = "derive it: `#[derive(Component, Networked, Clone)]`"
)]
pub trait Networked: NetType + Component<Mutability = Mutable> + Clone {
    /// Whether remote values are shown between two received ones: `#[net(interpolate)]`.
    const INTERPOLATE: bool;

    /// The value at `t` between this one (0) and `to` (1). What cannot be between is the newer one, `to`.
    fn lerp(&self, to: &Self, t: f32) -> Self {
        let _ = t;
        to.clone()
    }
}

/// Input: a component whose value goes from the controller of its entity to the owner, tick by tick.
///
/// ```
/// # use bevy_ecs::prelude::*;
/// # use bevy_math::Vec2;
/// use bevy_coplay::NetInput;
///
/// #[derive(Component, NetInput, Clone, Default)]
/// struct Move {
///     #[net(range = -1.0..=1.0, bits = 8)]
///     to: Vec2,
///     jump: bool,
/// }
/// ```
///
/// Takes the attributes of [`Networked`], but `interpolate`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an input",
    label = "not `NetInput`",
    note = "derive it: `#[derive(Component, NetInput, Clone, Default)]`"
)]
pub trait NetInput: NetType + Component<Mutability = Mutable> + Clone + Default {}

/// An event: delivered exactly once to each peer that it is for, in order.
///
/// ```
/// # use bevy_ecs::prelude::*;
/// # use bevy_math::Vec2;
/// use bevy_coplay::NetEvent;
///
/// #[derive(NetEvent, Clone)]
/// struct Honk {
///     by: Option<Entity>,
/// }
///
/// // In order among themselves, and not held up by what is lost of other events.
/// #[derive(NetEvent, Clone)]
/// #[net(channel = "chat")]
/// struct Line(String);
///
/// #[derive(NetEvent, Clone)]
/// #[net(channel = "chat")]
/// struct Typing;
///
/// // Sent once; shown as it comes, or not at all.
/// #[derive(NetEvent, Clone)]
/// #[net(unreliable)]
/// struct Sparks(#[net(step = 0.1, range = -100.0..=100.0)] Vec2);
/// ```
///
/// Takes the attributes of [`Networked`], but `interpolate`, and says how it travels:
///
/// | | |
/// |---|---|
/// | nothing | Exactly once, in the order in which a peer sends all events of which the types say nothing. |
/// | `channel = "chat"` | Exactly once, in the order in which a peer sends the events of this channel, whatever their types; other channels do not wait for it, nor it for them. Up to 15 channels have names. |
/// | `unordered` | Exactly once, as soon as it comes. |
/// | `unreliable` | Sent once, at most 960 bytes: it comes soon, or it is lost. For what is seen and forgotten, such as sparks. |
///
/// It is part of what is compared before two peers play together.
///
/// ```compile_fail
/// # use bevy_coplay::NetEvent;
/// #[derive(NetEvent, Clone)]
/// #[net(channel = "chat", unreliable)]
/// struct Line(String);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event of the network",
    label = "not `NetEvent`",
    note = "derive it: `#[derive(NetEvent, Clone)]`"
)]
pub trait NetEvent: NetType + Clone {}

/// What `App::add_net` takes: a type of any of the three kinds, or a tuple of up to 16 of them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be added to what the peers share",
    label = "not a networked type",
    note = "derive `Networked`, `NetInput` or `NetEvent` for it; at most 16 types go into one tuple"
)]
pub trait Register {
    /// Names each type to the registrar, by its kind.
    fn register<R: Registrar>(registrar: &mut R);
}

/// Who wants to know which types are shared: the plugin.
pub trait Registrar {
    /// A component, newest value wins.
    fn component<T: Networked>(&mut self);

    /// An input.
    fn input<T: NetInput>(&mut self);

    /// An event.
    fn event<T: NetEvent>(&mut self);
}

/// Why a value cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A text or a list that is too long.
    #[error("`{field}` has a length of {length}, and at most {max} can be sent: shorten or split it")]
    TooLong {
        /// Which field.
        field: &'static str,
        /// Its length: bytes of a text, items of a list.
        length: usize,
        /// The limit.
        max: usize,
    },
    /// A field with `#[net(serde)]` that cannot be serialized.
    #[error("`{field}`: {error}")]
    Opaque {
        /// Which field; the type, if all of it goes through serde.
        field: &'static str,
        /// What is wrong.
        error: opaque::EncodeError,
    },
}

/// The bytes of one value, as a session carries them.
pub(crate) fn to_bytes<T: NetType>(value: &T, refs: &dyn EntityRefs) -> Result<Bytes, EncodeError> {
    let mut out = BitWriter::new();
    value.write(&mut out, refs)?;
    Ok(out.finish().into())
}

/// The value of which these are the bytes: the way back from [`to_bytes`]. Nothing may follow it.
pub(crate) fn from_bytes<T: NetType>(bytes: &[u8], refs: &mut dyn EntityRefs) -> Result<T, DecodeError> {
    let mut input = BitReader::new(bytes);
    let value = T::read(&mut input, refs)?;
    input.finish()?;
    Ok(value)
}

macro_rules! register_tuple {
    ($($name:ident)*) => {
        impl<$($name: Register),*> Register for ($($name,)*) {
            fn register<R: Registrar>(registrar: &mut R) {
                $($name::register(registrar);)*
            }
        }
    };
}

register_tuple!(A);
register_tuple!(A B);
register_tuple!(A B C);
register_tuple!(A B C D);
register_tuple!(A B C D E);
register_tuple!(A B C D E F);
register_tuple!(A B C D E F G);
register_tuple!(A B C D E F G H);
register_tuple!(A B C D E F G H I);
register_tuple!(A B C D E F G H I J);
register_tuple!(A B C D E F G H I J K);
register_tuple!(A B C D E F G H I J K L);
register_tuple!(A B C D E F G H I J K L M);
register_tuple!(A B C D E F G H I J K L M N);
register_tuple!(A B C D E F G H I J K L M N O);
register_tuple!(A B C D E F G H I J K L M N O P);

#[cfg(test)]
mod tests;
