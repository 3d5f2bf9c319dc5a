//! The connection to a signaling server: a WebSocket, on tokio.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use coplay_proto::signal::{ClientMessage, ServerMessage};
use futures_util::{SinkExt, StreamExt};
use tokio::{sync::mpsc, time::timeout};
use tokio_tungstenite::tungstenite::{Message, protocol::WebSocketConfig};

use super::{WakerCell, upgrade};
use crate::{Dial, Down, Signaller, SignallerEvent, Waker};

/// The most messages that wait in either direction. Incoming ones wait in TCP beyond; outgoing ones are dropped.
const WAITING: usize = 512;
/// The most relayed frames that wait to be written, apart from messages. The switchboard sends no more than the server
/// takes, so that there are few but when the network is slower; then they are lost.
const FRAMES: usize = 64;
/// The largest message taken from a server, in bytes.
const MAX_MESSAGE: usize = 256 * 1024;
/// How long a connection may take to open.
const OPENING: Duration = Duration::from_secs(10);
/// How long it may take to close.
const CLOSING: Duration = Duration::from_millis(500);

/// See the top of the file.
pub(super) struct WebSocket {
    url: String,
    waker: WakerCell,
    line: Option<Line>,
    /// Held by each connection until it is closed.
    closing: mpsc::Sender<Infallible>,
}

/// What there is of one connection. Its task closes it once this is dropped.
struct Line {
    events: mpsc::Receiver<SignallerEvent>,
    messages: mpsc::Sender<ClientMessage>,
    frames: mpsc::Sender<Bytes>,
    /// Set before another takes its place: no goodbye is said then, for that would be the end of our seat.
    replaced: Arc<AtomicBool>,
}

impl WebSocket {
    /// For this URL. What comes with it ends when this is dropped and all connections are closed.
    pub(super) fn new(url: String) -> (Self, mpsc::Receiver<Infallible>) {
        let (closing, closed) = mpsc::channel(1);
        (Self { url, waker: WakerCell::default(), line: None, closing }, closed)
    }
}

impl Signaller for WebSocket {
    fn dial(&mut self, dial: Dial) {
        let (event, events) = mpsc::channel(WAITING);
        let (messages, outgoing) = mpsc::channel(WAITING);
        let (frames, relayed) = mpsc::channel(FRAMES);
        let told = Told { events: event, waker: self.waker.clone() };
        let url = dial.url.clone().unwrap_or_else(|| self.url.clone());
        let closing = self.closing.clone();
        let replaced = Arc::new(AtomicBool::new(false));
        let is_replaced = replaced.clone();
        tokio::spawn(async move {
            let why = talk(&url, &dial, &told, outgoing, relayed, &is_replaced).await;
            told.tell(SignallerEvent::Down(why)).await;
            drop(closing);
        });
        if let Some(line) = &self.line {
            line.replaced.store(true, Ordering::Relaxed);
        }
        self.line = Some(Line { events, messages, frames, replaced });
    }

    fn hang_up(&mut self) {
        self.line = None;
    }

    fn send(&mut self, message: ClientMessage) {
        if let Some(line) = &self.line
            && line.messages.try_send(message).is_err()
        {
            tracing::debug!("a message to signaling was dropped: it takes none now");
        }
    }

    fn relay(&mut self, frame: Bytes) {
        if let Some(line) = &self.line
            && line.frames.try_send(frame).is_err()
        {
            tracing::trace!("a relayed frame was dropped: the network takes none now");
        }
    }

    fn poll(&mut self) -> Option<SignallerEvent> {
        self.line.as_mut()?.events.try_recv().ok()
    }

    fn set_waker(&mut self, waker: Waker) {
        self.waker.set(waker.clone());
        waker();
    }
}

/// The way back from a connection's task.
struct Told {
    events: mpsc::Sender<SignallerEvent>,
    waker: WakerCell,
}

impl Told {
    async fn tell(&self, event: SignallerEvent) {
        if self.events.send(event).await.is_ok() {
            self.waker.wake();
        }
    }
}

/// Connects and passes messages on until the connection is no more; returns why.
async fn talk(
    url: &str,
    dial: &Dial,
    told: &Told,
    mut outgoing: mpsc::Receiver<ClientMessage>,
    mut relayed: mpsc::Receiver<Bytes>,
    replaced: &AtomicBool,
) -> Down {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
        // It is zero-filled, 128 KiB by default; our messages are small.
        .read_buffer_size(8 * 1024);
    let mut stream = tokio::select! {
        () = told.events.closed() => return Down::Lost("not wanted any more".into()),
        opened = timeout(OPENING, upgrade::open(url, dial, config)) => match opened {
            Ok(Ok(stream)) => stream,
            Ok(Err(why)) => return why,
            Err(_) => return Down::Lost("it does not answer".into()),
        },
    };
    told.tell(SignallerEvent::Opened).await;
    loop {
        tokio::select! {
            message = outgoing.recv() => {
                let Some(message) = message else {
                    if replaced.load(Ordering::Relaxed) {
                        return Down::Lost("another took its place".into());
                    }
                    // The last words to who is relayed to.
                    while let Ok(frame) = relayed.try_recv() {
                        if !matches!(timeout(CLOSING, stream.send(Message::Binary(frame))).await, Ok(Ok(()))) {
                            break;
                        }
                    }
                    let _ = timeout(CLOSING, stream.close(None)).await;
                    return Down::Lost("closed from here".into());
                };
                let Ok(text) = serde_json::to_string(&message) else { continue };
                if let Err(error) = stream.send(Message::text(text)).await {
                    return Down::Lost(error.to_string());
                }
            }
            Some(frame) = relayed.recv() => {
                if let Err(error) = stream.send(Message::Binary(frame)).await {
                    return Down::Lost(error.to_string());
                }
            }
            message = stream.next() => match message {
                // A pong to a ping is written by the next flush, which the next read does.
                Some(Ok(Message::Text(text))) => match serde_json::from_str::<ServerMessage>(&text) {
                    Ok(message) => told.tell(SignallerEvent::Message(message)).await,
                    Err(error) => tracing::debug!(%error, "signaling says what this version does not know"),
                },
                Some(Ok(Message::Binary(frame))) => told.tell(SignallerEvent::Relayed(frame)).await,
                Some(Ok(Message::Close(frame))) => {
                    let reason = frame.map(|frame| frame.reason.to_string()).filter(|reason| !reason.is_empty());
                    return Down::Lost(reason.unwrap_or_else(|| "the server closed the connection".into()));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Down::Lost(error.to_string()),
                None => return Down::Lost("the server closed the connection".into()),
            }
        }
    }
}
