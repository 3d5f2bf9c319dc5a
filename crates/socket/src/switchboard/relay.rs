//! What goes between us and one peer through the signaling server: the handshake, and what is sealed in which frame?
//!
//! Both say hello with a key, until each has heard that the other has its own:
//!
//! ```text
//!   A                                   B        hello: version, flags, own key, the other's key as far as it is known
//!   hello(a, -) ──────────────────────▶
//!     ◀────────────────────── hello(b, a)        A is open: B has a, and A has b
//!   hello(a, b, OPEN) ────────────────▶          B is open
//! ```
//!
//! Then each frame has in it, sealed: how far what is to arrive has arrived (4 bytes), what it is (1), its number where it
//! is to arrive (4), and its bytes.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut, Bytes};
use coplay_proto::{
    Lane, PeerId,
    signal::relay::{FrameKind, HEADER, RelayFrame},
};

use self::{
    reliable::{Incoming, Outgoing},
    seal::{KeyPair, Opener, Public, Sealer},
};
use super::Attempt;
use crate::socket::{MAX_RELIABLE, MAX_UNRELIABLE};

pub(super) mod pace;
mod reliable;
mod seal;

/// What a frame has besides the bytes of a datagram: header, counter, tag, ack, what it is, number.
pub(super) const OVERHEAD: usize = HEADER + 8 + 16 + 4 + 1 + 4;
/// How often a hello is said, and how long.
const HELLO_EVERY: Duration = Duration::from_secs(1);
const HELLO_FOR: Duration = Duration::from_secs(4);
/// How many frames that cannot be opened are passed over.
const MAX_BAD: u32 = 64;
const VERSION: u8 = 1;

/// Flags of a hello: the sender has both keys; tries nothing but the relay; is connected directly, and needs no relay.
const OPEN: u8 = 1;
const ONLY: u8 = 2;
const DIRECT: u8 = 4;
/// The sender has a link that is open, and is to go on by the relay.
const MENDS: u8 = 8;

/// What an unreliable frame is.
const DATAGRAM: u8 = 0;
const ACK: u8 = 1;
const ACK_AND_GAP: u8 = 2;
/// What a reliable one is besides a datagram: the direct connection is open here; what follows goes over it; the end, and
/// why.
pub(super) const READY: u8 = 1;
pub(super) const MOVED: u8 = 2;
pub(super) const FAREWELL: u8 = 3;

/// The relay to one peer.
pub(super) struct Relay {
    pub(super) attempt: Attempt,
    me: PeerId,
    room: Arc<str>,
    keys: KeyPair,
    theirs: Option<Public>,
    sealed: Option<(Sealer, Opener)>,
    /// Whether we try nothing else.
    only: bool,
    /// Whether the peer does not.
    pub(super) only_there: bool,
    /// Whether it takes the place of a connection that is silent.
    pub(super) mends: bool,
    hello_at: Duration,
    hello_until: Duration,
    pub(super) out: Outgoing,
    incoming: Incoming,
    bad: u32,
    pub(super) moving: Moving,
    /// Until when it is kept for what was said last. Nothing that comes by it is handed out any more.
    pub(super) parting: Option<Duration>,
}

/// How far the move to a direct connection is.
#[derive(Debug, Default)]
pub(super) struct Moving {
    pub(super) here_open: bool,
    pub(super) there_open: bool,
    /// The platform was told to send by the direct connection from now on.
    pub(super) leaving: bool,
    /// It has handed over what was to be relayed, and the peer is told so.
    pub(super) left: bool,
    /// The peer has said its last by the relay.
    pub(super) there_left: bool,
}

/// What a hello led to.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Greeted {
    pub(super) reply: bool,
    pub(super) opened: bool,
    /// The peer has begun again, and knows nothing of what was.
    pub(super) anew: bool,
    /// The peer needs no relay.
    pub(super) direct: bool,
}

/// What a frame brought.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    Nothing,
    Datagram(Lane, Bytes),
    Ready,
    Moved,
    /// With the reason, if it is not just that the peer leaves.
    Farewell(String),
}

impl Relay {
    /// `None` where there is no randomness for a key.
    pub(super) fn new(now: Duration, attempt: Attempt, me: PeerId, room: Arc<str>, only: bool) -> Option<Self> {
        Some(Self {
            attempt,
            me,
            room,
            keys: KeyPair::fresh()?,
            theirs: None,
            sealed: None,
            only,
            only_there: false,
            mends: false,
            hello_at: now,
            hello_until: now + HELLO_FOR,
            out: Outgoing::default(),
            incoming: Incoming::default(),
            bad: 0,
            moving: Moving::default(),
            parting: None,
        })
    }

    pub(super) fn is_open(&self) -> bool {
        self.sealed.is_some()
    }

    /// What is said until the relay is open, and to who says it.
    pub(super) fn hello(&mut self, now: Duration) -> Bytes {
        self.hello_at = now + HELLO_EVERY;
        let flag = |set, flag| if set { flag } else { 0 };
        let flags = flag(self.is_open(), OPEN) | flag(self.only, ONLY) | flag(self.mends, MENDS);
        hello(self.attempt.peer, flags, &self.keys.public, &self.theirs.unwrap_or_default())
    }

    pub(super) fn greeted(&mut self, now: Duration, body: &[u8]) -> Greeted {
        let Some((flags, theirs, ours)) = read_hello(body) else { return Greeted::default() };
        if flags & DIRECT != 0 {
            return Greeted { direct: !self.is_open(), ..Greeted::default() };
        }
        if self.is_open() && self.theirs != Some(theirs) {
            return Greeted { anew: true, ..Greeted::default() };
        }
        if !self.is_open() && self.mends != (flags & MENDS != 0) {
            // One of the two has a link that the other has not.
            return Greeted::default();
        }
        self.theirs = Some(theirs);
        self.only_there = flags & ONLY != 0;
        let mut greeted = Greeted { reply: flags & OPEN == 0, ..Greeted::default() };
        if !self.is_open() && ours == self.keys.public {
            self.sealed = self.keys.agree(&theirs, self.me, self.attempt.peer, &self.room);
            greeted.opened = self.is_open();
            // The answer to the last one; at worst to one before, then it is too short, and measured soon.
            self.out.rtt = Some((now + HELLO_EVERY).saturating_sub(self.hello_at));
        }
        greeted
    }

    /// Takes a sealed frame. The error is why nothing more is to be taken from this peer.
    pub(super) fn take(&mut self, now: Duration, kind: FrameKind, body: &[u8]) -> Result<Heard, &'static str> {
        // One that overtook the end of the handshake cannot be, and one from before is void.
        let Some((_, opener)) = &mut self.sealed else { return Ok(Heard::Nothing) };
        let Some(plain) = opener.open(kind, body) else {
            self.bad += 1;
            return if self.bad < MAX_BAD { Ok(Heard::Nothing) } else { Err("it cannot be opened") };
        };
        self.read(now, kind, &plain)
    }

    fn read(&mut self, now: Duration, kind: FrameKind, plain: &[u8]) -> Result<Heard, &'static str> {
        const SHORT: &str = "it is too short";
        let (ack, rest) = plain.split_first_chunk().ok_or(SHORT)?;
        let (&what, rest) = rest.split_first().ok_or(SHORT)?;
        let gap = kind == FrameKind::Unreliable && what == ACK_AND_GAP;
        if !self.out.acked(now, u32::from_be_bytes(*ack), gap) {
            return Err("it acks what was not sent");
        }
        if kind == FrameKind::Unreliable {
            return match what {
                DATAGRAM if rest.len() <= MAX_UNRELIABLE => {
                    Ok(Heard::Datagram(Lane::Unreliable, Bytes::copy_from_slice(rest)))
                }
                ACK | ACK_AND_GAP => Ok(Heard::Nothing),
                _ => Err("it is too long, or of no known kind"),
            };
        }
        let (number, rest) = rest.split_first_chunk().ok_or(SHORT)?;
        if !self.incoming.take(now, u32::from_be_bytes(*number), rest.len()) {
            return Ok(Heard::Nothing);
        }
        match what {
            DATAGRAM if rest.len() <= MAX_RELIABLE => Ok(Heard::Datagram(Lane::Reliable, Bytes::copy_from_slice(rest))),
            READY => Ok(Heard::Ready),
            MOVED => Ok(Heard::Moved),
            FAREWELL => Ok(Heard::Farewell(String::from_utf8_lossy(rest).into_owned())),
            _ => Err("it is too long, or of no known kind"),
        }
    }

    /// A datagram as a frame.
    pub(super) fn unreliable(&mut self, bytes: &[u8]) -> Option<Bytes> {
        self.seal(FrameKind::Unreliable, DATAGRAM, None, bytes)
    }

    /// The next frame of what is to arrive.
    pub(super) fn next(&mut self, now: Duration) -> Option<Bytes> {
        let (number, what, bytes) = self.out.next(now)?;
        self.seal(FrameKind::Reliable, what, Some(number), &bytes)
    }

    /// A frame that says what has arrived.
    pub(super) fn ack(&mut self) -> Option<Bytes> {
        let what = if self.incoming.ack() { ACK_AND_GAP } else { ACK };
        self.seal(FrameKind::Unreliable, what, None, &[])
    }

    /// When an ack is due, if it is.
    pub(super) fn ack_at(&self) -> Option<Duration> {
        self.incoming.ack_at()
    }

    /// When a hello is due, until the relay is open; and when it is given up.
    pub(super) fn hello_due(&self) -> Option<(Duration, Duration)> {
        (!self.is_open()).then_some((self.hello_at, self.hello_until))
    }

    /// Whether the move is over for both.
    pub(super) fn has_moved(&self) -> bool {
        self.moving.left && self.moving.there_left && self.out.is_empty()
    }

    fn seal(&mut self, kind: FrameKind, what: u8, number: Option<u32>, bytes: &[u8]) -> Option<Bytes> {
        let mut plain = Vec::with_capacity(9 + bytes.len());
        plain.put_u32(self.incoming.next);
        plain.put_u8(what);
        if let Some(number) = number {
            plain.put_u32(number);
        }
        plain.put_slice(bytes);
        let (sealer, _) = self.sealed.as_mut()?;
        let body = sealer.seal(kind, &plain).into();
        Some(RelayFrame { peer: self.attempt.peer, kind, body }.write())
    }
}

/// What says to `peer` that no relay is needed.
pub(super) fn direct(peer: PeerId) -> Bytes {
    hello(peer, DIRECT, &[0; 32], &[0; 32])
}

/// Whether a hello is one that another is to answer.
pub(super) fn asks(body: &[u8]) -> bool {
    read_hello(body).is_some_and(|(flags, ..)| flags & (OPEN | DIRECT) == 0)
}

/// Whether a hello is for a link that is open.
pub(super) fn mends(body: &[u8]) -> bool {
    read_hello(body).is_some_and(|(flags, ..)| flags & MENDS != 0)
}

fn hello(peer: PeerId, flags: u8, own: &Public, other: &Public) -> Bytes {
    let mut body = vec![VERSION, flags];
    body.extend_from_slice(own);
    body.extend_from_slice(other);
    RelayFrame { peer, kind: FrameKind::Hello, body: body.into() }.write()
}

/// The flags, the sender's key, and what it takes for ours.
fn read_hello(body: &[u8]) -> Option<(u8, Public, Public)> {
    let (&[VERSION, flags], rest) = body.split_first_chunk()? else { return None };
    let (own, rest) = rest.split_first_chunk()?;
    let (other, []) = rest.split_first_chunk()? else { return None };
    Some((flags, *own, *other))
}

#[cfg(test)]
mod tests;
