//! How much may peers send each other through the server, where they cannot connect?

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use coplay_proto::{
    PeerId,
    signal::relay::{FrameKind, MAX_FRAME, RelayFrame, RelayOffer},
};
use tokio::time::Instant;

use crate::{Rate, peer::bucket::Bucket};

/// How many seconds' worth of its rate a peer may send at once. Peers that keep to the [`RelayOffer`] send one: what
/// was held up on the way may come together.
const BURST: u32 = 2;
/// How many of the longest frames the burst has room for, whatever the rate.
const FRAMES: u32 = 4;

/// How much the server relays between peers by the WebSocket of each. What is above is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayLimits {
    /// What a peer may send each second, to all others together. Default 125,000 bytes (1 Mbit/s) in 400 frames.
    pub peer: Rate,
    /// The same of all peers together. Default 16,000,000 bytes (128 Mbit/s) in 50,000
    /// frames.
    pub total: Rate,
    /// Bytes that may wait for a peer that reads slowly. Default 128 KiB; the longest frame or more.
    pub queue_bytes: u32,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            peer: Rate { frames: 400, bytes: 125_000 },
            total: Rate { frames: 50_000, bytes: 16_000_000 },
            queue_bytes: 128 * 1024,
        }
    }
}

impl RelayLimits {
    /// What peers are told of it.
    pub(crate) fn offer(&self) -> RelayOffer {
        RelayOffer { bytes: self.peer.bytes, frames: self.peer.frames }
    }
}

/// Why a frame is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unrelayed {
    /// The sender is above its rate.
    Rate,
    /// All together are.
    Total,
    /// The receiver is not there, not to be connected with the sender, or takes no frames.
    Stranger,
    /// It did not fit into what waits for the receiver.
    Queue,
}

impl Unrelayed {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Total => "total",
            Self::Stranger => "stranger",
            Self::Queue => "queue",
        }
    }
}

/// What all peers of a server together may still send.
#[derive(Debug)]
pub(crate) struct Total(Mutex<Bucket>);

impl Total {
    pub(crate) fn new(limits: &RelayLimits, now: Instant) -> Self {
        Self(Mutex::new(bucket(limits.total, now)))
    }

    fn take(&self, bytes: usize, now: Instant) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take_if_enough(bytes, now)
    }
}

/// What one peer may still send.
#[derive(Debug)]
pub(crate) struct Allowance(Bucket);

impl Allowance {
    pub(crate) fn new(limits: &RelayLimits, now: Instant) -> Self {
        Self(bucket(limits.peer, now))
    }

    /// Takes a frame of so many bytes out, if it may be passed on.
    pub(crate) fn take(&mut self, bytes: usize, total: &Total, now: Instant) -> Result<(), Unrelayed> {
        if !self.0.take_if_enough(bytes, now) {
            return Err(Unrelayed::Rate);
        }
        if total.take(bytes, now) { Ok(()) } else { Err(Unrelayed::Total) }
    }
}

fn bucket(rate: Rate, now: Instant) -> Bucket {
    let least = FRAMES * u32::try_from(MAX_FRAME).unwrap_or(u32::MAX);
    let burst = Rate {
        frames: rate.frames.saturating_mul(BURST).max(FRAMES),
        bytes: rate.bytes.saturating_mul(BURST).max(least),
    };
    Bucket::of(burst, rate, now)
}

/// What `from` wants to be passed on: to whom, what kind of frame it is, and the frame as that one is to get it. `None` if
/// it is no frame of a peer.
pub(crate) fn read(frame: Bytes, from: PeerId) -> Option<(PeerId, FrameKind, Bytes)> {
    let frame = RelayFrame::read(frame).filter(|frame| frame.kind != FrameKind::Refused && frame.peer != from)?;
    let (to, kind) = (frame.peer, frame.kind);
    Some((to, kind, RelayFrame { peer: from, ..frame }.write()))
}

/// What says that a hello to `peer` was not passed on.
pub(crate) fn refused(peer: PeerId) -> Bytes {
    RelayFrame { peer, kind: FrameKind::Refused, body: Bytes::new() }.write()
}
