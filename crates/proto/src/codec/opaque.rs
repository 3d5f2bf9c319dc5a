//! How a value that has only serde becomes bytes: bincode 2, little endian, variable-length integers.
//!
//! The one module that names bincode, so that everything else is ours to change. No names are written, so both sides
//! must have the same type; the schema sees to that.

mod guard;

use bincode::config::{Configuration, Limit, standard};
use serde::{Serialize, de::DeserializeOwned};

use super::DecodeError;

use guard::{Budget, Seed};

/// The most bytes that one value may have.
pub const MAX_OPAQUE: usize = crate::link::MAX_MESSAGE;

/// bincode counts what values take in memory, where a byte may become an `u128`: this never refuses what fits
/// [`MAX_OPAQUE`], and keeps a hostile length from allocating more than a MiB.
const LIMIT: usize = 16 * MAX_OPAQUE;

/// How deep a value may be nested. A deeper one can be written, but no peer reads it.
pub const MAX_DEPTH: u32 = 64;
/// How many elements and fields a value may have, whether or not they take any bytes.
const MAX_ELEMENTS: usize = 8 * MAX_OPAQUE;

const CONFIG: Configuration = standard();
const LIMITED: Configuration<bincode::config::LittleEndian, bincode::config::Varint, Limit<LIMIT>> =
    standard().with_limit::<LIMIT>();

/// Why a value could not be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The value is larger than [`MAX_OPAQUE`].
    #[error("a value of the type {name} takes {size} bytes, and at most {MAX_OPAQUE} can be sent: split it")]
    TooLarge {
        /// The Rust type.
        name: &'static str,
        /// Its size in bytes.
        size: usize,
    },
    /// Its `Serialize` failed, or asks for what a format without names cannot do (`#[serde(flatten)]`).
    #[error("a value of the type {name} cannot be serialized: {reason}")]
    Refused {
        /// The Rust type.
        name: &'static str,
        /// What serde says.
        reason: String,
    },
}

/// Writes a value.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let name = core::any::type_name::<T>();
    let bytes = bincode::serde::encode_to_vec(value, CONFIG)
        .map_err(|error| EncodeError::Refused { name, reason: error.to_string() })?;
    if bytes.len() > MAX_OPAQUE {
        return Err(EncodeError::TooLarge { name, size: bytes.len() });
    }
    Ok(bytes)
}

/// Reads a value that takes all of these bytes, and is nested at most [`MAX_DEPTH`] deep.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.len() > MAX_OPAQUE {
        return Err(DecodeError::TooLarge(MAX_OPAQUE));
    }
    let budget = Budget::new(MAX_ELEMENTS);
    let (value, taken) = bincode::serde::seed_decode_from_slice(Seed::new(&budget, MAX_DEPTH), bytes, LIMITED)
        .map_err(|_| DecodeError::Opaque(core::any::type_name::<T>()))?;
    if taken == bytes.len() { Ok(value) } else { Err(DecodeError::Trailing) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Empty,
        Named { name: String, scores: Vec<i32> },
        Nested(Option<(u64, f32)>, BTreeMap<u8, String>),
    }

    fn shape() -> impl Strategy<Value = Shape> {
        prop_oneof![
            Just(Shape::Empty),
            (".{0,9}", proptest::collection::vec(any::<i32>(), 0..9))
                .prop_map(|(name, scores)| Shape::Named { name, scores }),
            (
                proptest::option::of((any::<u64>(), -9.0_f32..9.0)),
                proptest::collection::btree_map(any::<u8>(), ".{0,9}", 0..4)
            )
                .prop_map(|(pair, map)| Shape::Nested(pair, map)),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in shape()) {
            let bytes = encode(&value).unwrap();
            prop_assert_eq!(decode::<Shape>(&bytes), Ok(value));
        }

        #[test]
        fn garbage_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Shape>(&bytes);
            let _ = decode::<Vec<String>>(&bytes);
        }

        #[test]
        fn what_is_cut_off_is_missed(value in shape(), cut in any::<prop::sample::Index>()) {
            let bytes = encode(&value).unwrap();
            let cut = bytes.get(..cut.index(bytes.len())).unwrap();
            prop_assert!(decode::<Shape>(cut).is_err());
        }
    }

    #[test]
    fn what_follows_the_value_is_refused() {
        let mut bytes = encode(&7_u32).unwrap();
        bytes.push(0);
        assert_eq!(decode::<u32>(&bytes), Err(DecodeError::Trailing));
    }

    #[test]
    fn a_hostile_length_is_refused_before_anything_is_allocated() {
        let mut bytes = vec![253];
        bytes.extend(u64::MAX.to_le_bytes());
        assert_eq!(decode::<Vec<u8>>(&bytes), Err(DecodeError::Opaque("alloc::vec::Vec<u8>")));
        assert_eq!(decode::<String>(&bytes), Err(DecodeError::Opaque("alloc::string::String")));
    }

    #[test]
    fn many_small_integers_fit_as_long_as_their_bytes_do() {
        let small = vec![7_u128; MAX_OPAQUE - 5];
        let bytes = encode(&small).unwrap();
        assert!(decode(&bytes) == Ok(small));
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Tree {
        Leaf,
        Branch(Box<Self>),
        Fork { left: Option<Box<Self>>, right: Vec<Self> },
    }

    #[test]
    fn a_value_nested_without_end_is_refused_before_the_stack_is() {
        assert_eq!(decode::<Tree>(&vec![1; MAX_OPAQUE]), Err(DecodeError::Opaque(core::any::type_name::<Tree>())));
        let nested = |depth| (0..depth).fold(Tree::Leaf, |tree, _| Tree::Branch(Box::new(tree)));
        let deep = nested(MAX_DEPTH - 1);
        assert_eq!(decode(&encode(&deep).unwrap()), Ok(deep));
        assert!(decode::<Tree>(&encode(&nested(MAX_DEPTH)).unwrap()).is_err());
        let fork = Tree::Fork { left: Some(Box::new(nested(3))), right: vec![nested(2), Tree::Leaf] };
        assert_eq!(decode(&encode(&fork).unwrap()), Ok(fork));
    }

    #[test]
    fn a_list_of_nothings_is_no_longer_than_a_frame_allows() {
        let mut bytes = vec![253];
        bytes.extend((u64::MAX / 2).to_le_bytes());
        assert!(decode::<Vec<()>>(&bytes).is_err());
        assert!(decode::<Vec<Vec<()>>>(&[[1].as_slice(), &bytes].concat()).is_err());
        assert_eq!(decode::<Vec<()>>(&[250]), Ok(vec![(); 250]));
    }

    #[test]
    fn what_is_too_large_is_refused_on_both_sides() {
        let text = "x".repeat(MAX_OPAQUE);
        assert_eq!(encode(&text), Err(EncodeError::TooLarge { name: "alloc::string::String", size: MAX_OPAQUE + 5 }));
        assert_eq!(decode::<String>(&vec![0; MAX_OPAQUE + 1]), Err(DecodeError::TooLarge(MAX_OPAQUE)));
    }
}
