//! What comes in from the socket's thread, in order and within bounds.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use bytes::Bytes;
use coplay_proto::Lane;
use crossbeam_channel::{Receiver, Sender, TrySendError};
use tokio::sync::Notify;

use super::{WakerCell, lanes::Outlets};
use crate::{SocketError, SocketEvent, switchboard::Attempt};

/// The most datagrams that wait for the caller. Unreliable ones beyond are lost; reliable ones wait on the other side.
const DATAGRAMS: usize = 4096;
/// The most unreliable ones of one connection, so that a flood over one does not leave the others without room.
const SHARE: usize = 512;
/// What there is room for besides, so that datagrams never keep out the news that a peer came or went.
const NEWS: usize = 1024;

/// One thing that came in.
pub(super) enum Inward {
    Opened(Attempt, Outlets),
    /// What is for the peer goes here from now on.
    Moved(Attempt, Outlets),
    /// What is for the peer goes here and comes from here from now on, for what carried it is silent or lost.
    Mended(Attempt, Outlets),
    Received(Attempt, Lane, Bytes, Counted),
    Event(SocketEvent),
}

/// How many unreliable datagrams of one connection wait.
#[derive(Clone, Default)]
pub(super) struct Share(Arc<AtomicUsize>);

/// One of them, until it is dropped.
pub(super) struct Counted(Option<Share>);

impl Share {
    /// Counts another one, if there is room for it.
    fn take(&self) -> Option<Counted> {
        let counted = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| (waiting < SHARE).then_some(waiting + 1));
        counted.is_ok().then(|| Counted(Some(self.clone())))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(share) = &self.0 {
            share.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The socket thread's end.
#[derive(Clone)]
pub(super) struct Inbox {
    queue: Sender<Inward>,
    room: Arc<Room>,
    waker: WakerCell,
}

/// The caller's end.
pub(super) struct Events {
    queue: Receiver<Inward>,
    room: Arc<Room>,
}

/// How those who wait for room learn of it.
#[derive(Default)]
struct Room {
    wanted: AtomicBool,
    made: Notify,
}

impl Inbox {
    pub(super) fn new(waker: WakerCell) -> (Self, Events) {
        let (sender, receiver) = crossbeam_channel::bounded(DATAGRAMS + NEWS);
        let room = Arc::new(Room::default());
        (Self { queue: sender, room: room.clone(), waker }, Events { queue: receiver, room })
    }

    /// Hands a datagram over. Waits for room if it is a reliable one.
    pub(super) async fn datagram(&self, attempt: Attempt, lane: Lane, bytes: Bytes, share: &Share) {
        let counted = match lane {
            Lane::Reliable => Some(Counted(None)),
            Lane::Unreliable if self.queue.len() < DATAGRAMS => share.take(),
            Lane::Unreliable => None,
        };
        if let Some(counted) = counted {
            self.push(Inward::Received(attempt, lane, bytes, counted), DATAGRAMS).await;
        }
    }

    /// The same without waiting: a reliable one that there is no room for is given back.
    pub(super) fn offer(&self, attempt: Attempt, lane: Lane, bytes: Bytes, share: &Share) -> Result<(), Bytes> {
        if self.is_full() {
            return if lane == Lane::Reliable { Err(bytes) } else { Ok(()) };
        }
        let counted = match lane {
            Lane::Reliable => Some(Counted(None)),
            Lane::Unreliable => share.take(),
        };
        let Some(counted) = counted else { return Ok(()) };
        match self.queue.try_send(Inward::Received(attempt, lane, bytes, counted)) {
            Ok(()) => self.waker.wake(),
            Err(TrySendError::Full(Inward::Received(_, Lane::Reliable, bytes, _))) => return Err(bytes),
            // One that may be lost, or the caller is gone.
            Err(_) => {}
        }
        Ok(())
    }

    /// Waits until [`Self::offer`] has room.
    pub(super) async fn room(&self) {
        self.wait(DATAGRAMS).await;
    }

    /// Whether another datagram would have to wait.
    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= DATAGRAMS
    }

    /// Hands anything else over. Waits for room, which there is unless the caller has stopped to poll.
    pub(super) async fn news(&self, news: Inward) {
        self.push(news, DATAGRAMS + NEWS).await;
    }

    /// The end, before there was a runtime.
    pub(super) fn fail(&self, error: SocketError) {
        let _ = self.queue.try_send(Inward::Event(SocketEvent::Failed(error)));
        self.waker.wake();
    }

    async fn push(&self, mut what: Inward, most: usize) {
        loop {
            if self.queue.len() < most {
                match self.queue.try_send(what) {
                    Ok(()) => return self.waker.wake(),
                    // The caller is gone.
                    Err(TrySendError::Disconnected(_)) => return,
                    Err(TrySendError::Full(back)) => what = back,
                }
            }
            self.wait(most).await;
        }
    }

    async fn wait(&self, most: usize) {
        let made = self.room.made.notified();
        tokio::pin!(made);
        made.as_mut().enable();
        self.room.wanted.store(true, Ordering::SeqCst);
        // The room that was made since somebody looked woke nobody.
        if self.queue.len() >= most {
            made.await;
        }
    }
}

impl Events {
    pub(super) fn next(&self) -> Option<Inward> {
        let next = self.queue.try_recv().ok();
        if next.is_some() && self.room.wanted.swap(false, Ordering::SeqCst) {
            self.room.made.notify_waiters();
        }
        next
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // Who waits for room finds the queue closed. The receiver goes after this, so it is drained here.
        while self.queue.try_recv().is_ok() {}
        self.room.made.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use coplay_proto::PeerId;

    use super::*;

    #[tokio::test]
    async fn a_flood_over_one_connection_leaves_room_for_the_others() {
        let (inbox, events) = Inbox::new(WakerCell::default());
        let attempt = |peer| Attempt { peer: PeerId::from_u128(peer), number: 0 };
        let (flood, quiet) = (Share::default(), Share::default());
        for _ in 0..2 {
            for _ in 0..2 * DATAGRAMS {
                inbox.datagram(attempt(1), Lane::Unreliable, Bytes::new(), &flood).await;
            }
            inbox.datagram(attempt(2), Lane::Unreliable, Bytes::new(), &quiet).await;
            let came: Vec<_> = std::iter::from_fn(|| events.next())
                .filter_map(|inward| match inward {
                    Inward::Received(attempt, ..) => Some(attempt.peer.as_u128()),
                    _ => None,
                })
                .collect();
            assert_eq!(came.len(), SHARE + 1, "and there is room again once it was taken");
            assert_eq!(came.last(), Some(&2));
        }
    }
}
