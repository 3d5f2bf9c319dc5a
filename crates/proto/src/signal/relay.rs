//! What goes between two peers through the signaling server, where no direct connection works?
//!
//! Binary frames on the WebSocket of signaling: 16 bytes of the other peer's id (to the server: the receiver's; from it:
//! the sender's, as it knows it), a byte of [`FrameKind`], and a body that only the two peers can read. A peer says that
//! it takes them by offering the subprotocol [`OFFER`]; a server that passes them on says so in its
//! [`Welcome`](super::Welcome), with a [`RelayOffer`].

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::PeerId;

/// Offered besides [`SUBPROTOCOL`](super::SUBPROTOCOL) by peers that take relayed frames. The server never selects it.
pub const OFFER: &str = "coplay.relay";

/// What comes before the body, in bytes.
pub const HEADER: usize = 17;
/// The longest frame, in bytes: the longest datagram of a data channel, and what sealing takes.
pub const MAX_FRAME: usize = 16 * 1024 + 128;

/// That the server relays, and how much each peer may send to all others together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayOffer {
    /// Bytes of frames a second. As many at once, too. More are dropped.
    pub bytes: u32,
    /// Frames a second. As many at once, too. More are dropped.
    pub frames: u32,
}

/// What a frame is, as far as the server needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// The sender's part of the handshake, not sealed.
    Hello = 0,
    /// Sealed; the oldest of these is dropped where not all fit.
    Unreliable = 1,
    /// Sealed; said again by the sender if it is lost.
    Reliable = 2,
    /// From the server alone, with an empty body: a hello was not passed on. The peer is not there, not to be connected
    /// with, or takes no relayed frames.
    Refused = 3,
}

/// A frame that is relayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayFrame {
    /// The other peer.
    pub peer: PeerId,
    /// What it is.
    pub kind: FrameKind,
    /// For the other peer.
    pub body: Bytes,
}

impl RelayFrame {
    /// Reads a frame; `None` if it is none, or longer than [`MAX_FRAME`].
    pub fn read(mut frame: Bytes) -> Option<Self> {
        if frame.len() > MAX_FRAME || frame.len() < HEADER {
            return None;
        }
        let body = frame.split_off(HEADER);
        let (kind, peer) = frame.split_last()?;
        let kind = match kind {
            0 => FrameKind::Hello,
            1 => FrameKind::Unreliable,
            2 => FrameKind::Reliable,
            3 => FrameKind::Refused,
            _ => return None,
        };
        let peer = PeerId::from_u128(u128::from_be_bytes(peer.try_into().ok()?));
        Some(Self { peer, kind, body })
    }

    /// The frame as bytes.
    pub fn write(&self) -> Bytes {
        let mut frame = BytesMut::with_capacity(HEADER + self.body.len());
        frame.put_u128(self.peer.as_u128());
        frame.put_u8(self.kind as u8);
        frame.put_slice(&self.body);
        frame.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written() {
        for kind in [FrameKind::Hello, FrameKind::Unreliable, FrameKind::Reliable, FrameKind::Refused] {
            for body in ["", "x", "a body"] {
                let frame = RelayFrame { peer: PeerId::from_u128(7 << 100 | 9), kind, body: body.into() };
                assert_eq!(RelayFrame::read(frame.write()), Some(frame));
            }
        }
    }

    #[test]
    fn what_is_no_frame_is_not_read() {
        for length in [0, 1, HEADER - 1, MAX_FRAME + 1] {
            assert_eq!(RelayFrame::read(vec![0; length].into()), None, "{length}");
        }
        for kind in 4..=255 {
            let frame = [vec![0; HEADER - 1], vec![kind]].concat();
            assert_eq!(RelayFrame::read(frame.into()), None, "{kind}");
        }
        assert!(RelayFrame::read(vec![0; MAX_FRAME].into()).is_some());
    }
}
