//! What is a datagram, to who has no keys? STUN or DTLS, by its first bytes (RFC 7983).

/// The first bytes of packets of STUN, and of DTLS (RFC 7983, section 7), whose records begin with their content (RFC 6347,
/// section 4.1).
const MAX_STUN: u8 = 3;
const DTLS: std::ops::RangeInclusive<u8> = 20..=63;
const ALERT: u8 = 21;
const APPLICATION_DATA: u8 = 23;

/// RFC 8489, section 5: the cookie of each message, and how many bytes come before its attributes.
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEADER: usize = 20;
/// RFC 8489, section 14.3.
const USERNAME: u16 = 0x0006;

/// What tells requests of STUN and their answers together.
pub(super) type Transaction = [u8; 12];

/// A datagram that somebody may want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    Request {
        transaction: Transaction,
        /// The name of who is asked, as far as the colon: the fragment that its description has (RFC 8445, section 7.2.2).
        ufrag: Option<&'a [u8]>,
    },
    Indication,
    Response {
        transaction: Transaction,
        success: bool,
    },
    /// Of DTLS: of its handshake, which anybody can read.
    Handshake,
    /// What only those have keys for who are done with that.
    Data,
}

impl<'a> Packet<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let first = *bytes.first()?;
        if DTLS.contains(&first) {
            // An alert before there are keys belongs to the handshake.
            let encrypted = bytes.get(3..5)? != [0, 0];
            let data = first == APPLICATION_DATA || (first == ALERT && encrypted);
            return Some(if data { Self::Data } else { Self::Handshake });
        }
        let header: &[u8; HEADER] = bytes.first_chunk()?;
        let [kind, low, upper, lower, rest @ ..] = header;
        let (cookie, transaction) = rest.split_first_chunk::<4>()?;
        let transaction: Transaction = *transaction.first_chunk()?;
        if *kind > MAX_STUN || *cookie != COOKIE {
            return None;
        }
        // Two bits of the kind, which are apart from each other, are the class.
        Some(match (kind & 1, low >> 4 & 1) {
            (0, 0) => {
                let length = usize::from(u16::from_be_bytes([*upper, *lower]));
                let attributes = bytes.get(HEADER..HEADER + length)?;
                Self::Request {
                    transaction,
                    ufrag: username(attributes).and_then(|name| name.split(|it| *it == b':').next()),
                }
            }
            (0, _) => Self::Indication,
            (_, class) => Self::Response { transaction, success: class == 0 },
        })
    }
}

/// The value of that attribute (RFC 8489, section 14): each is a kind, a length, and so many bytes, up to a multiple of 4.
fn username(mut attributes: &[u8]) -> Option<&[u8]> {
    loop {
        let ([kind_high, kind_low, high, low], rest) = attributes.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if u16::from_be_bytes([*kind_high, *kind_low]) == USERNAME {
            return rest.get(..length);
        }
        attributes = rest.get(length.next_multiple_of(4)..)?;
    }
}

/// Packets of STUN as they are on the wire, and of DTLS as they begin.
#[cfg(test)]
pub(super) mod made {
    use super::{COOKIE, HEADER, Transaction, USERNAME};

    fn stun(kind: u16, transaction: Transaction, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (kind, value) in attributes {
            body.extend(kind.to_be_bytes());
            body.extend((value.len() as u16).to_be_bytes());
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let length = (body.len() as u16).to_be_bytes();
        let packet = [&kind.to_be_bytes()[..], &length, &COOKIE, &transaction, &body].concat();
        assert_eq!(packet.len(), HEADER + body.len());
        packet
    }

    pub(in super::super) fn request(number: u32, username: &str) -> Vec<u8> {
        // PRIORITY comes before, and ICE-CONTROLLING after.
        let attributes = [(0x0024, &[1, 2, 3, 4][..]), (USERNAME, username.as_bytes()), (0x802a, &[0; 8])];
        stun(0x0001, transaction(number), &attributes)
    }

    pub(in super::super) fn indication(number: u32) -> Vec<u8> {
        stun(0x0011, transaction(number), &[])
    }

    pub(in super::super) fn success(number: u32) -> Vec<u8> {
        stun(0x0101, transaction(number), &[(0x0020, &[0; 8])])
    }

    pub(in super::super) fn refusal(number: u32) -> Vec<u8> {
        stun(0x0111, transaction(number), &[])
    }

    /// A record of DTLS with so many bytes.
    pub(in super::super) fn record(content: u8, epoch: u8) -> Vec<u8> {
        vec![content, 254, 253, 0, epoch, 0, 0, 0, 0, 0, 1, 0, 3, 7, 7, 7]
    }

    pub(in super::super) fn transaction(number: u32) -> Transaction {
        let mut transaction = [9; 12];
        transaction[..4].copy_from_slice(&number.to_be_bytes());
        transaction
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{made::*, *};

    #[test]
    fn each_kind_of_packet_is_told_by_its_first_bytes() {
        let asked = |name: &str| match Packet::read(&request(1, name)) {
            Some(Packet::Request { transaction: asked, ufrag }) => (asked == transaction(1), ufrag.map(<[u8]>::to_vec)),
            other => panic!("{other:?}"),
        };
        assert_eq!(asked("ours:theirs"), (true, Some(b"ours".to_vec())));
        assert_eq!(asked("a:b:c"), (true, Some(b"a".to_vec())));
        assert_eq!(asked("nocolon"), (true, Some(b"nocolon".to_vec())));
        assert_eq!(asked(""), (true, Some(Vec::new())));
        assert_eq!(Packet::read(&indication(2)), Some(Packet::Indication));
        let response = |bytes: &[u8]| match Packet::read(bytes) {
            Some(Packet::Response { transaction, success }) => (transaction, success),
            other => panic!("{other:?}"),
        };
        assert_eq!(response(&success(3)), (transaction(3), true));
        assert_eq!(response(&refusal(4)), (transaction(4), false));
        for (content, epoch, packet) in [
            (20, 0, Packet::Handshake),
            (21, 0, Packet::Handshake),
            (21, 1, Packet::Data),
            (22, 0, Packet::Handshake),
            (22, 1, Packet::Handshake),
            (23, 1, Packet::Data),
        ] {
            assert_eq!(Packet::read(&record(content, epoch)), Some(packet), "{content} in epoch {epoch}");
        }
    }

    #[test]
    fn what_is_neither_is_nobodys() {
        let mut other_cookie = success(1);
        other_cookie[4] ^= 1;
        let mut longer = request(1, "ours:theirs");
        longer[3] += 4;
        let channel = [0x40, 0, 0, 0];
        for bytes in [&[][..], &[22], &[0, 1, 0, 0], &[128; 40], &[255; 40], &channel, &other_cookie, &longer] {
            assert_eq!(Packet::read(bytes), None, "{bytes:?}");
        }
        let mut cut = request(1, "ours:theirs");
        // The length of the name is beyond the end.
        cut[HEADER + 8 + 3] = 250;
        assert!(matches!(Packet::read(&cut), Some(Packet::Request { ufrag: None, .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(mut bytes in prop::collection::vec(any::<u8>(), 0..200), stun in any::<bool>()) {
            if stun && let Some(header) = bytes.first_chunk_mut::<8>() {
                header[0] &= 1;
                header[4..].copy_from_slice(&COOKIE);
            }
            let _ = Packet::read(&bytes);
        }

        #[test]
        fn a_request_that_is_cut_or_flipped_is_read_or_not(at in any::<prop::sample::Index>(), bit in 0..8, cut in any::<bool>()) {
            let mut bytes = request(7, "ours:theirs");
            let at = at.index(bytes.len());
            if cut {
                bytes.truncate(at);
                prop_assert_eq!(Packet::read(&bytes), None);
            } else {
                bytes[at] ^= 1_u8 << bit;
                let _ = Packet::read(&bytes);
            }
        }
    }
}
