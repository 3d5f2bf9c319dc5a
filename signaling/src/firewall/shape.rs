//! Does a signal look like one? Read by the parser of unmodified native peers, which panic on what that refuses, and checked
//! for what else they and browsers need of it. It is passed on as it is.

use std::{io::Cursor, net::IpAddr};

use coplay_proto::signal::{Signal, SignalError};
use rtc_sdp::{MediaDescription, SessionDescription};
use serde::Deserialize;

use crate::wire::malformed;

/// The largest offer or answer passed on, in bytes of its SDP.
pub const MAX_SDP: usize = 16 * 1024;
/// The largest candidate passed on, in bytes of its JSON.
pub const MAX_CANDIDATE: usize = 1024;

/// Whether `signal` can be used by who gets it.
pub(crate) fn check(signal: &Signal) -> Result<(), SignalError> {
    match signal {
        Signal::Offer(sdp) | Signal::Answer(sdp) if sdp.len() > MAX_SDP => {
            Err(malformed(format!("the SDP has {} bytes, and at most {MAX_SDP} are taken", sdp.len())))
        }
        Signal::Offer(sdp) => description(sdp, false).map_err(malformed),
        Signal::Answer(sdp) => description(sdp, true).map_err(malformed),
        Signal::IceCandidate(json) if json.len() > MAX_CANDIDATE => {
            Err(malformed(format!("the candidate has {} bytes, and at most {MAX_CANDIDATE} are taken", json.len())))
        }
        Signal::IceCandidate(json) => match serde_json::from_str::<Option<Candidate>>(json) {
            Ok(None) => Ok(()),
            Ok(Some(init)) => candidate(&init.candidate).map_err(malformed),
            Err(error) => Err(malformed(format!("the candidate is not the JSON of one: {error}"))),
        },
    }
}

/// An `RTCIceCandidateInit` (WebRTC, section 4.8.1.1), typed as strictly as the clients that read it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "most of it is read to be checked, not to be used")]
struct Candidate {
    candidate: String,
    sdp_mid: Option<String>,
    #[serde(rename = "sdpMLineIndex")]
    sdp_m_line_index: Option<u16>,
    username_fragment: Option<String>,
}

/// The kinds of lines that such a description has. No client writes others, and parsers differ about them.
const LINES: &[u8] = b"vostcbma";

/// A session description (RFC 8866) of one data channel transport (RFC 8841) with what ICE (RFC 8839, section 5.4), DTLS
/// (RFC 8122, section 5; RFC 8842, section 5.1) and JSEP (RFC 9429, section 5.8) need.
fn description(sdp: &str, answers: bool) -> Result<(), &'static str> {
    let mut lines = sdp.lines();
    if lines.next() != Some("v=0") {
        return Err("an offer or answer is SDP and starts with v=0");
    }
    let kind = |line: &str| matches!(line.as_bytes(), [kind, b'=', ..] if LINES.contains(kind));
    if !lines.all(|line| kind(line) && !line.contains(char::is_control)) {
        return Err("the SDP has a line that is none of v= o= s= t= c= b= m= a=, or control characters");
    }
    let read = SessionDescription::unmarshal(&mut Cursor::new(sdp.as_bytes()));
    let Ok(SessionDescription { attributes, media_descriptions, .. }) = read else {
        return Err("the SDP cannot be parsed: it is v= o= s= t= and what follows, as RFC 8866 has it");
    };
    let media = match &media_descriptions[..] {
        [] => return Err("the SDP has no m=application .. webrtc-datachannel"),
        media if !media.iter().all(is_data_channel) => return Err("the SDP has media that are no data channels"),
        [media] => media,
        _ => return Err("the SDP has more than one m=application"),
    };
    let all = |key: &'static str| {
        let named = attributes.iter().chain(&media.attributes).filter(move |attribute| attribute.key == key);
        named.map(|attribute| attribute.value.as_deref().unwrap_or_default())
    };
    // One value, which may be said twice.
    let only = |key| {
        let mut values = all(key);
        values.next().filter(|first| values.all(|value| value == *first))
    };
    if !only("ice-ufrag").ok_or("the SDP has no a=ice-ufrag, or several").map(|value| ice_chars(value, 4))? {
        return Err("the SDP has an ice-ufrag that is none");
    }
    if !only("ice-pwd").ok_or("the SDP has no a=ice-pwd, or several").map(|value| ice_chars(value, 22))? {
        return Err("the SDP has an ice-pwd that is none");
    }
    if !only("fingerprint").ok_or("the SDP has no a=fingerprint, or several").map(is_fingerprint)? {
        return Err("the SDP has a fingerprint that is none");
    }
    let roles: &[&str] = if answers { &["active", "passive"] } else { &["actpass", "active", "passive"] };
    if !only("setup").is_some_and(|role| roles.contains(&role)) {
        return Err("the SDP has no a=setup that an offer or an answer can have");
    }
    if !only("mid").is_some_and(|mid| !mid.is_empty() && attributes.iter().all(|other| other.key != "mid")) {
        return Err("the SDP has no a=mid for its media");
    }
    if !all("candidate").all(|fields| candidate(&format!("candidate:{fields}")).is_ok()) {
        return Err("the SDP has an a=candidate that is none");
    }
    Ok(())
}

fn is_data_channel(media: &MediaDescription) -> bool {
    media.media_name.media == "application" && media.media_name.formats == ["webrtc-datachannel"]
}

/// At least so many characters of `ice-char`, and at most 256 (RFC 8839, section 5.4).
fn ice_chars(value: &str, least: usize) -> bool {
    (least..=256).contains(&value.len()) && value.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'+' || c == b'/')
}

fn is_fingerprint(value: &str) -> bool {
    let Some((hash, digits)) = value.split_once(' ') else { return false };
    let bytes = match hash {
        "sha-1" => 20,
        "sha-256" => 32,
        "sha-384" => 48,
        "sha-512" => 64,
        _ => return false,
    };
    let pair = |pair: &str| pair.len() == 2 && pair.bytes().all(|c| c.is_ascii_hexdigit());
    digits.len() == bytes * 3 - 1 && digits.split(':').all(pair)
}

/// `candidate:FOUNDATION COMPONENT TRANSPORT PRIORITY ADDRESS PORT typ TYPE ..` (RFC 8839, section 5.1); empty when
/// there are no more. The address may be a name that hides it (mDNS).
fn candidate(line: &str) -> Result<(), &'static str> {
    if line.is_empty() {
        return Ok(());
    }
    let Some(fields) = line.strip_prefix("candidate:") else {
        return Err("a candidate starts with candidate:");
    };
    let mut fields = fields.split(' ');
    let mut field = || fields.next().unwrap_or_default();
    let foundation = field();
    let mut hidden = false;
    let fits = ice_chars(foundation, 1)
        && foundation.len() <= 32
        && field().parse::<u16>().is_ok_and(|component| (1..=256).contains(&component))
        && ["udp", "tcp"].contains(&field().to_ascii_lowercase().as_str())
        && field().parse::<u32>().is_ok()
        && is_address(field(), &mut hidden)
        && field().parse::<u16>().is_ok()
        && field() == "typ"
        && match field() {
            "host" => true,
            "srflx" | "prflx" | "relay" => !hidden,
            _ => false,
        };
    if fits && is_extension(&fields.collect::<Vec<_>>()) {
        Ok(())
    } else {
        Err("the candidate is not of the form candidate:1 1 udp 1 192.0.2.1 9 typ host")
    }
}

/// Whether it is an address, or a name that hides one.
fn is_address(field: &str, hidden: &mut bool) -> bool {
    let name = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'.';
    *hidden = field.len() <= 253 && field.ends_with(".local") && field.bytes().all(name);
    *hidden || field.parse::<IpAddr>().is_ok()
}

/// What may follow: the related address and the kind of TCP in their forms, anything else in pairs.
fn is_extension(fields: &[&str]) -> bool {
    let plain = |field: &&str| !field.is_empty() && field.bytes().all(|c| c.is_ascii_graphic());
    let related = match fields {
        ["raddr", address, "rport", port, ..] => is_address(address, &mut false) && port.parse::<u16>().is_ok(),
        ["raddr", ..] => false,
        ["tcptype", kind, ..] => ["active", "passive", "so"].contains(kind),
        _ => true,
    };
    related && fields.iter().all(plain) && fields.len().is_multiple_of(2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As webrtc 0.21 writes it.
    const NATIVE: &str = "v=0\r\no=- 4215775240449105457 781234567 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
        a=fingerprint:sha-256 0F:74:31:25:CB:A2:13:EC:28:6F:6D:2C:61:FF:5D:C2:BC:B9:DB:3D:98:14:8D:1A:BB:EA:33:0C:A4:60:A8:8E\r\n\
        a=group:BUNDLE 0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=setup:actpass\r\n\
        a=mid:0\r\na=sendrecv\r\na=sctp-port:5000\r\na=ice-ufrag:CsxzEWmoKpJyscFj\r\na=ice-pwd:mktpbhgREmjEwUFSIJyPINPUhgDqJlSd\r\n";
    /// As Chromium writes it.
    const BROWSER: &str = "v=0\r\no=- 123 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
        a=extmap-allow-mixed\r\na=msid-semantic: WMS\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n\
        c=IN IP4 0.0.0.0\r\na=ice-ufrag:8hhY\r\na=ice-pwd:asd88fgpdd777uzjYhagZg+/\r\na=ice-options:trickle\r\n\
        a=fingerprint:sha-256 D1:2C:BE:AD:C4:F6:64:5C:25:16:11:9C:AF:E7:0F:73:79:36:4E:9C:1E:15:54:39:0C:06:8B:ED:96:86:00:39\r\na=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n";

    #[test]
    fn descriptions_of_native_and_browser_peers_are_taken() {
        for sdp in [NATIVE, BROWSER] {
            assert_eq!(description(sdp, false), Ok(()));
            assert_eq!(description(&sdp.replace("\r\n", "\n"), false), Ok(()), "with bare line feeds");
            assert_eq!(description(&sdp.replace("actpass", "active"), true), Ok(()));
            assert!(description(sdp, true).is_err(), "an answer decides who is the client");
            let gathered = format!("{sdp}a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\na=end-of-candidates\r\n");
            assert_eq!(description(&gathered, false), Ok(()));
        }
    }

    /// On each of these `matchbox_socket` 0.15 panicked, native or in a page.
    #[test]
    fn what_unmodified_peers_panic_on_is_refused() {
        let minimal = "v=0\r\no=x\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=ice-ufrag:8hhY\r\n\
            a=ice-pwd:asd88fgpdd777uzjYhagZg\r\na=fingerprint:sha-256 AB\r\n";
        assert!(description(minimal, false).is_err());
        for (old, new) in [
            ("o=- 123 2 IN IP4 127.0.0.1", "o=x"),
            ("o=- 123 2 IN IP4 127.0.0.1", "o=- 123 2 IN IP4"),
            ("o=- 123 2", "o=- 123 -2"),
            ("o=- 123 2", "o=- 123 99999999999999999999"),
            ("IN IP4 127.0.0.1", "IN IP5 127.0.0.1"),
            ("s=-\r\n", ""),
            ("t=0 0", "t=0"),
            ("t=0 0", "t=x y"),
            ("t=0 0\r\n", ""),
            ("t=0 0", "t=0 0\r\nr=1 1 x"),
            ("t=0 0", "t=0 0\r\nz=1"),
            ("s=-", "s=-\r\nu=:"),
            ("c=IN IP4 0.0.0.0", "c=IN"),
            ("c=IN IP4 0.0.0.0", "c=IN IP4 0.0.0.0\r\nb=AS"),
            ("m=application 9", "m=application 99999"),
            ("m=application 9", "m=application"),
            ("UDP/DTLS/SCTP", "UDP//SCTP"),
            ("webrtc-datachannel", "webrtc-datachannel 5000"),
            ("a=mid:0\r\n", ""),
            ("a=mid:0", "a=mid"),
            ("a=mid:0", "a=mid:0\r\nnonsense"),
            ("a=mid:0", "a=mid:0\r\na=ice-ufrag:other"),
            ("a=mid:0", "a=mid:0\r\na=candidate:1 1 udp"),
            ("a=mid:0", "a=mid:0\r\na=candidate:"),
            ("a=mid:0", "a=mid:0\r\na=candidate:1 1 udp 1 x.local 9 typ srflx"),
            ("a=setup:actpass", "a=setup:x"),
            ("a=setup:actpass\r\n", ""),
            ("sha-256 ", "sha-256  "),
            ("sha-256", "md5"),
            (":00:39", ":00"),
            ("a=mid:0", "a=mid:0\r\na=fingerprint:sha-256 AB"),
        ] {
            assert!(BROWSER.contains(old), "{old}");
            assert!(description(&BROWSER.replace(old, new), false).is_err(), "{old:?} is {new:?}");
        }
    }

    #[test]
    fn a_description_that_lacks_something_is_refused() {
        let without =
            |start: &str| BROWSER.split_inclusive('\n').filter(|line| !line.starts_with(start)).collect::<String>();
        for (sdp, why) in [
            (without("m="), "cannot be parsed"),
            (BROWSER.split_once("m=").unwrap().0.to_owned(), "no m=application"),
            (without("a=ice-ufrag"), "no a=ice-ufrag"),
            (without("a=ice-pwd"), "no a=ice-pwd"),
            (without("a=fingerprint"), "no a=fingerprint"),
            (without("v="), "starts with v=0"),
            (format!("{BROWSER}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"), "more than one"),
            (format!("{BROWSER}m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"), "no data channels"),
            (BROWSER.replace("webrtc-datachannel", "5000"), "no data channels"),
            (BROWSER.replace("D1:2C", "D1:XY"), "fingerprint"),
            (BROWSER.replace("8hhY", "8"), "ice-ufrag"),
            (BROWSER.replace("asd88", "!"), "ice-pwd"),
            (BROWSER.replace("v=0", "v=00"), "starts with v=0"),
        ] {
            let refused = description(&sdp, false).unwrap_err();
            assert!(refused.contains(why), "{why}: {refused}");
        }
    }

    #[test]
    fn candidates_of_native_and_browser_peers_are_taken() {
        for line in [
            "",
            "candidate:1 1 udp 2130706431 192.0.2.1 9 typ host",
            "candidate:842163049 1 udp 1677729535 203.0.113.7 46154 typ srflx raddr 10.0.0.17 rport 46154 generation 0",
            "candidate:1 1 UDP 2130706431 2001:db8::1 9 typ relay raddr :: rport 0",
            "candidate:4 1 TCP 1518214911 3f2d8a1b-5c3d-4c53.local 9 typ host tcptype active",
        ] {
            assert_eq!(candidate(line), Ok(()), "{line}");
        }
    }

    #[test]
    fn what_is_no_candidate_is_refused() {
        for line in [
            "garbage",
            "candidate:",
            "candidate:1",
            "candidate:x y z",
            "candidate:1 1 udp 1 192.0.2.1 9 host",
            "candidate:1 1 udp 1 192.0.2.1 99999 typ host",
            "candidate:1 1 udp -1 192.0.2.1 9 typ host",
            "candidate:1 0 udp 1 192.0.2.1 9 typ host",
            "candidate:1 1 sctp 1 192.0.2.1 9 typ host",
            "candidate:1 1 udp 1 example.org 9 typ host",
            "candidate:1 1 udp 1 192.0.2.1 9 typ magic",
            "candidate:1  1 udp 1 192.0.2.1 9 typ host",
            "candidate:1 1 udp 1 a.local 9 typ srflx raddr 0.0.0.0 rport 0",
            "candidate:1 1 udp 1 192.0.2.1 9 typ srflx raddr 0.0.0.0",
            "candidate:1 1 udp 1 192.0.2.1 9 typ srflx raddr 0.0.0.0 rport 99999",
            "candidate:1 1 udp 1 192.0.2.1 9 typ srflx raddr",
            "candidate:1 1 tcp 1 192.0.2.1 9 typ host tcptype",
            "candidate:1 1 udp 1 192.0.2.1 9 typ host generation 0\r\na=x y",
            "candidate:1 1 udp 1 192.0.2.1 9 typ host\traddr 0.0.0.0",
        ] {
            assert!(candidate(line).is_err(), "{line}");
        }
    }

    proptest! {
        /// Whatever it is, it is taken or refused. And a true one with something broken in it is at least read.
        #[test]
        fn nothing_panics(text in any::<String>(), at in 0..BROWSER.len(), byte in any::<char>()) {
            let _ = description(&text, false);
            let _ = candidate(&format!("candidate:{text}"));
            let mut broken = BROWSER.to_owned();
            broken.remove(at);
            broken.insert(at, byte);
            let _ = description(&broken, true);
            let _ = description(&format!("v=0\r\no=- 1 1 IN IP4 x\r\ns={text}\r\nt=0 0\r\na={text}\r\nm={text}\r\n"), true);
            for signal in [Signal::Offer(text.clone()), Signal::IceCandidate(text)] {
                let _ = check(&signal);
            }
        }
    }
}
