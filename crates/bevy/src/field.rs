//! How does one field of a networked type cross? What it takes on the wire, and what its options mean.

mod collection;
mod color;
mod number;
mod opaque;
mod options;
mod reference;
mod rotation;
mod text;
mod vector;

use coplay_proto::codec::{BitReader, BitWriter, DecodeError};

pub(crate) use self::text::{read_text, write_text};
pub use self::{
    collection::MAX_ITEMS,
    opaque::{read_opaque, write_opaque},
    options::{Accepts, FieldOptions, Precision},
    text::MAX_TEXT,
};
use crate::net_type::{EncodeError, EntityRefs};

/// A type that a field of a networked type may have.
///
/// | type | on the wire | `#[net(..)]` |
/// |---|---|---|
/// | `bool` | 1 bit | |
/// | `u8`, `i8` | 8 bits | `range` or `bits` |
/// | `u16` to `u64`, `i16` to `i64`, `IVec2`, `UVec2` and so on | 7 bits a byte, the small the shorter | `range` or `bits` |
/// | `f32`, `f64`, `Vec2`, `Vec3`, `Vec3A`, `Vec4` | as they are; every NaN is the same one | `step`, `step` and `range`, or `range` and `bits` |
/// | `Quat` | four `f32` | `bits` (4 to 20): the smallest three, each of so many bits, and 2 |
/// | `Rot2` | two `f32` | `bits` (4 to 20): the angle |
/// | `Color` | its space and four `f32` | `bits` (1 to 16): sRGB and alpha, each of so many bits, 0 to 1 |
/// | `String` | at most 1 KiB ([`MAX_TEXT`]) | |
/// | `Option<T>`, `Vec<T>` (at most 1,024 items, [`MAX_ITEMS`]), `[T; N]` | | those of `T` |
/// | tuples of up to 4 | | |
/// | `Entity`, `Option<Entity>` | by the name that all peers know it by | |
/// | `PeerId`, `NetId` | 16 bytes; 3 to 11 bytes | |
/// | what derives `NetField` | its fields | |
/// | anything with serde: `#[net(serde)]` | bincode | |
///
/// # Precision
///
/// * `step = 0.01, range = -512.0..=512.0`: the nearest multiple of the step, counted from the lower bound, in as
///   few bits as there are steps. Both bounds are exact. What comes out is within half a step of what went in.
/// * `step = 0.01`: the nearest multiple of the step; small values take fewer bytes.
/// * `range = 0.0..=1.0, bits = 8`: evenly spaced values, both bounds included.
/// * `range = 0..=100` on an integer: in as few bits as that takes. `bits = 4`: 0 to 15, or -8 to 7 if it is signed.
///
/// What is out of range is sent as the nearest bound, and NaN as zero, or the bound nearest to it. The owner is
/// warned, once for each field. What was sent once does not change when it is sent on. The arithmetic is that of `f64`,
/// which is the same in the browser.
///
/// # References
///
/// An [`Entity`](bevy_ecs::entity::Entity) that the other peer cannot know arrives as `Entity::PLACEHOLDER`, and in an
/// `Option<Entity>` as `None`: prefer the latter.
///
/// # Deriving it
///
/// Fields of networked types may be structs and enums in turn, if they derive `NetField` and `Clone`:
///
/// ```
/// use bevy_coplay::{NetEvent, NetField};
///
/// #[derive(NetField, Clone)]
/// enum Weapon {
///     Fist,
///     Gun { #[net(range = 0..=30)] rounds: u8 },
/// }
///
/// #[derive(NetEvent, Clone)]
/// struct Drawn(Weapon);
/// ```
///
/// A type may not contain itself.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot cross the network as a field",
    label = "not a `NetField`",
    note = "derive `NetField` for `{Self}`, or write `#[net(serde)]` on the field if it has serde; \
            instead of `usize` or `isize`, whose size differs in the browser, use `u32` or `i32`"
)]
pub trait NetField: Clone + Send + Sync + 'static {
    /// Which options it takes.
    const ACCEPTS: Accepts = Accepts::Nothing;

    /// How it is coded, options included, for the schema that two peers compare: `f32 step 0.01 range -512..=512`.
    fn coding(options: &FieldOptions) -> String;

    /// Appends the value.
    ///
    /// # Errors
    /// The value is larger than can be sent.
    fn write(&self, out: &mut BitWriter, options: &FieldOptions, refs: &dyn EntityRefs) -> Result<(), EncodeError>;

    /// Takes a value off the front: the way back from [`Self::write`].
    ///
    /// # Errors
    /// The bits are no value of this type.
    fn read(input: &mut BitReader<'_>, options: &FieldOptions, refs: &mut dyn EntityRefs) -> Result<Self, DecodeError>;

    /// The value at `t` between this one (0) and `to` (1). What cannot be between is the newer one, `to`.
    fn lerp(&self, to: &Self, t: f32) -> Self {
        let _ = t;
        to.clone()
    }

    /// Appends the value if there is one: what an `Option` of the type does.
    #[doc(hidden)]
    fn write_option(
        value: Option<&Self>,
        out: &mut BitWriter,
        options: &FieldOptions,
        refs: &dyn EntityRefs,
    ) -> Result<(), EncodeError> {
        out.write_bool(value.is_some());
        value.map_or(Ok(()), |value| value.write(out, options, refs))
    }

    /// The way back from [`Self::write_option`].
    #[doc(hidden)]
    fn read_option(
        input: &mut BitReader<'_>,
        options: &FieldOptions,
        refs: &mut dyn EntityRefs,
    ) -> Result<Option<Self>, DecodeError> {
        Ok(if input.read_bool()? { Some(Self::read(input, options, refs)?) } else { None })
    }
}

/// What a decoder says of bits that are no value of `T`.
fn no_value<T>() -> DecodeError {
    DecodeError::Opaque(core::any::type_name::<T>())
}

#[cfg(test)]
pub(crate) mod testing;
