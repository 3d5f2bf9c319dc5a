//! Does a signal look like one? Checked as far as the clients that read it need it, and passed on as it is.

use std::net::IpAddr;

use coplay_proto::signal::{Signal, SignalError};
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
        Signal::Offer(sdp) | Signal::Answer(sdp) => description(sdp).map_err(malformed),
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

/// A session description (RFC 8866) of one data channel transport (RFC 8841) with what ICE (RFC 8839, section 5.4) and
/// DTLS (RFC 8122, section 5) need.
fn description(sdp: &str) -> Result<(), &'static str> {
    let mut lines = sdp.lines();
    if lines.next() != Some("v=0") {
        return Err("an offer or answer is SDP and starts with v=0");
    }
    let (mut media, mut name, mut password, mut fingerprint) = (0_u32, false, false, false);
    for line in lines {
        if let Some(line) = line.strip_prefix("m=") {
            media += 1;
            if !line.starts_with("application ")
                || !line.split_ascii_whitespace().any(|word| word == "webrtc-datachannel")
            {
                return Err("the SDP has media that are no data channels");
            }
        } else if let Some(value) = line.strip_prefix("a=ice-ufrag:") {
            name = true;
            if !ice_chars(value, 4) {
                return Err("the SDP has an ice-ufrag that is none");
            }
        } else if let Some(value) = line.strip_prefix("a=ice-pwd:") {
            password = true;
            if !ice_chars(value, 22) {
                return Err("the SDP has an ice-pwd that is none");
            }
        } else if let Some(value) = line.strip_prefix("a=fingerprint:") {
            fingerprint = true;
            if !is_fingerprint(value) {
                return Err("the SDP has a fingerprint that is none");
            }
        }
    }
    match (media, name, password, fingerprint) {
        (1, true, true, true) => Ok(()),
        (0, ..) => Err("the SDP has no m=application .. webrtc-datachannel"),
        (2.., ..) => Err("the SDP has more than one m=application"),
        (_, false, ..) => Err("the SDP has no a=ice-ufrag"),
        (_, _, false, _) => Err("the SDP has no a=ice-pwd"),
        (.., false) => Err("the SDP has no a=fingerprint"),
    }
}

/// At least so many characters of `ice-char`, and at most 256 (RFC 8839, section 5.4).
fn ice_chars(value: &str, least: usize) -> bool {
    (least..=256).contains(&value.len()) && value.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'+' || c == b'/')
}

fn is_fingerprint(value: &str) -> bool {
    let Some((hash, digits)) = value.split_once(' ') else { return false };
    let pair = |pair: &str| pair.len() == 2 && pair.bytes().all(|c| c.is_ascii_hexdigit());
    hash.starts_with("sha-") && digits.len() <= 64 * 3 && digits.split(':').all(pair)
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
    let fits = ice_chars(foundation, 1)
        && foundation.len() <= 32
        && field().parse::<u16>().is_ok_and(|component| (1..=256).contains(&component))
        && ["udp", "tcp"].contains(&field().to_ascii_lowercase().as_str())
        && field().parse::<u32>().is_ok()
        && is_address(field())
        && field().parse::<u16>().is_ok()
        && field() == "typ"
        && ["host", "srflx", "prflx", "relay"].contains(&field());
    if fits { Ok(()) } else { Err("the candidate is not of the form candidate:1 1 udp 1 192.0.2.1 9 typ host") }
}

fn is_address(field: &str) -> bool {
    let name = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'.';
    field.parse::<IpAddr>().is_ok() || field.len() <= 253 && field.ends_with(".local") && field.bytes().all(name)
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
        a=fingerprint:sha-256 AB:CD\r\na=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n";

    #[test]
    fn descriptions_of_native_and_browser_peers_are_taken() {
        for sdp in [NATIVE, BROWSER] {
            assert_eq!(description(sdp), Ok(()));
            assert_eq!(description(&sdp.replace("\r\n", "\n")), Ok(()), "with bare line feeds");
        }
    }

    #[test]
    fn a_description_that_lacks_something_is_refused() {
        let without =
            |start: &str| BROWSER.split_inclusive('\n').filter(|line| !line.starts_with(start)).collect::<String>();
        for (sdp, why) in [
            (without("m="), "no m=application"),
            (without("a=ice-ufrag"), "no a=ice-ufrag"),
            (without("a=ice-pwd"), "no a=ice-pwd"),
            (without("a=fingerprint"), "no a=fingerprint"),
            (without("v="), "starts with v=0"),
            (format!("{BROWSER}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"), "more than one"),
            (format!("{BROWSER}m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"), "no data channels"),
            (BROWSER.replace("webrtc-datachannel", "5000"), "no data channels"),
            (BROWSER.replace("AB:CD", "XY"), "fingerprint"),
            (BROWSER.replace("8hhY", "8"), "ice-ufrag"),
            (BROWSER.replace("asd88", "!"), "ice-pwd"),
            (BROWSER.replace("v=0", "v=00"), "starts with v=0"),
        ] {
            let refused = description(&sdp).unwrap_err();
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
        ] {
            assert!(candidate(line).is_err(), "{line}");
        }
    }

    proptest! {
        /// Whatever it is, it is taken or refused. And a true one with something broken in it is at least read.
        #[test]
        fn nothing_panics(text in any::<String>(), at in 0..BROWSER.len(), byte in any::<char>()) {
            let _ = description(&text);
            let _ = candidate(&format!("candidate:{text}"));
            let mut broken = BROWSER.to_owned();
            broken.remove(at);
            broken.insert(at, byte);
            let _ = description(&broken);
            for signal in [Signal::Offer(text.clone()), Signal::IceCandidate(text)] {
                let _ = check(&signal);
            }
        }
    }
}
