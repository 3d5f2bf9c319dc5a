//! How do datagrams get into and out of a peer's two data channels?

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use coplay_proto::Lane;
use tokio::{
    sync::{
        Notify,
        mpsc::{self, error::TrySendError},
        watch,
    },
    time::{sleep, timeout},
};
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit};

use super::{
    engine::Report,
    inbox::{Inbox, Share},
};
use crate::{MAX_RELIABLE, Path, SendError, switchboard::Attempt};

/// The most datagrams a lane that wait for the socket's thread: [`SendError::Full`] beyond.
const WAITING: usize = 256;
/// The most bytes on the unreliable lane that SCTP has not released. What comes on top is lost here and now: SCTP
/// would keep it until its window opens, and a state that is a second old is worth nothing.
const UNRELIABLE_OUTSTANDING: usize = 64 * 1024;
/// The most bytes on the reliable lane that SCTP has not released; the queue before it fills up then.
pub(super) const RELIABLE_OUTSTANDING: usize = 256 * 1024;

/// How long what was sent reliably before a connection is closed may take to be acked: closing it aborts the SCTP
/// association, and whoever hears of that forgets what it has not read yet. A lone packet is acked after 200 ms.
pub(super) const FLUSHING: Duration = Duration::from_millis(400);
/// How often to look whether it is.
const FLUSH_CHECK: Duration = Duration::from_millis(5);

/// How often webrtc is woken until a channel is open: see [`Reader::next`].
const NUDGE: Duration = Duration::from_millis(10);

const LANES: [Lane; 2] = [Lane::Unreliable, Lane::Reliable];

/// The caller's end of a peer's lanes.
pub(super) struct Outlets {
    unreliable: mpsc::Sender<Bytes>,
    reliable: mpsc::Sender<Bytes>,
    traffic: Arc<Traffic>,
    /// Told of each datagram, and of the end.
    wake: Option<Arc<Notify>>,
}

/// The socket thread's end of a peer's lanes.
pub(super) struct Inlets {
    pub(super) unreliable: mpsc::Receiver<Bytes>,
    pub(super) reliable: mpsc::Receiver<Bytes>,
    pub(super) traffic: Arc<Traffic>,
}

/// What is known of a connection, for whoever asks.
#[derive(Default)]
pub(super) struct Traffic {
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
    path: Mutex<Option<Path>>,
}

impl Traffic {
    pub(super) fn set_path(&self, path: Path) {
        *self.path.lock().unwrap_or_else(PoisonError::into_inner) = Some(path);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.bytes_received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts on from where another connection to the same peer was.
    pub(super) fn go_on_from(&self, before: &Self) {
        for (here, there) in [(&self.bytes_sent, &before.bytes_sent), (&self.bytes_received, &before.bytes_received)] {
            here.fetch_add(there.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

impl Outlets {
    pub(super) fn new(wake: Option<Arc<Notify>>) -> (Self, Inlets) {
        let (unreliable, unreliable_in) = mpsc::channel(WAITING);
        let (reliable, reliable_in) = mpsc::channel(WAITING);
        let traffic = Arc::new(Traffic::default());
        let inlets = Inlets { unreliable: unreliable_in, reliable: reliable_in, traffic: traffic.clone() };
        (Self { unreliable, reliable, traffic, wake }, inlets)
    }

    pub(super) fn send(&self, lane: Lane, bytes: Bytes) -> Result<(), SendError> {
        let queue = match lane {
            Lane::Unreliable => &self.unreliable,
            Lane::Reliable => &self.reliable,
        };
        let length = bytes.len() as u64;
        queue.try_send(bytes).map_err(|error| match error {
            TrySendError::Full(_) => SendError::Full,
            TrySendError::Closed(_) => SendError::UnknownPeer,
        })?;
        self.traffic.bytes_sent.fetch_add(length, Ordering::Relaxed);
        if let Some(wake) = &self.wake {
            wake.notify_one();
        }
        Ok(())
    }

    /// How much waits before SCTP's own buffer: at the most, for each datagram counts as a full one.
    pub(super) fn buffered(&self) -> usize {
        (self.reliable.max_capacity() - self.reliable.capacity()) * MAX_RELIABLE
    }

    pub(super) fn path(&self) -> Option<Path> {
        let mut path = self.traffic.path.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        path.bytes_sent = self.traffic.bytes_sent.load(Ordering::Relaxed);
        path.bytes_received = self.traffic.bytes_received.load(Ordering::Relaxed);
        Some(path)
    }
}

impl Drop for Outlets {
    fn drop(&mut self) {
        // What is woken is to find the senders gone.
        if let Some(wake) = &self.wake {
            let (closed, _) = mpsc::channel(1);
            (self.unreliable, self.reliable) = (closed.clone(), closed);
            wake.notify_one();
        }
    }
}

/// The data channel of a lane, by matchbox's convention: negotiated, ids from 0, label and id alike.
pub(super) fn channel(lane: Lane) -> (String, RTCDataChannelInit) {
    let id = match lane {
        Lane::Unreliable => 0,
        Lane::Reliable => 1,
    };
    let unreliable = lane == Lane::Unreliable;
    let init = RTCDataChannelInit {
        ordered: !unreliable,
        max_retransmits: unreliable.then_some(0),
        negotiated: Some(id),
        ..RTCDataChannelInit::default()
    };
    (format!("matchbox_socket_{id}"), init)
}

/// A peer's data channels, and the tasks that serve them.
pub(super) struct Lanes {
    senders: Vec<tokio::task::JoinHandle<()>>,
    readers: Vec<tokio::task::JoinHandle<()>>,
    stop: watch::Sender<bool>,
    reliable: Arc<dyn DataChannel>,
}

impl Lanes {
    /// Serves the channels, given in the order of `LANES`. Nothing is read until `admitted` says that the caller
    /// was told of the peer.
    pub(super) fn serve(
        attempt: Attempt,
        channels: [Arc<dyn DataChannel>; 2],
        inlets: Inlets,
        admitted: &watch::Receiver<bool>,
        inbox: &Inbox,
        reports: &mpsc::Sender<(Attempt, Report)>,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut senders = Vec::with_capacity(LANES.len());
        let mut readers = Vec::with_capacity(LANES.len());
        let queues = [inlets.unreliable, inlets.reliable];
        let [_, reliable] = channels.clone();
        let share = Share::default();
        for ((lane, channel), queue) in LANES.into_iter().zip(channels).zip(queues) {
            senders.push(tokio::spawn(send(lane, channel.clone(), queue, admitted.clone(), stopped.clone())));
            let reader = Reader {
                attempt,
                lane,
                channel,
                traffic: inlets.traffic.clone(),
                inbox: inbox.clone(),
                share: share.clone(),
                reports: reports.clone(),
            };
            readers.push(tokio::spawn(reader.run(admitted.clone())));
        }
        Self { senders, readers, stop, reliable }
    }

    /// Stops to read, and sends what waits to be sent, within bounds.
    pub(super) async fn stop(self) {
        for reader in &self.readers {
            reader.abort();
        }
        let _ = self.stop.send(true);
        for sender in self.senders {
            let _ = sender.await;
        }
        let _ = timeout(FLUSHING, async {
            while self.reliable.outstanding_bytes().await.is_ok_and(|bytes| bytes > 0) {
                sleep(FLUSH_CHECK).await;
            }
        })
        .await;
    }
}

async fn send(
    lane: Lane,
    channel: Arc<dyn DataChannel>,
    mut queue: mpsc::Receiver<Bytes>,
    mut admitted: watch::Receiver<bool>,
    mut stopped: watch::Receiver<bool>,
) {
    if admitted.wait_for(|&admitted| admitted).await.is_err() {
        return;
    }
    loop {
        let bytes = tokio::select! {
            biased;
            bytes = queue.recv() => bytes,
            _ = stopped.wait_for(|&stopped| stopped) => None,
        };
        let Some(bytes) = bytes else { return };
        if lane == Lane::Unreliable {
            match channel.outstanding_bytes().await {
                Ok(outstanding) if outstanding < UNRELIABLE_OUTSTANDING => {}
                Ok(_) => continue,
                Err(_) => return,
            }
        }
        let bytes = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        let sent = tokio::select! {
            biased;
            // Waits while the reliable lane is full.
            sent = channel.send(bytes) => sent,
            _ = stopped.wait_for(|&stopped| stopped) => return,
        };
        if sent.is_err() {
            return;
        }
    }
}

struct Reader {
    attempt: Attempt,
    lane: Lane,
    channel: Arc<dyn DataChannel>,
    traffic: Arc<Traffic>,
    inbox: Inbox,
    share: Share,
    reports: mpsc::Sender<(Attempt, Report)>,
}

impl Reader {
    async fn run(self, mut admitted: watch::Receiver<bool>) {
        let mut open = false;
        while let Some(event) = self.next(open).await {
            match event {
                DataChannelEvent::OnOpen => {
                    open = true;
                    let _ = self.reports.send((self.attempt, Report::LaneOpen(self.lane))).await;
                    if admitted.wait_for(|&admitted| admitted).await.is_err() {
                        return;
                    }
                }
                DataChannelEvent::OnMessage(message) => {
                    self.traffic.received(message.data.len());
                    self.inbox.datagram(self.attempt, self.lane, message.data.freeze(), &self.share).await;
                }
                DataChannelEvent::OnClose => break,
                _ => {}
            }
        }
        let _ = self.reports.send((self.attempt, Report::LaneClosed)).await;
    }

    /// webrtc 0.21 looks for events before it reads what came in, and sleeps then: that a channel is open it would
    /// notice only when some timer ends its sleep, 200 ms later. Setting a threshold has no effect but to wake it.
    async fn next(&self, open: bool) -> Option<DataChannelEvent> {
        loop {
            tokio::select! {
                event = self.channel.poll() => return event,
                () = sleep(NUDGE), if !open => {
                    let _ = self.channel.set_buffered_amount_low_threshold(0).await;
                }
            }
        }
    }
}
