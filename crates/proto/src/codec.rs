//! How values become bits and back: the words of the wire that everything else is spelled with.
//!
//! Writing cannot fail. Reading never panics and never allocates more than a small multiple of what it was given:
//! every read returns a [`DecodeError`] where the bytes are not what they should be.

mod bits;
pub mod opaque;
pub mod varint;

pub use bits::{BitReader, BitWriter};

/// Why bytes could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end before the value does.
    #[error("the bytes end before the value does")]
    Truncated,
    /// Something follows the value.
    #[error("bytes follow where the value should end")]
    Trailing,
    /// A variable-length integer with needless bytes, or of more than 64 bits.
    #[error("a variable-length integer is longer than it may be")]
    Varint,
    /// Padding that is not zero.
    #[error("padding bits are not zero")]
    Padding,
    /// A text that is not UTF-8.
    #[error("a text is not UTF-8")]
    Utf8,
    /// A value that is larger than its limit, in bytes.
    #[error("a value is larger than the {0} bytes it may have")]
    TooLarge(usize),
    /// Bytes that are no value of this Rust type.
    #[error("the bytes are no value of the type {0}")]
    Opaque(&'static str),
}
