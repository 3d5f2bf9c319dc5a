//! How does a field with `#[net(serde)]` cross? As bytes that only its own type understands.

use coplay_proto::codec::{BitReader, BitWriter, DecodeError, opaque};
use serde::{Serialize, de::DeserializeOwned};

use crate::net_type::EncodeError;

/// Appends a value by its `Serialize`. `field` is what an error names.
///
/// # Errors
/// The value is larger than 64 KiB, or its `Serialize` fails.
pub fn write_opaque<T: Serialize>(value: &T, out: &mut BitWriter, field: &'static str) -> Result<(), EncodeError> {
    let bytes = opaque::encode(value).map_err(|error| EncodeError::Opaque { field, error })?;
    out.write_bytes(&bytes);
    Ok(())
}

/// Takes a value off the front by its `Deserialize`: the way back from [`write_opaque`].
///
/// # Errors
/// The bytes are no value of this type.
pub fn read_opaque<T: DeserializeOwned>(input: &mut BitReader<'_>) -> Result<T, DecodeError> {
    opaque::decode(input.read_bytes()?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_has_serde_comes_back_wherever_it_begins() {
        let scores: BTreeMap<String, i64> = [("a".to_owned(), -1), ("b".to_owned(), 2)].into();
        let mut out = BitWriter::new();
        out.write_bool(true);
        write_opaque(&scores, &mut out, "Board.scores").unwrap();
        let bytes = out.finish();
        let mut input = BitReader::new(&bytes);
        assert_eq!(input.read_bool(), Ok(true));
        assert_eq!(read_opaque::<BTreeMap<String, i64>>(&mut input), Ok(scores));
        assert_eq!(input.finish(), Ok(()));
    }

    #[test]
    fn what_is_too_large_is_refused_by_name() {
        let error = write_opaque(&vec![0_u8; opaque::MAX_OPAQUE], &mut BitWriter::new(), "Level.map").unwrap_err();
        assert!(error.to_string().starts_with("`Level.map`: a value of the type"), "{error}");
    }

    #[test]
    fn bytes_that_are_no_value_are_refused() {
        for bytes in [&[][..], &[9], &[1, 7, 0], &[2, 1, 0], &[2, 0, 0]] {
            assert!(read_opaque::<bool>(&mut BitReader::new(bytes)).is_err(), "{bytes:?}");
        }
        assert_eq!(read_opaque::<bool>(&mut BitReader::new(&[1, 1])), Ok(true));
    }
}
