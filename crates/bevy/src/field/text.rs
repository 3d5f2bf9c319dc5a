//! How does text cross? As UTF-8 of a bounded length.

use coplay_proto::codec::{BitReader, BitWriter, DecodeError};

use super::{FieldOptions, NetField};
use crate::net_type::{EncodeError, EntityRefs};

/// The most bytes that a text has in a field.
pub const MAX_TEXT: usize = 1024;

impl NetField for String {
    fn coding(_: &FieldOptions) -> String {
        "text".to_owned()
    }

    fn write(&self, out: &mut BitWriter, options: &FieldOptions, _: &dyn EntityRefs) -> Result<(), EncodeError> {
        write_text(self, out, options.name())
    }

    fn read(input: &mut BitReader<'_>, _: &FieldOptions, _: &mut dyn EntityRefs) -> Result<Self, DecodeError> {
        Ok(read_text(input)?.to_owned())
    }
}

/// Appends a text.
pub(crate) fn write_text(text: &str, out: &mut BitWriter, field: &'static str) -> Result<(), EncodeError> {
    if text.len() > MAX_TEXT {
        return Err(EncodeError::TooLong { field, length: text.len(), max: MAX_TEXT });
    }
    out.write_str(text);
    Ok(())
}

/// Takes a text off the front: the way back from [`write_text`].
pub(crate) fn read_text<'a>(input: &mut BitReader<'a>) -> Result<&'a str, DecodeError> {
    let text = input.read_str()?;
    if text.len() > MAX_TEXT { Err(DecodeError::TooLarge(MAX_TEXT)) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{
        Precision,
        testing::{decode, encode, field, trip},
    };

    #[test]
    fn text_comes_back() {
        let options = field::<String>(Precision::NONE);
        assert_eq!(String::coding(&options), "text");
        for text in ["", "x", "жук 🐞", &"x".repeat(MAX_TEXT)] {
            assert_eq!(trip(&text.to_owned(), &options).0, text);
        }
    }

    #[test]
    fn a_text_that_is_too_long_is_refused_on_both_sides() {
        let options = field::<String>(Precision::NONE);
        let long = "x".repeat(MAX_TEXT + 1);
        assert_eq!(
            encode(&long, &options),
            Err(EncodeError::TooLong { field: "Type.field", length: MAX_TEXT + 1, max: MAX_TEXT })
        );
        let mut out = BitWriter::new();
        out.write_str(&long);
        assert_eq!(decode::<String>(&out.finish(), &options), Err(DecodeError::TooLarge(MAX_TEXT)));
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let options = field::<String>(Precision::NONE);
        assert_eq!(decode::<String>(&[2, 0xff, 0xff], &options), Err(DecodeError::Utf8));
        assert_eq!(decode::<String>(&[3, b'a', b'b'], &options), Err(DecodeError::Truncated));
        assert_eq!(decode::<String>(&[], &options), Err(DecodeError::Truncated));
    }
}
