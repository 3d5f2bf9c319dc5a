//! What comes in from the socket's thread, in order and within bounds.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use coplay_proto::Lane;
use crossbeam_channel::{Receiver, Sender, TrySendError};
use tokio::sync::Notify;

use super::{WakerCell, lanes::Outlets};
use crate::{SocketError, SocketEvent, switchboard::Attempt};

/// The most datagrams that wait for the caller. Unreliable ones beyond are lost; reliable ones wait on the other side.
const DATAGRAMS: usize = 4096;
/// What there is room for besides, so that datagrams never keep out the news that a peer came or went.
const NEWS: usize = 1024;

/// One thing that came in.
pub(super) enum Inward {
    Opened(Attempt, Outlets),
    Received(Attempt, Lane, Bytes),
    Event(SocketEvent),
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
    pub(super) async fn datagram(&self, attempt: Attempt, lane: Lane, bytes: Bytes) {
        if lane == Lane::Reliable || self.queue.len() < DATAGRAMS {
            self.push(Inward::Received(attempt, lane, bytes), DATAGRAMS).await;
        }
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
            let made = self.room.made.notified();
            tokio::pin!(made);
            made.as_mut().enable();
            self.room.wanted.store(true, Ordering::SeqCst);
            // The room that was made since the look above woke nobody.
            if self.queue.len() >= most {
                made.await;
            }
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
