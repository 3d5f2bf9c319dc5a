//! What happens on one WebSocket, from the greeting to the closing?

use std::sync::Arc;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use coplay_proto::signal::{ServerMessage, SignalError};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, sleep_until, timeout},
};

use crate::{
    Limits, Timing,
    drain::Drain,
    metrics::Metrics,
    peer::{bucket::Bucket, outbox::Inbox},
    room::Seat,
    wire::{self, Heard, close},
};

mod bucket;
pub(crate) mod outbox;

/// The longest reason that fits into a closing frame, in bytes (RFC 6455, section 5.5).
const MAX_REASON: usize = 123;

/// What every WebSocket of a server goes by.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) limits: Limits,
    pub(crate) timing: Timing,
    /// Whether signals are passed on without a look at them.
    pub(crate) opaque: bool,
    /// Set when the server stops.
    pub(crate) stopped: watch::Sender<Option<Drain>>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Rules {
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopped.borrow().is_some()
    }
}

/// Why a WebSocket ends.
#[derive(Debug)]
enum End {
    /// The peer closed it, or it broke.
    Gone,
    /// The peer did what is not allowed.
    Refused(SignalError),
    Closed(u16, &'static str),
}

const TOO_SLOW: End = End::Closed(close::TOO_SLOW, "signaling sent more than was read");

/// Carries what the room says to the peer and the other way, until one of them ends it.
pub(crate) async fn serve(mut socket: WebSocket, seat: Seat, mut inbox: Inbox, coplay: bool, rules: Arc<Rules>) {
    let end = exchange(&mut socket, &seat, &mut inbox, &rules).await;
    tracing::debug!(peer = %seat.peer(), ?end, "a peer is gone");
    // The others hear of it now, and not when the closing is through.
    drop((seat, inbox));
    finish(socket, end, coplay, &rules).await;
}

/// Says `error` to a peer with the subprotocol that was not let in, and closes its WebSocket.
pub(crate) async fn refuse(socket: WebSocket, error: SignalError, permit: OwnedSemaphorePermit, rules: Arc<Rules>) {
    finish(socket, End::Refused(error), true, &rules).await;
    drop(permit);
}

async fn exchange(socket: &mut WebSocket, seat: &Seat, inbox: &mut Inbox, rules: &Rules) -> End {
    let Timing { ping_after, close_after, write, .. } = rules.timing;
    let mut stopped = rules.stopped.subscribe();
    let metrics = &rules.metrics;
    let mut heard = Instant::now();
    // When a handshake went on last; one is about to when somebody comes.
    let mut active = heard;
    let mut bucket = Bucket::new(&rules.limits, heard);
    let mut pinged = false;
    loop {
        let silence = heard + if pinged { close_after } else { ping_after };
        let sent = tokio::select! {
            // In this order nothing can hold up what comes before it: what is due at a time is due once, and of what
            // comes in there is only as much as the bucket holds.
            biased;
            () = inbox.cut.off() => return TOO_SLOW,
            (code, reason) = leave(&mut stopped, seat.turn(), active) => return End::Closed(code, reason),
            () = sleep_until(silence) => {
                if pinged {
                    return End::Closed(close::SILENT, "nothing was heard from the peer");
                }
                pinged = true;
                Message::Ping(Bytes::new())
            }
            message = socket.recv() => {
                let (text, length) = match message {
                    Some(Ok(Message::Text(text))) => (Some(text.clone()), text.len()),
                    Some(Ok(Message::Ping(bytes) | Message::Pong(bytes))) => (None, bytes.len()),
                    Some(Ok(Message::Binary(_))) => return End::Refused(wire::malformed("a binary frame: it is all text")),
                    Some(Err(error)) => return End::Refused(wire::malformed(error)),
                    Some(Ok(Message::Close(_))) | None => return End::Gone,
                };
                (heard, pinged) = (Instant::now(), false);
                metrics.received_frames.add(1);
                metrics.received_bytes.add(length);
                if !bucket.take(length, heard) {
                    return End::Refused(SignalError::TooMuch);
                }
                match text.map(|text| wire::read(&text, seat.peer(), rules.opaque)) {
                    Some(Ok(Heard::Signal { to, kind, frame })) => {
                        active = heard;
                        seat.signal(to, kind, frame).await;
                    }
                    Some(Ok(Heard::Report(report))) => metrics.reported(&report),
                    Some(Err(error)) => return End::Refused(error),
                    Some(Ok(Heard::KeepAlive)) | None => (),
                }
                continue;
            }
            frame = inbox.queue.next() => {
                if wire::is_of_handshake(&frame) {
                    active = Instant::now();
                }
                Message::Text(frame)
            }
        };
        let waiting = match &sent {
            Message::Text(text) => text.len(),
            _ => 0,
        };
        metrics.sent_frames.add(1);
        metrics.sent_bytes.add(waiting);
        tokio::select! {
            biased;
            () = inbox.cut.off() => return TOO_SLOW,
            sent = timeout(write, socket.send(sent)) => match sent {
                Ok(Ok(())) => inbox.queue.written(waiting),
                Ok(Err(_)) => return End::Gone,
                Err(_) => return TOO_SLOW,
            }
        }
    }
}

/// Says why, and closes as the RFC wants it (RFC 6455, section 7.1.2): a connection dropped with something unread is
/// reset, and the peer may never see the reason. All that in bounded time.
async fn finish(mut socket: WebSocket, end: End, coplay: bool, rules: &Rules) {
    match &end {
        End::Gone => (),
        End::Refused(error) => rules.metrics.refused(error),
        End::Closed(code, _) => rules.metrics.closes.add(&code.to_string(), 1),
    }
    let (code, reason, error) = match end {
        End::Gone => (None, String::new(), None),
        End::Closed(code, reason) => (Some(code), reason.to_owned(), None),
        End::Refused(error) => (Some(close::REFUSED + wire::status(&error).as_u16()), error.to_string(), Some(error)),
    };
    let farewell = async {
        if let Some(error) = error.filter(|_| coplay) {
            socket.send(Message::Text(wire::say(&ServerMessage::Error(error)))).await?;
        }
        if let Some(code) = code {
            let reason = Utf8Bytes::from(wire::cut(reason, MAX_REASON));
            socket.send(Message::Close(Some(CloseFrame { code, reason }))).await?;
        }
        while let Some(Ok(_)) = socket.recv().await {}
        Ok::<_, axum::Error>(())
    };
    let _ = timeout(rules.timing.close, farewell).await;
}

/// Comes when the server stops and it is the peer's turn to leave; how it is told.
async fn leave(stopped: &mut watch::Receiver<Option<Drain>>, turn: u16, active: Instant) -> (u16, &'static str) {
    let drain = stopped.wait_for(Option::is_some).await.ok().and_then(|drain| *drain);
    // The sender is in the rules, so it is never gone while this waits.
    let Some(drain) = drain else { return std::future::pending().await };
    sleep_until(drain.leaves(turn, active)).await;
    drain.farewell()
}
