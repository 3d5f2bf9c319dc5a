//! What waits to be sent to one peer, bounded in frames and in bytes: the room's end and the peer's end.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use axum::extract::ws::Utf8Bytes;
use coplay_proto::signal::SignalError;
use tokio::sync::{mpsc, oneshot};

use super::relayed::Relayed;

/// Makes the two ends of a queue for `frames` frames of `bytes` bytes together, and for `relayed` bytes of other peers.
pub(crate) fn outbox(frames: u32, bytes: u32, relayed: u32) -> (Outbox, Inbox) {
    let (sender, receiver) = mpsc::channel(frames.max(1) as usize);
    let (alive, dropped) = oneshot::channel();
    let held = Arc::new(AtomicUsize::new(0));
    let relayed = Relayed::new(relayed);
    let most = bytes as usize;
    let outbox = Outbox { frames: sender, held: held.clone(), most, cut: Some(alive), relayed: relayed.clone() };
    (outbox, Inbox { queue: Queue { unsent: None, frames: receiver, held }, cut: Cut(dropped), relayed })
}

/// The room's end. Dropping it cuts the peer off, whatever still waits.
#[derive(Debug)]
pub(crate) struct Outbox {
    frames: mpsc::Sender<Utf8Bytes>,
    held: Arc<AtomicUsize>,
    most: usize,
    cut: Option<oneshot::Sender<SignalError>>,
    pub(crate) relayed: Relayed,
}

/// More waits for a peer than may.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overflow;

impl Outbox {
    /// Puts a frame behind the others.
    pub(crate) fn push(&self, frame: Utf8Bytes) -> Result<(), Overflow> {
        let length = frame.len();
        if self.held.fetch_add(length, Relaxed) + length > self.most {
            return Err(Overflow);
        }
        match self.frames.try_send(frame) {
            // A peer that is closed leaves the room next.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Overflow),
        }
    }

    /// Cuts the peer off and has it told why, ahead of whatever still waits.
    pub(crate) fn dismiss(&mut self, why: SignalError) {
        if let Some(cut) = self.cut.take() {
            // A peer that is closed leaves the room next.
            let _ = cut.send(why);
        }
    }
}

impl Outbox {
    /// Puts a frame that one can do without behind the others, if a quarter of the queue is free, in frames and bytes:
    /// that is left to frames that one cannot do without.
    pub(crate) fn push_if_ample(&self, frame: Utf8Bytes) -> Result<(), Overflow> {
        let crowded = self.frames.capacity() <= self.frames.max_capacity() / 4
            || self.held.load(Relaxed) + frame.len() > self.most - self.most / 4;
        if crowded { Err(Overflow) } else { self.push(frame) }
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
pub(crate) struct Queue {
    unsent: Option<Utf8Bytes>,
    frames: mpsc::Receiver<Utf8Bytes>,
    held: Arc<AtomicUsize>,
}

impl Queue {
    /// The next frame; it counts as waiting until it is [`Self::written`]. Never comes once the room's end is gone.
    pub(crate) async fn next(&mut self) -> Utf8Bytes {
        if let Some(frame) = self.unsent.take() {
            return frame;
        }
        match self.frames.recv().await {
            Some(frame) => frame,
            None => std::future::pending().await,
        }
    }

    /// The last frame could not be written; it is the next one again.
    pub(crate) fn put_back(&mut self, frame: Utf8Bytes) {
        self.unsent = Some(frame);
    }

    /// A frame of this many bytes waits no more.
    pub(crate) fn written(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Relaxed);
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
