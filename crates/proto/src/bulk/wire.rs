//! What do two machines say to each other? See `docs/WIRE.md`, "Bulk".

use bytes::Bytes;

use super::{Digest, MAX_METADATA, MAX_NAME, Offer, Refusal};
use crate::codec::varint;

/// The version of this layout, in the upper half of the first byte.
const VERSION: u8 = 1 << 4;

const OFFER: u8 = 0;
const CHUNK: u8 = 1;
const WITHDRAW: u8 = 2;
const AGAIN: u8 = 3;
const REST: u8 = 4;
const ACCEPT: u8 = 8;
const REPORT: u8 = 9;
const END: u8 = 10;

/// What a message has besides the bytes of a chunk, at the most.
pub(super) const CHUNK_HEADER: usize = 1 + varint::MAX_LEN;

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Message {
    /// From the sender of a blob: it would send it.
    Offer(Offer),
    /// The next bytes of it.
    Chunk { number: u64, bytes: Bytes },
    /// No more of it comes.
    Withdraw { number: u64, unreadable: bool },
    /// The lane began anew, and this blob was offered before. What became of it since then is not known.
    Again(Offer),
    /// What was offered before under a lower number, and was not offered again by now, is no more.
    Rest { number: u64 },
    /// From its receiver: send from this offset on, up to the limit.
    Accept { number: u64, offset: u64, limit: u64 },
    /// So much of it is here; send on, up to the limit.
    Report { number: u64, received: u64, limit: u64 },
    /// No more of it is wanted.
    End { number: u64, end: End },
}

/// Why no more of a blob is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All of it is here.
    Received,
    /// What is here is not what was offered.
    Damaged,
    /// It was cancelled there.
    Cancelled,
    /// It was never accepted.
    Refused(Refusal),
}

impl Message {
    pub(super) fn write(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(match self {
            Self::Offer(offer) | Self::Again(offer) => 64 + offer.name.len() + offer.metadata.len(),
            Self::Chunk { bytes, .. } => CHUNK_HEADER + bytes.len(),
            _ => 32,
        });
        let mut head = |kind: u8, number: u64| {
            bytes.push(VERSION | kind);
            varint::put(&mut bytes, number);
        };
        match self {
            Self::Offer(offer) | Self::Again(offer) => {
                head(if matches!(self, Self::Again(_)) { AGAIN } else { OFFER }, offer.number);
                varint::put(&mut bytes, offer.size);
                bytes.extend_from_slice(&offer.digest.0);
                varint::put(&mut bytes, offer.name.len() as u64);
                bytes.extend_from_slice(offer.name.as_bytes());
                bytes.extend_from_slice(&offer.metadata);
            }
            Self::Chunk { number, bytes: chunk } => {
                head(CHUNK, *number);
                bytes.extend_from_slice(chunk);
            }
            Self::Withdraw { number, unreadable } => {
                head(WITHDRAW, *number);
                bytes.push(u8::from(*unreadable));
            }
            Self::Rest { number } => head(REST, *number),
            Self::Accept { number, offset, limit } => {
                head(ACCEPT, *number);
                varint::put(&mut bytes, *offset);
                varint::put(&mut bytes, *limit);
            }
            Self::Report { number, received, limit } => {
                head(REPORT, *number);
                varint::put(&mut bytes, *received);
                varint::put(&mut bytes, *limit);
            }
            Self::End { number, end } => {
                head(END, *number);
                let (why, limit) = match *end {
                    End::Received => (0, None),
                    End::Damaged => (1, None),
                    End::Cancelled => (2, None),
                    End::Refused(Refusal::TooLarge { limit }) => (3, Some(limit)),
                    End::Refused(Refusal::TooMany { limit }) => (4, Some(limit)),
                    End::Refused(Refusal::Busy) => (5, None),
                    End::Refused(Refusal::Unwanted) => (6, None),
                };
                bytes.push(why);
                if let Some(limit) = limit {
                    varint::put(&mut bytes, limit);
                }
            }
        }
        bytes.into()
    }

    /// Reads a message. The error is what is wrong with it.
    pub(super) fn read(message: Bytes) -> Result<Self, &'static str> {
        let mut rest: &[u8] = &message;
        let first = byte(&mut rest)?;
        if first & 0xf0 != VERSION {
            return Err("a message is not of this version of coplay's bulk transfer");
        }
        let number = integer(&mut rest)?;
        let read = match first & 0x0f {
            kind @ (OFFER | AGAIN) => {
                let size = integer(&mut rest)?;
                let digest = Digest(*array(&mut rest)?);
                let length = usize::try_from(integer(&mut rest)?).unwrap_or(usize::MAX);
                if !(1..=MAX_NAME).contains(&length) {
                    return Err("a blob's name is too long, or empty");
                }
                let (name, metadata) = rest.split_at_checked(length).ok_or(SHORT)?;
                let name = str::from_utf8(name).map_err(|_| "a blob's name is no text")?.to_owned();
                if metadata.len() > MAX_METADATA {
                    return Err("more is said of a blob than may be");
                }
                // Copied, so that it does not hold on to more than it is.
                let metadata = Bytes::copy_from_slice(metadata);
                rest = &[];
                let offer = Offer { number, name, size, digest, metadata };
                if kind == AGAIN { Self::Again(offer) } else { Self::Offer(offer) }
            }
            CHUNK => {
                if rest.is_empty() {
                    return Err("a chunk is empty");
                }
                let bytes = message.slice_ref(rest);
                rest = &[];
                Self::Chunk { number, bytes }
            }
            WITHDRAW => match byte(&mut rest)? {
                why @ 0..=1 => Self::Withdraw { number, unreadable: why == 1 },
                _ => return Err("a blob is withdrawn for no known reason"),
            },
            REST => Self::Rest { number },
            ACCEPT => Self::Accept { number, offset: integer(&mut rest)?, limit: integer(&mut rest)? },
            REPORT => Self::Report { number, received: integer(&mut rest)?, limit: integer(&mut rest)? },
            END => {
                let end = match byte(&mut rest)? {
                    0 => End::Received,
                    1 => End::Damaged,
                    2 => End::Cancelled,
                    3 => End::Refused(Refusal::TooLarge { limit: integer(&mut rest)? }),
                    4 => End::Refused(Refusal::TooMany { limit: integer(&mut rest)? }),
                    5 => End::Refused(Refusal::Busy),
                    6 => End::Refused(Refusal::Unwanted),
                    _ => return Err("a blob ends for no known reason"),
                };
                Self::End { number, end }
            }
            _ => return Err("a message about blobs is of no kind"),
        };
        if rest.is_empty() { Ok(read) } else { Err("a message about blobs is too long") }
    }
}

const SHORT: &str = "a message about blobs ends too soon";

fn byte(rest: &mut &[u8]) -> Result<u8, &'static str> {
    let (first, tail) = rest.split_first().ok_or(SHORT)?;
    *rest = tail;
    Ok(*first)
}

fn array<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8; 32], &'static str> {
    let (first, tail) = rest.split_first_chunk().ok_or(SHORT)?;
    *rest = tail;
    Ok(first)
}

fn integer(rest: &mut &[u8]) -> Result<u64, &'static str> {
    varint::take(rest).map_err(|_| "a number in a message about blobs cannot be read")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn messages() -> Vec<Message> {
        let offer = Offer {
            number: 300,
            name: "level".into(),
            size: 1 << 40,
            digest: Digest::of(b"x"),
            metadata: Bytes::from_static(b"map"),
        };
        let ends = [End::Received, End::Damaged, End::Cancelled];
        let refusals =
            [Refusal::TooLarge { limit: 1 << 33 }, Refusal::TooMany { limit: 3 }, Refusal::Busy, Refusal::Unwanted];
        let mut messages = vec![
            Message::Offer(offer.clone()),
            Message::Again(offer),
            Message::Rest { number: 300 },
            Message::Chunk { number: 1, bytes: Bytes::from_static(b"bytes") },
            Message::Withdraw { number: 0, unreadable: false },
            Message::Withdraw { number: u64::MAX, unreadable: true },
            Message::Accept { number: 2, offset: 0, limit: 1 << 20 },
            Message::Report { number: 2, received: 16_000, limit: 1 << 21 },
        ];
        let ends = ends.into_iter().chain(refusals.map(End::Refused));
        messages.extend(ends.map(|end| Message::End { number: 9, end }));
        messages
    }

    #[test]
    fn every_message_comes_back() {
        for message in messages() {
            assert_eq!(Message::read(message.write()), Ok(message));
        }
    }

    #[test]
    fn what_is_cut_off_or_goes_on_is_refused() {
        for message in messages() {
            let bytes = message.write();
            // What ends anywhere is another one of these: how much comes at the end is not said.
            let open = matches!(message, Message::Offer(_) | Message::Again(_) | Message::Chunk { .. });
            for length in 0..bytes.len() {
                let cut = Message::read(bytes.slice(..length));
                assert!(cut.is_err() || open, "{message:?} cut to {length}: {cut:?}");
            }
            let longer = [&bytes[..], &[0]].concat();
            assert!(open || Message::read(longer.into()) == Err("a message about blobs is too long"));
        }
    }

    #[test]
    fn what_no_peer_says_is_refused() {
        let refused = |bytes: &[u8]| Message::read(Bytes::copy_from_slice(bytes)).unwrap_err();
        assert_eq!(refused(&[]), SHORT);
        assert_eq!(refused(&[0x21, 0, 0]), "a message is not of this version of coplay's bulk transfer");
        assert_eq!(refused(&[0x1f, 0]), "a message about blobs is of no kind");
        assert_eq!(refused(&[0x11, 0]), "a chunk is empty");
        assert_eq!(refused(&[0x11, 0x80, 0]), "a number in a message about blobs cannot be read");
        assert_eq!(refused(&[0x12, 0, 2]), "a blob is withdrawn for no known reason");
        assert_eq!(refused(&[0x1a, 0, 7]), "a blob ends for no known reason");
        let offer = |name: &[u8], metadata: usize| {
            let head = [&[0x10, 0, 9][..], &[0; 32], &[name.len() as u8]].concat();
            [head, name.to_vec(), vec![0; metadata]].concat()
        };
        assert_eq!(refused(&offer(b"", 0)), "a blob's name is too long, or empty");
        assert_eq!(refused(&offer(b"\xff", 0)), "a blob's name is no text");
        assert_eq!(refused(&offer(b"x", MAX_METADATA + 1)), "more is said of a blob than may be");
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_spelled_in_one_way(mut bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(first) = bytes.first_mut() {
                *first = VERSION | *first & 0x0f;
            }
            if let Ok(message) = Message::read(bytes.clone().into()) {
                prop_assert_eq!(message.write(), bytes);
            }
        }
    }
}
