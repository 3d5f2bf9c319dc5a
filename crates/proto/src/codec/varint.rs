//! How integers of unknown size are written: LEB128, seven bits a byte and the lowest first.
//!
//! The top bit of a byte says that another follows. Each integer has exactly one spelling: a last byte of zero (but for
//! zero itself) is refused, and so is what does not fit 64 bits. Signed ones are zigzag coded first (0, -1, 1, -2 are
//! 0, 1, 2, 3), so that small ones of either sign are short.

use super::DecodeError;

/// The most bytes that one integer takes.
pub const MAX_LEN: usize = 10;

/// How many bytes this integer takes.
pub const fn len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends an integer.
pub fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Takes an integer off the front.
pub fn take(bytes: &mut &[u8]) -> Result<u64, DecodeError> {
    let mut rest = *bytes;
    let value = read(|| {
        let (first, tail) = rest.split_first().ok_or(DecodeError::Truncated)?;
        rest = tail;
        Ok(*first)
    })?;
    *bytes = rest;
    Ok(value)
}

/// Maps a signed integer to an unsigned one that is small if its magnitude is.
pub const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Undoes [`zigzag`].
pub const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Reads an integer from whatever gives bytes.
pub(super) fn read(mut next: impl FnMut() -> Result<u8, DecodeError>) -> Result<u64, DecodeError> {
    let mut value = 0_u64;
    let mut shift = 0;
    loop {
        let byte = next()?;
        let group = u64::from(byte & 0x7f);
        if shift == 63 && group > 1 {
            return Err(DecodeError::Varint);
        }
        value |= group << shift;
        if byte & 0x80 == 0 {
            return if byte == 0 && shift > 0 { Err(DecodeError::Varint) } else { Ok(value) };
        }
        shift += 7;
        if shift > 63 {
            return Err(DecodeError::Varint);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_integer_comes_back_with_the_length_promised(bits in 0_u32..=64, any in any::<u64>()) {
            let value = any.checked_shr(bits).unwrap_or(0);
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            prop_assert_eq!(bytes.len(), len(value));
            prop_assert!(bytes.len() <= MAX_LEN);
            let mut rest = bytes.as_slice();
            prop_assert_eq!(take(&mut rest), Ok(value));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn zigzag_is_undone(value in any::<i64>()) {
            prop_assert_eq!(unzigzag(zigzag(value)), value);
        }

        #[test]
        fn what_is_read_is_spelled_in_one_way(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut rest = bytes.as_slice();
            if let Ok(value) = take(&mut rest) {
                let mut again = Vec::new();
                put(&mut again, value);
                prop_assert_eq!(Some(again.as_slice()), bytes.get(..bytes.len() - rest.len()));
            }
        }
    }

    #[test]
    fn small_magnitudes_are_short() {
        assert_eq!([0, -1, 1, -2, 2].map(zigzag), [0, 1, 2, 3, 4]);
        assert_eq!([0, 127, 128, u64::MAX].map(len), [1, 1, 2, 10]);
    }

    #[test]
    fn odd_spellings_are_refused() {
        let mut cut: &[u8] = &[0x80];
        let mut padded: &[u8] = &[0x81, 0x00];
        let mut wide: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        let mut endless: &[u8] = &[0xff; 32];
        assert_eq!(take(&mut cut), Err(DecodeError::Truncated));
        assert_eq!(take(&mut padded), Err(DecodeError::Varint));
        assert_eq!(take(&mut wide), Err(DecodeError::Varint));
        assert_eq!(take(&mut endless), Err(DecodeError::Varint));
        assert_eq!(cut.len(), 1, "what could not be read is left where it was");
    }
}
