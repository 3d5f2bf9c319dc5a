//! What do two sides say of themselves before they connect? The SDP of a session with nothing but data (RFC 8841, RFC 8829).

use std::{fmt::Write as _, io::Cursor};

use rtc_sdp::{MediaDescription, SessionDescription};

use super::dtls::Fingerprint;

/// SCTP's port within DTLS (RFC 8841, section 5): by what everybody uses.
pub(super) const SCTP_PORT: u16 = 5000;
/// The largest message that we take; more than either lane has.
const MAX_MESSAGE: usize = 256 * 1024;
/// The most candidates within a description that are looked at.
const MAX_CANDIDATES: usize = 32;
/// The bounds of RFC 8839, section 5.4.
const UFRAG: std::ops::RangeInclusive<usize> = 4..=256;
const PASSWORD: std::ops::RangeInclusive<usize> = 22..=256;

/// Who begins the DTLS handshake (RFC 8842, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::native) enum Setup {
    /// The other side may choose.
    Either,
    Active,
    Passive,
}

/// What one side says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::native) struct Description {
    /// The name of its only part.
    pub(in crate::native) mid: String,
    pub(in crate::native) ufrag: String,
    pub(in crate::native) password: String,
    /// By which certificate it is known: one of these.
    pub(in crate::native) fingerprints: Vec<Fingerprint>,
    pub(in crate::native) setup: Setup,
    pub(in crate::native) sctp_port: u16,
    /// The candidates that it has at hand.
    pub(in crate::native) candidates: Vec<String>,
}

/// Why a description cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::native) enum DescriptionError {
    #[error("it is no SDP: {0}")]
    NoSdp(String),
    #[error("it has {0} parts and not one alone for data")]
    NotOneForData(usize),
    #[error("its part for data is {0:?} and not data channels over DTLS")]
    NotDataChannels(String),
    #[error("it lacks {0}, or that is malformed")]
    Lacks(&'static str),
    #[error("it has no sha-256 fingerprint that can be read, by which to know the peer")]
    NoFingerprint,
}

impl Description {
    /// As SDP. `session` tells sessions apart, and means nothing.
    pub(in crate::native) fn write(&self, session: u64) -> String {
        let Self { mid, ufrag, password, sctp_port, .. } = self;
        let setup = match self.setup {
            Setup::Either => "actpass",
            Setup::Active => "active",
            Setup::Passive => "passive",
        };
        let session = session >> 1;
        let mut sdp = format!(
            "v=0\r\no=- {session} 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {mid}\r\n\
             m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=setup:{setup}\r\na=mid:{mid}\r\n\
             a=sendrecv\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\na=ice-options:trickle\r\n"
        );
        for fingerprint in &self.fingerprints {
            let _ = write!(sdp, "a=fingerprint:sha-256 {fingerprint}\r\n");
        }
        let _ = write!(sdp, "a=sctp-port:{sctp_port}\r\na=max-message-size:{MAX_MESSAGE}\r\n");
        for candidate in &self.candidates {
            let _ = write!(sdp, "a={candidate}\r\n");
        }
        sdp
    }

    /// Reads the peer's. The switchboard has bounded its length.
    pub(in crate::native) fn read(sdp: &str) -> Result<Self, DescriptionError> {
        let session = SessionDescription::unmarshal(&mut Cursor::new(sdp))
            .map_err(|error| DescriptionError::NoSdp(error.to_string()))?;
        let [part] = &session.media_descriptions[..] else {
            return Err(DescriptionError::NotOneForData(session.media_descriptions.len()));
        };
        let name = &part.media_name;
        let protocol = name.protos.join("/");
        let over_dtls = protocol.ends_with("DTLS/SCTP");
        let data = name.media == "application" && name.formats.iter().any(|format| format == "webrtc-datachannel");
        if !(data && over_dtls) {
            return Err(DescriptionError::NotDataChannels(format!("{} {protocol}", name.media)));
        }
        let values = |key: &str| values(&session, part, key);
        let one = |key: &'static str| values(key).into_iter().next().ok_or(DescriptionError::Lacks(key));
        let (ufrag, password) = (one("ice-ufrag")?, one("ice-pwd")?);
        if !UFRAG.contains(&ufrag.len()) || !is_ice_text(&ufrag) {
            return Err(DescriptionError::Lacks("ice-ufrag"));
        }
        if !PASSWORD.contains(&password.len()) || !is_ice_text(&password) {
            return Err(DescriptionError::Lacks("ice-pwd"));
        }
        let fingerprints: Vec<_> = values("fingerprint").iter().filter_map(|value| Fingerprint::read(value)).collect();
        if fingerprints.is_empty() {
            return Err(DescriptionError::NoFingerprint);
        }
        let setup = match one("setup")?.as_str() {
            "actpass" => Setup::Either,
            "active" => Setup::Active,
            "passive" => Setup::Passive,
            _ => return Err(DescriptionError::Lacks("setup")),
        };
        let sctp_port = match one("sctp-port") {
            Ok(port) => port.parse().map_err(|_| DescriptionError::Lacks("sctp-port"))?,
            Err(_) => SCTP_PORT,
        };
        let mid = one("mid").unwrap_or_else(|_| "0".to_owned());
        if mid.is_empty() || mid.len() > 64 || !mid.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(DescriptionError::Lacks("mid"));
        }
        let candidates = values("candidate").into_iter().take(MAX_CANDIDATES).collect();
        Ok(Self { mid, ufrag, password, fingerprints, setup, sctp_port, candidates })
    }
}

/// Of the part, or of the session, which is for all parts (RFC 8859).
fn values(session: &SessionDescription, part: &MediaDescription, key: &str) -> Vec<String> {
    let of = |attributes: &[rtc_sdp::description::common::Attribute]| -> Vec<String> {
        attributes.iter().filter(|it| it.key == key).filter_map(|it| it.value.clone()).collect()
    };
    let values = of(&part.attributes);
    if values.is_empty() { of(&session.attributes) } else { values }
}

/// `ice-char` of RFC 8839, section 5.4; browsers add `-` and `_`.
fn is_ice_text(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'='))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description() -> Description {
        Description {
            mid: "0".into(),
            ufrag: "abcdEFGH".into(),
            password: "0123456789abcdefghijklmn".into(),
            fingerprints: vec![Fingerprint::of(b"a certificate")],
            setup: Setup::Either,
            sctp_port: SCTP_PORT,
            candidates: Vec::new(),
        }
    }

    #[test]
    fn what_one_side_writes_the_other_reads() {
        for setup in [Setup::Either, Setup::Active, Setup::Passive] {
            let said = Description { setup, mid: "data".into(), ..description() };
            assert_eq!(Description::read(&said.write(7)), Ok(said));
        }
        let with = Description {
            candidates: vec!["candidate:1 1 udp 1 192.0.2.1 9 typ host".into()],
            fingerprints: vec![Fingerprint::of(b"a"), Fingerprint::of(b"b")],
            ..description()
        };
        let read = Description::read(&with.write(u64::MAX)).expect("SDP");
        assert_eq!(read.fingerprints, with.fingerprints);
        assert_eq!(read.candidates, ["1 1 udp 1 192.0.2.1 9 typ host"]);
    }

    #[test]
    fn what_is_said_of_the_session_is_said_of_its_part() {
        // Firefox says its fingerprint there.
        let sdp = description().write(1);
        let (line, _) = sdp.split_once("a=fingerprint:").expect("one").1.split_once("\r\n").expect("a line");
        let line = format!("a=fingerprint:{line}\r\n");
        let moved = sdp.replace(&line, "").replace("m=application", &format!("{line}m=application"));
        assert_eq!(Description::read(&moved), Ok(description()));
    }

    #[test]
    fn what_is_not_of_a_data_connection_is_refused_and_it_is_said_why() {
        let sdp = description().write(1);
        let refused = |from: &str, to: &str| {
            let changed = sdp.replacen(from, to, 1);
            assert_ne!(changed, sdp, "{from}");
            Description::read(&changed).expect_err(to)
        };
        assert_eq!(refused("sha-256", "sha-1"), DescriptionError::NoFingerprint);
        assert_eq!(refused("a=fingerprint:sha-256 ", "a=fingerprint:sha-256 zz:"), DescriptionError::NoFingerprint);
        assert_eq!(refused("a=ice-ufrag:abcdEFGH", "a=ice-ufrag:abc"), DescriptionError::Lacks("ice-ufrag"));
        assert_eq!(refused("a=ice-ufrag:abcdEFGH", "a=ice-ufrag:ab:cd"), DescriptionError::Lacks("ice-ufrag"));
        assert_eq!(refused("a=ice-pwd:0123456789", "a=ice-pwd:"), DescriptionError::Lacks("ice-pwd"));
        assert_eq!(refused("a=setup:actpass\r\n", ""), DescriptionError::Lacks("setup"));
        assert_eq!(refused("a=setup:actpass", "a=setup:holdconn"), DescriptionError::Lacks("setup"));
        assert_eq!(refused("a=sctp-port:5000", "a=sctp-port:99999"), DescriptionError::Lacks("sctp-port"));
        assert!(matches!(refused("UDP/DTLS/SCTP", "UDP/SCTP"), DescriptionError::NotDataChannels(_)));
        assert!(matches!(refused("m=application", "m=audio"), DescriptionError::NotDataChannels(_)));
        let part = &sdp[sdp.find("m=application").expect("a part")..];
        assert_eq!(Description::read(&format!("{sdp}{part}")), Err(DescriptionError::NotOneForData(2)));
        let none = &sdp[..sdp.find("m=application").expect("a part")];
        assert_eq!(Description::read(none), Err(DescriptionError::NotOneForData(0)));
        for rubbish in ["", "v=0", "v=1\r\n", "\u{0}", "v=0\r\nm=application", "nonsense\r\nmore"] {
            assert!(Description::read(rubbish).is_err(), "{rubbish:?}");
        }
    }
}
