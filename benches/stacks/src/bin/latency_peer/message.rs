//! What goes there and back? A number, and as many bytes as are asked for.

use bytes::Bytes;

/// A message of so many bytes, 8 at least.
pub(crate) fn write(number: u64, bytes: usize) -> Bytes {
    let mut message = number.to_le_bytes().to_vec();
    message.resize(bytes.max(message.len()), 0);
    message.into()
}

/// Its number. None if it is something else.
pub(crate) fn number(message: &Bytes) -> Option<u64> {
    message.get(..8)?.try_into().ok().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let message = write(70_000, 64);
        assert_eq!((message.len(), number(&message)), (64, Some(70_000)));
        assert_eq!(number(&Bytes::from_static(&[0; 7])), None);
    }
}
