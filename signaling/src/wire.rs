//! What may a peer say, how is it passed on, and with which codes is it refused?
//!
//! The words shared with `matchbox_socket` are read and written as the types of `matchbox_protocol`, what is ours as
//! those of [`coplay_proto::signal`]. A signal's body is checked against [`Signal`] and passed on as it was written.

use axum::{extract::ws::Utf8Bytes, http::StatusCode};
use coplay_proto::{
    PeerId,
    signal::{ClientMessage, ServerMessage, Signal, SignalError, lobby::RoomCommand},
};
use matchbox_protocol::{PeerEvent, PeerRequest};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The largest message taken from a peer, in bytes. A data channel's SDP has 0.5 to 1.5 KiB, a candidate 0.2.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// The largest offer or answer passed on, in bytes of its SDP.
pub const MAX_SDP: usize = 16 * 1024;
/// The largest candidate passed on, in bytes of its JSON.
pub const MAX_CANDIDATE: usize = 1024;

/// Close codes (RFC 6455, section 7.4) of a server that stops, and of a peer that does not keep up.
pub mod close {
    /// All is well.
    pub const NORMAL: u16 = 1000;
    /// The server stops.
    pub const GOING_AWAY: u16 = 1001;
    /// More waits for the peer than the server holds for it, or it takes nothing at all.
    pub const TOO_SLOW: u16 = 1013;
    /// Nothing was heard from the peer for too long.
    pub const SILENT: u16 = 4408;
    /// Added to the HTTP status of a refusal, see [`status`](super::status), it is the close code of it.
    pub const REFUSED: u16 = 4000;
}

/// The HTTP status that says `error` to a peer without the subprotocol, before its WebSocket opens. Plus
/// [`close::REFUSED`] it is the close code of a WebSocket that is open.
pub fn status(error: &SignalError) -> StatusCode {
    match error {
        SignalError::Malformed { .. } => StatusCode::BAD_REQUEST,
        SignalError::PasswordNeeded | SignalError::WrongPassword => StatusCode::UNAUTHORIZED,
        SignalError::RoomFull { .. } | SignalError::Kicked { .. } | SignalError::NotLeader => StatusCode::FORBIDDEN,
        SignalError::NoSuchRoom { .. } => StatusCode::NOT_FOUND,
        SignalError::TopologyDiffers { .. } => StatusCode::CONFLICT,
        SignalError::SeatGone => StatusCode::GONE,
        SignalError::RoomLocked => StatusCode::LOCKED,
        SignalError::TooMuch | SignalError::TooManyAttempts { .. } => StatusCode::TOO_MANY_REQUESTS,
        SignalError::ServerFull => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// What a peer said.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    KeepAlive,
    /// A frame for another peer, ready to be sent to it.
    Signal {
        to: PeerId,
        frame: Utf8Bytes,
    },
    /// What the room's leader wants.
    Room(RoomCommand),
}

/// Reads what `from` said in a room; what is not of this protocol is [`SignalError::Malformed`]. Who speaks `coplay`'s
/// subprotocol may say more.
pub(crate) fn read(text: &str, from: PeerId, coplay: bool) -> Result<Heard, SignalError> {
    let (receiver, data) = match serde_json::from_str::<PeerRequest<&RawValue>>(text) {
        Ok(PeerRequest::KeepAlive) => return Ok(Heard::KeepAlive),
        Ok(PeerRequest::Signal { receiver, data }) => (PeerId::from(receiver.0), data),
        Err(error) => match serde_json::from_str(text) {
            Ok(ClientMessage::Room(command)) if coplay => return Ok(Heard::Room(command)),
            _ => return Err(malformed(error)),
        },
    };
    if receiver == from {
        return Err(malformed("a signal is for another peer, not for oneself"));
    }
    check(&serde_json::from_str(data.get()).map_err(malformed)?)?;
    let sender = matchbox_protocol::PeerId(from.into());
    Ok(Heard::Signal { to: receiver, frame: text_of(&PeerEvent::Signal { sender, data }) })
}

/// A message of the server as text.
pub(crate) fn say(message: &ServerMessage) -> Utf8Bytes {
    text_of(message)
}

/// `Malformed` with as much of `detail` as is worth repeating; it may quote what a peer sent.
pub(crate) fn malformed(detail: impl ToString) -> SignalError {
    SignalError::Malformed { detail: cut(detail.to_string(), 200) }
}

/// The first `most` bytes of a text, or a few less, so that no character is cut apart.
pub(crate) fn cut(mut text: String, most: usize) -> String {
    text.truncate(text.floor_char_boundary(most));
    text
}

/// An `RTCIceCandidateInit` (WebRTC, section 4.8.1.1), typed as strictly as the clients that read it: an unmodified
/// `matchbox_socket` panics on some that are not.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "read to be checked, not to be used")]
struct Candidate {
    candidate: String,
    sdp_mid: Option<String>,
    #[serde(rename = "sdpMLineIndex")]
    sdp_m_line_index: Option<u16>,
    username_fragment: Option<String>,
}

fn check(signal: &Signal) -> Result<(), SignalError> {
    match signal {
        Signal::Offer(sdp) | Signal::Answer(sdp) if sdp.len() > MAX_SDP => {
            Err(malformed(format!("the SDP has {} bytes, and at most {MAX_SDP} are taken", sdp.len())))
        }
        Signal::Offer(sdp) | Signal::Answer(sdp) if !sdp.starts_with("v=0") => {
            Err(malformed("an offer or answer is SDP and starts with v=0"))
        }
        Signal::Offer(_) | Signal::Answer(_) => Ok(()),
        Signal::IceCandidate(json) if json.len() > MAX_CANDIDATE => {
            Err(malformed(format!("the candidate has {} bytes, and at most {MAX_CANDIDATE} are taken", json.len())))
        }
        Signal::IceCandidate(json) => match serde_json::from_str::<Option<Candidate>>(json) {
            Ok(_) => Ok(()),
            Err(error) => Err(malformed(format!("the candidate is not the JSON of one: {error}"))),
        },
    }
}

fn text_of(message: &impl serde::Serialize) -> Utf8Bytes {
    // Strings, numbers and lists of them, and text that was JSON before: always JSON again.
    serde_json::to_string(message).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: PeerId = PeerId::from_u128(1);
    const OTHER: &str = "00000000-0000-0000-0000-000000000002";

    fn signal(data: &str) -> Result<Heard, SignalError> {
        read(&format!(r#"{{"Signal":{{"receiver":"{OTHER}","data":{data}}}}}"#), ME, true)
    }

    fn quoted(text: &str) -> String {
        serde_json::to_string(text).unwrap()
    }

    #[test]
    fn a_signal_is_passed_on_as_it_was_written_with_the_true_sender() {
        // The escape and the space are the sender's own way to write it.
        let heard = signal(r#"{"Offer": "v=0\u000d\n"}"#).unwrap();
        let frame = r#"{"Signal":{"sender":"00000000-0000-0000-0000-000000000001","data":{"Offer": "v=0\u000d\n"}}}"#;
        assert_eq!(heard, Heard::Signal { to: PeerId::from_u128(2), frame: frame.into() });
        assert_eq!(read("\"KeepAlive\"", ME, false), Ok(Heard::KeepAlive));
    }

    #[test]
    fn signals_of_both_native_and_browser_peers_are_taken() {
        for candidate in [
            r#"{"candidate":"candidate:1 1 udp 1 10.0.0.1 1 typ host","sdpMid":"","sdpMLineIndex":0,"usernameFragment":null}"#,
            r#"{"candidate":"","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"x"}"#,
            r#"{"candidate":"candidate:1"}"#,
            "null",
        ] {
            assert!(signal(&format!(r#"{{"IceCandidate":{}}}"#, quoted(candidate))).is_ok(), "{candidate}");
        }
        assert!(signal(r#"{"Answer":"v=0\r\n"}"#).is_ok());
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        let long = "x".repeat(MAX_CANDIDATE);
        let large = format!("v=0{}", "x".repeat(MAX_SDP));
        for data in [
            "null".into(),
            "{}".into(),
            "[0]".into(),
            r#"{"Offer":5}"#.into(),
            r#"{"Offer":"garbage"}"#.into(),
            r#"{"Offer":"v=0","Answer":"v=0"}"#.into(),
            r#"{"Shout":"v=0"}"#.into(),
            format!(r#"{{"Answer":"{large}"}}"#),
            format!(r#"{{"IceCandidate":{}}}"#, quoted("garbage")),
            format!(r#"{{"IceCandidate":{}}}"#, quoted("{}")),
            format!(r#"{{"IceCandidate":{}}}"#, quoted(r#"{"candidate":"","sdpMLineIndex":"one"}"#)),
            format!(r#"{{"IceCandidate":{}}}"#, quoted(&format!(r#"{{"candidate":"{long}"}}"#))),
            "[".repeat(10_000),
        ] {
            assert!(matches!(signal(&data), Err(SignalError::Malformed { .. })), "{data:.80}");
        }
        for text in ["", "garbage", "{}", "\"Hello\"", r#"{"Signal":{"receiver":"x","data":{"Offer":"v=0"}}}"#] {
            assert!(matches!(read(text, ME, true), Err(SignalError::Malformed { .. })), "{text}");
        }
        let to_me = format!(r#"{{"Signal":{{"receiver":"{}","data":{{"Offer":"v=0"}}}}}}"#, OTHER.replace('2', "1"));
        assert!(matches!(read(&to_me, ME, true), Err(SignalError::Malformed { .. })));
    }

    #[test]
    fn only_peers_with_the_subprotocol_command() {
        let text = r#"{"Room":{"lock":true}}"#;
        assert_eq!(read(text, ME, true), Ok(Heard::Room(RoomCommand::Lock(true))));
        assert!(matches!(read(text, ME, false), Err(SignalError::Malformed { .. })));
        assert!(matches!(read("\"Cancel\"", ME, true), Err(SignalError::Malformed { .. })), "said elsewhere");
        let long = format!(r#"{{"Room":{{"metadata":{{"map":"{}"}}}}}}"#, "x".repeat(200));
        assert!(matches!(read(&long, ME, true), Err(SignalError::Malformed { .. })));
    }

    #[test]
    fn an_error_does_not_repeat_everything_that_was_sent() {
        let Err(SignalError::Malformed { detail }) = read(&format!("\"{}\"", "ä".repeat(30_000)), ME, true) else {
            panic!("a word that is none was understood");
        };
        assert!(detail.len() <= 200 && !detail.is_empty(), "{}", detail.len());
    }
}
