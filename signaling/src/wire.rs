//! What may a peer say, how is it passed on, and with which codes is it refused?
//!
//! The words shared with `matchbox_socket` are read and written as the types of `matchbox_protocol`, what is ours as
//! those of [`coplay_proto::signal`]. A signal's body is checked by [`shape`] and passed on as it was written.

use axum::{extract::ws::Utf8Bytes, http::StatusCode};
use coplay_proto::{
    PeerId,
    signal::{ClientMessage, Report, ServerMessage, SignalError, lobby::RoomCommand},
};
use matchbox_protocol::{PeerEvent, PeerRequest};
use serde_json::value::RawValue;

use crate::firewall::{Kind, shape};

/// The largest message taken from a peer, in bytes. A data channel's SDP has 0.5 to 1.5 KiB, a candidate 0.2.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Close codes (RFC 6455, section 7.4) of a server that stops, and of a peer that does not keep up.
pub mod close {
    /// All is well.
    pub const NORMAL: u16 = 1000;
    /// The server stops.
    pub const GOING_AWAY: u16 = 1001;
    /// The server stops, and another takes its place: connect again.
    pub const RESTART: u16 = 1012;
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
        SignalError::NoSuchRoom { .. } => StatusCode::NOT_FOUND,
        SignalError::TopologyDiffers { .. } => StatusCode::CONFLICT,
        SignalError::PasswordNeeded | SignalError::WrongPassword | SignalError::TicketRefused { .. } => {
            StatusCode::UNAUTHORIZED
        }
        SignalError::RoomFull { .. }
        | SignalError::Kicked { .. }
        | SignalError::NotLeader
        | SignalError::OriginRefused { .. } => StatusCode::FORBIDDEN,
        SignalError::SeatGone => StatusCode::GONE,
        SignalError::RoomLocked => StatusCode::LOCKED,
        SignalError::TooMuch | SignalError::TooManyAttempts { .. } => StatusCode::TOO_MANY_REQUESTS,
        SignalError::ServerFull | SignalError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// What a peer said.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    KeepAlive,
    /// A frame for another peer, ready to be sent to it.
    Signal {
        to: PeerId,
        kind: Kind,
        frame: Utf8Bytes,
    },
    /// How connecting to another peer went.
    Report(Report),
    /// What the room's leader wants.
    Room(RoomCommand),
}

/// Reads what `from` said; what is not of this protocol is [`SignalError::Malformed`]. Where signals are `opaque`, any
/// JSON is one.
pub(crate) fn read(text: &str, from: PeerId, opaque: bool) -> Result<Heard, SignalError> {
    let (receiver, data) = match serde_json::from_str::<PeerRequest<&RawValue>>(text) {
        Ok(PeerRequest::KeepAlive) => return Ok(Heard::KeepAlive),
        Ok(PeerRequest::Signal { receiver, data }) => (PeerId::from(receiver.0), data),
        Err(error) => return read_ours(text).ok_or_else(|| malformed(error)),
    };
    if receiver == from {
        return Err(malformed("a signal is for another peer, not for oneself"));
    }
    let kind = if opaque {
        Kind::Opaque
    } else {
        let signal = serde_json::from_str(data.get()).map_err(malformed)?;
        shape::check(&signal)?;
        Kind::from(&signal)
    };
    let sender = matchbox_protocol::PeerId(from.into());
    Ok(Heard::Signal { to: receiver, kind, frame: text_of(&PeerEvent::Signal { sender, data }) })
}

/// What only peers with the subprotocol say.
fn read_ours(text: &str) -> Option<Heard> {
    match serde_json::from_str(text) {
        Ok(ClientMessage::Report(report)) => Some(Heard::Report(report)),
        Ok(ClientMessage::Room(command)) => Some(Heard::Room(command)),
        _ => None,
    }
}

/// A message of the server as text.
pub(crate) fn say(message: &ServerMessage) -> Utf8Bytes {
    text_of(message)
}

/// Whether a frame from [`say`] or [`read`] belongs to a handshake, or starts one.
pub(crate) fn is_of_handshake(frame: &str) -> bool {
    frame.starts_with(r#"{"Signal""#) || frame.starts_with(r#"{"NewPeer""#)
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

fn text_of(message: &impl serde::Serialize) -> Utf8Bytes {
    // Strings, numbers and lists of them, and text that was JSON before: always JSON again.
    serde_json::to_string(message).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use coplay_proto::signal::ReportedPath;

    use super::*;
    use crate::firewall::shape::{MAX_CANDIDATE, MAX_SDP};

    const ME: PeerId = PeerId::from_u128(1);
    const OTHER: &str = "00000000-0000-0000-0000-000000000002";

    fn signal(data: &str) -> Result<Heard, SignalError> {
        read(&format!(r#"{{"Signal":{{"receiver":"{OTHER}","data":{data}}}}}"#), ME, false)
    }

    fn quoted(text: &str) -> String {
        serde_json::to_string(text).unwrap()
    }

    #[test]
    fn a_signal_is_passed_on_as_it_was_written_with_the_true_sender() {
        // The escape and the space are the sender's own way to write it.
        let heard = signal(r#"{"IceCandidate": "nul\u006c"}"#).unwrap();
        let sender = "00000000-0000-0000-0000-000000000001";
        let frame = format!(r#"{{"Signal":{{"sender":"{sender}","data":{{"IceCandidate": "nul\u006c"}}}}}}"#);
        let to = PeerId::from_u128(2);
        assert_eq!(heard, Heard::Signal { to, kind: Kind::Candidate, frame: frame.into() });
        assert_eq!(read("\"KeepAlive\"", ME, false), Ok(Heard::KeepAlive));
    }

    #[test]
    fn what_is_opaque_is_passed_on_if_it_is_json() {
        let opaque = |data: &str| read(&format!(r#"{{"Signal":{{"receiver":"{OTHER}","data":{data}}}}}"#), ME, true);
        for data in ["null", "[1,2]", r#"{"renegotiate":{"sdp":"x"}}"#] {
            assert!(matches!(opaque(data), Ok(Heard::Signal { kind: Kind::Opaque, .. })), "{data}");
            assert!(signal(data).is_err(), "{data}");
        }
        assert!(opaque("{").is_err());
    }

    #[test]
    fn frames_of_a_handshake_are_known() {
        let Ok(Heard::Signal { frame, .. }) = signal(r#"{"IceCandidate":"null"}"#) else { panic!("no signal") };
        assert!(is_of_handshake(&frame) && is_of_handshake(&say(&ServerMessage::NewPeer(ME))));
        assert!(!is_of_handshake(&say(&ServerMessage::PeerLeft(ME))));
    }

    #[test]
    fn reports_are_read() {
        let path = read(r#"{"Report":{"path":"srflx"}}"#, ME, false);
        assert_eq!(path, Ok(Heard::Report(Report::Path(ReportedPath::Srflx))));
        let failed = read(r#"{"Report":{"failed":"N0001"}}"#, ME, false);
        assert_eq!(failed, Ok(Heard::Report(Report::Failed("N0001".into()))));
        assert!(read(r#"{"Report":{"path":"pigeon"}}"#, ME, false).is_err());
    }

    #[test]
    fn signals_of_both_native_and_browser_peers_are_taken() {
        for candidate in [
            r#"{"candidate":"candidate:1 1 udp 1 10.0.0.1 1 typ host","sdpMid":"","sdpMLineIndex":0,"usernameFragment":null}"#,
            r#"{"candidate":"","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"x"}"#,
            "null",
        ] {
            assert!(signal(&format!(r#"{{"IceCandidate":{}}}"#, quoted(candidate))).is_ok(), "{candidate}");
        }
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
            assert!(matches!(read(text, ME, false), Err(SignalError::Malformed { .. })), "{text}");
        }
        let to_me = format!(r#"{{"Signal":{{"receiver":"{}","data":{{"Offer":"v=0"}}}}}}"#, OTHER.replace('2', "1"));
        assert!(matches!(read(&to_me, ME, false), Err(SignalError::Malformed { .. })));
    }

    #[test]
    fn what_a_leader_wants_is_read() {
        let read = |text: &str| read(text, ME, false);
        assert_eq!(read(r#"{"Room":{"lock":true}}"#), Ok(Heard::Room(RoomCommand::Lock(true))));
        assert!(matches!(read("\"Cancel\""), Err(SignalError::Malformed { .. })), "said elsewhere");
        let long = format!(r#"{{"Room":{{"metadata":{{"map":"{}"}}}}}}"#, "x".repeat(200));
        assert!(matches!(read(&long), Err(SignalError::Malformed { .. })));
    }

    #[test]
    fn an_error_does_not_repeat_everything_that_was_sent() {
        let Err(SignalError::Malformed { detail }) = read(&format!("\"{}\"", "ä".repeat(30_000)), ME, false) else {
            panic!("a word that is none was understood");
        };
        assert!(detail.len() <= 200 && !detail.is_empty(), "{}", detail.len());
    }
}
