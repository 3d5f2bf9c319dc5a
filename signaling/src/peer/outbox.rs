//! What waits to be sent to one peer, bounded in frames and in bytes: the room's end and the peer's end.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::extract::ws::Utf8Bytes;
use coplay_proto::signal::SignalError;
use tokio::sync::{Notify, oneshot};

use super::relayed::Relayed;

/// For so many frames a queue that is empty keeps its memory.
const FEW: usize = 4;

/// Makes the two ends of a queue for `frames` frames of `bytes` bytes together, and for `relayed` bytes of other peers.
pub(crate) fn outbox(frames: u32, bytes: u32, relayed: u32) -> (Outbox, Inbox) {
    let (most_frames, most_bytes) = (frames.max(1) as usize, bytes as usize);
    let frames = Arc::new(Frames { most_frames, most_bytes, waiting: Mutex::default(), news: Notify::new() });
    let (alive, dropped) = oneshot::channel();
    let relayed = Relayed::new(relayed);
    let outbox = Outbox { frames: frames.clone(), cut: Some(alive), relayed: relayed.clone() };
    (outbox, Inbox { queue: Queue(frames), cut: Cut(dropped), relayed })
}

/// What both ends have. No channel of tokio's: an empty one takes 1.5 KiB, of each peer.
#[derive(Debug)]
struct Frames {
    most_frames: usize,
    most_bytes: usize,
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Utf8Bytes>,
    /// Bytes of these, and of those that are being written.
    held: usize,
}

impl Frames {
    /// Held for a look only, never while waiting.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The room's end. Dropping it cuts the peer off, whatever still waits.
#[derive(Debug)]
pub(crate) struct Outbox {
    frames: Arc<Frames>,
    cut: Option<oneshot::Sender<SignalError>>,
    pub(crate) relayed: Relayed,
}

/// More waits for a peer than may.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overflow;

impl Outbox {
    /// Puts a frame behind the others.
    pub(crate) fn push(&self, frame: Utf8Bytes) -> Result<(), Overflow> {
        self.push_below(self.frames.most_frames, self.frames.most_bytes, frame)
    }

    /// Puts a frame that one can do without behind the others, if a quarter of the queue is free, in frames and bytes:
    /// that is left to frames that one cannot do without.
    pub(crate) fn push_if_ample(&self, frame: Utf8Bytes) -> Result<(), Overflow> {
        let Frames { most_frames, most_bytes, .. } = *self.frames;
        self.push_below(most_frames - most_frames / 4, most_bytes - most_bytes / 4, frame)
    }

    fn push_below(&self, most_frames: usize, most_bytes: usize, frame: Utf8Bytes) -> Result<(), Overflow> {
        if Arc::strong_count(&self.frames) == 1 {
            // A peer that is closed leaves the room next.
            return Ok(());
        }
        let mut waiting = self.frames.lock();
        if waiting.frames.len() >= most_frames || waiting.held + frame.len() > most_bytes {
            return Err(Overflow);
        }
        waiting.held += frame.len();
        waiting.frames.push_back(frame);
        drop(waiting);
        self.frames.news.notify_one();
        Ok(())
    }

    /// Cuts the peer off and has it told why, ahead of whatever still waits.
    pub(crate) fn dismiss(&mut self, why: SignalError) {
        if let Some(cut) = self.cut.take() {
            // A peer that is closed leaves the room next.
            let _ = cut.send(why);
        }
    }
}

/// The peer's end, in parts so that all can be waited for at once.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) queue: Queue,
    pub(crate) cut: Cut,
    pub(crate) relayed: Relayed,
}

/// What waits.
#[derive(Debug)]
pub(crate) struct Queue(Arc<Frames>);

impl Queue {
    /// The next frame; it counts as waiting until it is [`Self::written`]. Never comes once the room's end is gone and all
    /// is read. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Utf8Bytes {
        loop {
            let news = self.0.news.notified();
            if let Some(frame) = self.pop() {
                return frame;
            }
            news.await;
        }
    }

    fn pop(&self) -> Option<Utf8Bytes> {
        let mut waiting = self.0.lock();
        let frame = waiting.frames.pop_front()?;
        if waiting.frames.is_empty() && waiting.frames.capacity() > FEW {
            waiting.frames = VecDeque::new();
        }
        Some(frame)
    }

    /// The last frame could not be written; it is the next one again.
    pub(crate) fn put_back(&mut self, frame: Utf8Bytes) {
        self.0.lock().frames.push_front(frame);
    }

    /// A frame of this many bytes waits no more.
    pub(crate) fn written(&self, bytes: usize) {
        self.0.lock().held -= bytes;
    }
}

/// Whether the room let go of the peer.
#[derive(Debug)]
pub(crate) struct Cut(oneshot::Receiver<SignalError>);

impl Cut {
    /// Comes when the room drops its end; with the reason if the peer did nothing wrong here. Not to be called again then.
    pub(crate) async fn off(&mut self) -> Option<SignalError> {
        (&mut self.0).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn bytes_and_frames_are_bounded_until_they_are_written() {
        let (outbox, mut inbox) = outbox(2, 10, 0);
        assert_eq!(outbox.push("12345678".into()), Ok(()));
        assert_eq!(outbox.push("12".into()), Ok(()));
        inbox.queue.next().await;
        inbox.queue.written(8);
        assert_eq!(outbox.push("12345678".into()), Ok(()), "there is room again");
        assert_eq!(outbox.push("1".into()), Err(Overflow), "too many bytes");
        let second = inbox.queue.next().await;
        inbox.queue.put_back(second);
        assert_eq!((inbox.queue.next().await.as_str(), inbox.queue.next().await.as_str()), ("12", "12345678"));

        let (outbox, _inbox) = super::outbox(2, 10, 0);
        assert_eq!(outbox.push("1".into()), Ok(()));
        assert_eq!(outbox.push("2".into()), Ok(()));
        assert_eq!(outbox.push("3".into()), Err(Overflow), "too many frames");
    }

    #[tokio::test]
    async fn a_quarter_is_kept_for_what_matters() {
        let (outbox, mut inbox) = outbox(4, 1000, 0);
        for _ in 0..3 {
            assert_eq!(outbox.push_if_ample("1".into()), Ok(()));
        }
        assert_eq!(outbox.push_if_ample("1".into()), Err(Overflow), "a quarter of the frames is left");
        assert_eq!(outbox.push("1".into()), Ok(()));
        inbox.queue.next().await;
        inbox.queue.written(1);
        let (outbox, _inbox) = super::outbox(100, 100, 0);
        assert_eq!(outbox.push_if_ample("1".repeat(70).into()), Ok(()));
        assert_eq!(outbox.push_if_ample("123456".into()), Err(Overflow), "a quarter of the bytes is left");
        assert_eq!(outbox.push("123456".into()), Ok(()));
    }

    #[tokio::test]
    async fn a_dropped_outbox_cuts_the_peer_off() {
        let (outbox, mut inbox) = outbox(2, 10, 0);
        outbox.push("1".into()).unwrap();
        drop(outbox);
        assert_eq!(inbox.cut.off().now_or_never(), Some(None));
        let (mut outbox, mut inbox) = super::outbox(2, 10, 0);
        outbox.dismiss(SignalError::NotLeader);
        assert_eq!(inbox.cut.off().now_or_never(), Some(Some(SignalError::NotLeader)), "with a reason");
    }
}
