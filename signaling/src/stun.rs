//! Which address does a peer have, seen from outside? The embedded STUN server (RFC 8489): it answers Binding requests
//! without credentials, and is silent on everything else.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use rtc_stun::{
    attributes::*,
    error_code::{CODE_UNKNOWN_ATTRIBUTE, ErrorCodeAttribute},
    fingerprint::FINGERPRINT,
    message::*,
    uattrs::UnknownAttributes,
    xoraddr::XorMappedAddress,
};
use tokio::net::UdpSocket;

/// The largest request that is looked at, in bytes: a few times what a browser sends.
const MAX_REQUEST: usize = 512;
/// How many attributes an answer names that were not understood.
const MAX_UNKNOWN: usize = 8;
/// Waited after the socket reported an error, so that one that lasts does not take a whole core.
const AFTER_ERROR: Duration = Duration::from_millis(20);

/// Attributes that a request may have and that must be understood (RFC 8489, section 18.3; RFC 8445, section 16.1),
/// although without credentials they change nothing.
const UNDERSTOOD: [AttrType; 12] = [
    ATTR_MAPPED_ADDRESS,
    ATTR_CHANGE_REQUEST,
    ATTR_USERNAME,
    ATTR_MESSAGE_INTEGRITY,
    ATTR_REALM,
    ATTR_NONCE,
    ATTR_MESSAGE_INTEGRITY_SHA256,
    ATTR_PASSWORD_ALGORITHM,
    ATTR_USER_HASH,
    ATTR_XORMAPPED_ADDRESS,
    ATTR_PRIORITY,
    ATTR_USE_CANDIDATE,
];

/// Answers what comes in on `socket`, forever. Nothing is kept between requests, and an answer that does not fit into
/// the socket's buffer is dropped: who asks asks again.
pub(crate) async fn serve(socket: UdpSocket) {
    let mut request = [0; MAX_REQUEST + 1];
    loop {
        match socket.recv_from(&mut request).await {
            Ok((length, from)) => {
                if let Some(answer) = request.get(..length).and_then(|request| answer(request, from)) {
                    let _ = socket.try_send_to(&answer, from);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "cannot read from the STUN socket");
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }
}

/// The answer to `request`, if it is a Binding request.
pub(crate) fn answer(request: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
    let &[_, _, high, low, ..] = request else { return None };
    let length = usize::from(u16::from_be_bytes([high, low])) + MESSAGE_HEADER_SIZE;
    if request.len() != length || length > MAX_REQUEST || !is_stun_message(request) {
        return None;
    }
    let mut asked = Message::new();
    asked.unmarshal_binary(request).ok()?;
    if asked.typ != BINDING_REQUEST {
        return None;
    }
    let signed = asked.contains(ATTR_FINGERPRINT);
    if signed && FINGERPRINT.check(&asked).is_err() {
        return None;
    }
    // 0x8000 and above may be ignored (RFC 8489, section 14).
    let unknown = asked.attributes.0.iter().map(|attribute| attribute.typ);
    let unknown = unknown.filter(|kind| kind.value() < 0x8000 && !UNDERSTOOD.contains(kind));
    let unknown: Vec<_> = unknown.take(MAX_UNKNOWN).collect();

    let mut parts: Vec<Box<dyn Setter>> = Vec::new();
    if unknown.is_empty() {
        let ip = match from.ip() {
            IpAddr::V6(ip) => IpAddr::V6(ip).to_canonical(),
            ip => ip,
        };
        parts.extend([Box::new(BINDING_SUCCESS) as Box<dyn Setter>, Box::new(asked.transaction_id)]);
        parts.push(Box::new(XorMappedAddress { ip, port: from.port() }));
    } else {
        parts.extend([Box::new(BINDING_ERROR) as Box<dyn Setter>, Box::new(asked.transaction_id)]);
        parts.push(Box::new(ErrorCodeAttribute { code: CODE_UNKNOWN_ATTRIBUTE, reason: Vec::new() }));
        parts.push(Box::new(UnknownAttributes(unknown)));
    }
    if signed {
        parts.push(Box::new(FINGERPRINT));
    }
    let mut answer = Message::new();
    answer.build(&parts).ok()?;
    Some(answer.raw)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use rtc_stun::textattrs::TextAttribute;

    use super::*;

    fn request(parts: Vec<Box<dyn Setter>>) -> Vec<u8> {
        let mut message = Message::new();
        let id = TransactionId([7; 12]);
        let first: Vec<Box<dyn Setter>> = vec![Box::new(BINDING_REQUEST), Box::new(id)];
        message.build(&first.into_iter().chain(parts).collect::<Vec<_>>()).unwrap();
        message.raw
    }

    fn from(ip: impl Into<IpAddr>) -> SocketAddr {
        SocketAddr::new(ip.into(), 5000)
    }

    fn read(answer: &[u8]) -> Message {
        let mut message = Message::new();
        message.unmarshal_binary(answer).unwrap();
        message
    }

    #[test]
    fn a_request_is_answered_with_the_address_it_came_from() {
        let v4 = Ipv4Addr::new(203, 0, 113, 9);
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        let pairs = [(IpAddr::V4(v4), IpAddr::V4(v4)), (v6.into(), v6.into()), (v4.to_ipv6_mapped().into(), v4.into())];
        for (source, seen) in pairs {
            let answer = read(&answer(&request(Vec::new()), from(source)).unwrap());
            assert_eq!((answer.typ, answer.transaction_id), (BINDING_SUCCESS, TransactionId([7; 12])));
            let mut address = XorMappedAddress::default();
            address.get_from(&answer).unwrap();
            assert_eq!((address.ip, address.port), (seen, 5000));
            assert!(!answer.contains(ATTR_FINGERPRINT), "who did not use it may not know it");
        }
    }

    #[test]
    fn a_fingerprint_is_checked_and_returned() {
        let asked = request(vec![Box::new(FINGERPRINT)]);
        let answered = read(&answer(&asked, from(Ipv4Addr::LOCALHOST)).unwrap());
        FINGERPRINT.check(&answered).unwrap();
        let mut broken = asked;
        *broken.last_mut().unwrap() ^= 1;
        assert_eq!(answer(&broken, from(Ipv4Addr::LOCALHOST)), None);
    }

    #[test]
    fn an_attribute_that_must_be_understood_and_is_not_is_named() {
        let strange = RawAttribute { typ: AttrType(0x7777), length: 1, value: vec![0] };
        let harmless = TextAttribute::new(ATTR_SOFTWARE, "test".into());
        let known = TextAttribute::new(ATTR_USERNAME, "me".into());
        let ok = request(vec![Box::new(harmless), Box::new(known)]);
        assert_eq!(read(&answer(&ok, from(Ipv4Addr::LOCALHOST)).unwrap()).typ, BINDING_SUCCESS);
        let answer = read(&answer(&request(vec![Box::new(strange)]), from(Ipv4Addr::LOCALHOST)).unwrap());
        assert_eq!(answer.typ, BINDING_ERROR);
        let mut unknown = UnknownAttributes(Vec::new());
        unknown.get_from(&answer).unwrap();
        assert_eq!(unknown.0, [AttrType(0x7777)]);
    }

    #[test]
    fn everything_else_is_met_with_silence() {
        let ask = request(Vec::new());
        let here = from(Ipv4Addr::LOCALHOST);
        assert!(answer(&ask, here).is_some());
        for length in 0..ask.len() {
            assert_eq!(answer(&ask[..length], here), None, "{length} bytes of a request");
        }
        assert_eq!(answer(&[ask.as_slice(), &[0; 4]].concat(), here), None, "more than a request");
        for kind in [BINDING_SUCCESS, BINDING_ERROR, MessageType { method: METHOD_ALLOCATE, class: CLASS_REQUEST }] {
            let mut other = read(&ask);
            other.set_type(kind);
            assert_eq!(answer(&other.raw, here), None, "{kind}");
        }
        let mut large = Message::new();
        large
            .build(&[Box::new(BINDING_REQUEST), Box::new(TextAttribute::new(ATTR_SOFTWARE, "x".repeat(600)))])
            .unwrap();
        assert_eq!(answer(&large.raw, here), None, "more than anybody needs to ask");
    }

    #[test]
    fn a_damaged_request_is_answered_well_or_not_at_all() {
        let username = TextAttribute::new(ATTR_USERNAME, "someone".into());
        let ask = request(vec![Box::new(username), Box::new(FINGERPRINT)]);
        for at in 0..ask.len() {
            for bit in 0..8 {
                let mut damaged = ask.clone();
                damaged[at] ^= 1 << bit;
                if let Some(answer) = answer(&damaged, from(Ipv4Addr::LOCALHOST)) {
                    read(&answer);
                }
            }
        }
    }
}
