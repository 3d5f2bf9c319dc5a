//! What other peers have for one peer waits here, apart from what signaling has for it, and bounded: the newest wins.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use coplay_proto::signal::relay::FrameKind;
use tokio::sync::Notify;

/// What a frame counts besides its bytes, so that small ones are bounded too.
const OVERHEAD: usize = 64;

/// Frames for one peer: the room's end and the peer's.
#[derive(Clone, Debug)]
pub(crate) struct Relayed(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most: usize,
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<(FrameKind, Bytes)>,
    held: usize,
}

impl Waiting {
    /// Drops the oldest frame that was sent unreliably; false if there is none.
    fn drop_oldest(&mut self) -> bool {
        let Some(at) = self.frames.iter().position(|(kind, _)| *kind == FrameKind::Unreliable) else { return false };
        let dropped = self.frames.remove(at);
        self.held -= dropped.map_or(0, |(_, frame)| cost(&frame));
        true
    }
}

fn cost(frame: &Bytes) -> usize {
    frame.len() + OVERHEAD
}

impl Relayed {
    /// For so many bytes.
    pub(crate) fn new(most: u32) -> Self {
        let most = most as usize;
        Self(Arc::new(Shared { most, waiting: Mutex::default(), news: Notify::new() }))
    }

    /// Puts a frame behind the others, in place of the oldest unreliable ones if need be. Returns how many were dropped,
    /// which this one may be among.
    pub(crate) fn push(&self, kind: FrameKind, frame: Bytes) -> usize {
        let mut dropped = 0;
        let mut waiting = self.lock();
        while waiting.held + cost(&frame) > self.0.most {
            dropped += 1;
            if !waiting.drop_oldest() {
                return dropped;
            }
        }
        waiting.held += cost(&frame);
        waiting.frames.push_back((kind, frame));
        drop(waiting);
        self.0.news.notify_one();
        dropped
    }

    /// The next frame. May be dropped and called again.
    pub(crate) async fn next(&self) -> Bytes {
        loop {
            let news = self.0.news.notified();
            if let Some(frame) = self.pop() {
                return frame;
            }
            news.await;
        }
    }

    fn pop(&self) -> Option<Bytes> {
        let mut waiting = self.lock();
        let (_, frame) = waiting.frames.pop_front()?;
        waiting.held -= cost(&frame);
        Some(frame)
    }

    /// Held for a look only, never while waiting.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(byte: u8, length: usize) -> Bytes {
        vec![byte; length].into()
    }

    #[tokio::test]
    async fn the_oldest_unreliable_frames_give_way_and_reliable_ones_do_not() {
        let relayed = Relayed::new(4 * (100 + OVERHEAD as u32));
        for (byte, kind) in [(1, FrameKind::Reliable), (2, FrameKind::Unreliable), (3, FrameKind::Unreliable)] {
            assert_eq!(relayed.push(kind, frame(byte, 100)), 0);
        }
        assert_eq!(relayed.push(FrameKind::Reliable, frame(4, 100)), 0);
        assert_eq!(relayed.push(FrameKind::Unreliable, frame(5, 100)), 1, "in place of 2");
        assert_eq!(relayed.push(FrameKind::Reliable, frame(6, 100)), 1, "in place of 3");
        assert_eq!(relayed.push(FrameKind::Reliable, frame(7, 100)), 1, "in place of 5");
        assert_eq!(relayed.push(FrameKind::Reliable, frame(8, 100)), 1, "itself");
        assert_eq!(relayed.push(FrameKind::Unreliable, frame(9, 100)), 1, "itself");
        for byte in [1, 4, 6, 7] {
            assert_eq!(relayed.next().await[0], byte);
        }
        assert_eq!(relayed.lock().held, 0);
    }

    #[tokio::test]
    async fn many_small_frames_are_bounded_too() {
        let relayed = Relayed::new(64 * 1024);
        for _ in 0..100_000 {
            relayed.push(FrameKind::Unreliable, frame(0, 1));
        }
        assert!(relayed.lock().frames.len() <= 64 * 1024 / OVERHEAD);
    }
}
