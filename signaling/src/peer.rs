//! What happens on one WebSocket, from the greeting to the closing?

use std::{fmt, sync::Arc};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use coplay_proto::signal::{ServerMessage, SignalError};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, sleep_until, timeout},
};
use tracing::{Instrument, Span, field};

use crate::{
    Limits, Timing,
    drain::Drain,
    metrics::Metrics,
    peer::{bucket::Bucket, outbox::Inbox},
    relay::{self, Allowance, Total},
    room::{Entry, Seat},
    wire::{self, Heard, close},
};

pub(crate) mod bucket;
pub(crate) mod line;
pub(crate) mod outbox;
pub(crate) mod relayed;

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
    /// What may still be relayed, if anything is.
    pub(crate) relay: Option<Total>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Rules {
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopped.borrow().is_some()
    }
}

/// Why a WebSocket ends.
#[derive(Debug)]
pub(crate) enum End {
    /// The peer closed it.
    Gone,
    /// It broke.
    Lost,
    /// The peer did what is not allowed, or the room let it go.
    Refused(SignalError),
    Closed(u16, &'static str),
    /// As `Closed`, but the network may be to blame, and the peer may come back.
    Stalled(u16, &'static str),
    /// The peer came back by another WebSocket while this one was thought to be well.
    Recalled,
}

const TOO_SLOW: End = End::Closed(close::TOO_SLOW, "signaling sent more than was read");
const STUCK: End = End::Stalled(close::TOO_SLOW, "the peer did not read");
const RECALLED: &str = "the peer came back by another connection";
const SILENT: End = End::Stalled(close::SILENT, "nothing was heard from the peer");

impl End {
    /// Whether a peer that asked for it keeps its seat for a while.
    fn may_come_back(&self) -> bool {
        matches!(self, Self::Lost | Self::Stalled(..) | Self::Recalled)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the peer closed it"),
            Self::Lost => f.write_str("the connection broke"),
            Self::Refused(error) => write!(f, "refused: {error}"),
            Self::Closed(code, reason) | Self::Stalled(code, reason) => write!(f, "{reason} ({code})"),
            Self::Recalled => f.write_str(RECALLED),
        }
    }
}

/// Starts a task that carries what the room says to the peer and the other way, until one of them ends it. What is logged
/// meanwhile is within the span of whoever calls this, which has fields for the id and the room.
pub(crate) fn serve(mut socket: WebSocket, mut entry: Box<Entry>, coplay: bool, rules: Arc<Rules>) {
    // No function with arguments: its future would have places for two of each, and it is as long there as the peer.
    let serving = async move {
        let Some((seat, inbox, greeting)) = entry.parts() else { return };
        Span::current().record("id", field::display(seat.peer())).record("room", seat.room());
        tracing::debug!(coplay, back = greeting.is_some(), "is in a room");
        let end = exchange(&mut socket, seat, inbox, greeting, coplay, &rules).await;
        tracing::debug!(why = end.to_string(), "is closed");
        // The others hear of it now, and not when the closing is through.
        let place = match end.may_come_back() {
            // It takes its place along, so that who is away is counted.
            true => entry.lost(),
            false => entry.leave(),
        };
        // In a box, so that no room is kept for it as long as the peer is there.
        Box::pin(finish(socket, end, coplay, &rules)).await;
        drop(place);
    };
    tokio::spawn(serving.in_current_span());
}

/// Says `error` to a peer with the subprotocol that was not let in, and closes its WebSocket.
pub(crate) async fn refuse(socket: WebSocket, error: SignalError, permit: OwnedSemaphorePermit, rules: Arc<Rules>) {
    finish(socket, End::Refused(error), true, &rules).await;
    drop(permit);
}

async fn exchange(
    socket: &mut WebSocket,
    seat: &Seat,
    inbox: &mut Inbox,
    mut greeting: Option<Utf8Bytes>,
    coplay: bool,
    rules: &Rules,
) -> End {
    let Timing { ping_after, close_after, write, .. } = rules.timing;
    let mut stopped = rules.stopped.subscribe();
    let metrics = &rules.metrics;
    let mut heard = Instant::now();
    // When a handshake went on last; one is about to when somebody comes.
    let mut active = heard;
    let mut bucket = Bucket::new(&rules.limits, heard);
    let relay = rules.limits.relay.as_ref().zip(rules.relay.as_ref()).filter(|_| seat.relays());
    let mut relay = relay.map(|(limits, total)| (Allowance::new(limits, heard), total));
    let mut pinged = false;
    loop {
        let silence = heard + if pinged { close_after } else { ping_after };
        // What comes out of the queue is put back if it cannot be written, for who may come back.
        let mut queued: Option<Utf8Bytes> = None;
        let sent = tokio::select! {
            // In this order nothing can hold up what comes before it: what is due at a time is due once, and of what
            // comes in there is only as much as the bucket holds.
            biased;
            error = inbox.cut.off() => return error.map_or(TOO_SLOW, End::Refused),
            (code, reason) = leave(&mut stopped, seat.turn(), active) => return End::Closed(code, reason),
            () = seat.recalled() => return End::Recalled,
            Some(greeting) = async { greeting.take() } => Message::Text(greeting),
            () = sleep_until(silence) => {
                if pinged {
                    return SILENT;
                }
                pinged = true;
                Message::Ping(Bytes::new())
            }
            message = next(socket) => {
                let (said, length) = match message {
                    Ok(message) => message,
                    Err(end) => return end,
                };
                (heard, pinged) = (Instant::now(), false);
                metrics.received_frames.add(1);
                metrics.received_bytes.add(length);
                if let Said::Binary(frame) = said {
                    let Some((allowance, total)) = &mut relay else { return End::Refused(binary()) };
                    let Some((to, kind, frame)) = relay::read(frame, seat.peer()) else {
                        return End::Refused(wire::malformed("a binary frame that cannot be relayed"));
                    };
                    match allowance.take(length, total, heard) {
                        Ok(()) => seat.relay(to, kind, frame).await,
                        Err(why) => {
                            metrics.unrelayed(why, 1);
                            // Who sends far more than it may is as any other who does.
                            if !bucket.take(length, heard) {
                                return End::Refused(SignalError::TooMuch);
                            }
                        }
                    }
                    continue;
                }
                if !bucket.take(length, heard) {
                    return End::Refused(SignalError::TooMuch);
                }
                match said.text().map(|text| wire::read(&text, seat.peer(), rules.opaque)) {
                    Some(Ok(Heard::Signal { to, kind, frame })) => {
                        active = heard;
                        seat.signal(to, kind, frame).await;
                    }
                    Some(Ok(Heard::Report(report))) if coplay => metrics.reported(&report),
                    Some(Ok(Heard::Room(command))) if coplay => seat.command(command).await,
                    Some(Ok(Heard::Report(_) | Heard::Room(_))) => {
                        return End::Refused(wire::malformed("that is for peers with the subprotocol"));
                    }
                    Some(Err(error)) => return End::Refused(error),
                    Some(Ok(Heard::KeepAlive)) | None => (),
                }
                continue;
            }
            frame = inbox.queue.next() => {
                if wire::is_of_handshake(&frame) {
                    active = Instant::now();
                }
                queued = Some(frame.clone());
                Message::Text(frame)
            }
            frame = inbox.relayed.next() => {
                metrics.relayed_bytes.add(frame.len());
                metrics.relayed_frames.add(1);
                Message::Binary(frame)
            }
        };
        metrics.sent_frames.add(1);
        match &sent {
            Message::Text(text) => metrics.sent_bytes.add(text.len()),
            Message::Binary(bytes) => metrics.sent_bytes.add(bytes.len()),
            _ => (),
        }
        let end = tokio::select! {
            biased;
            error = inbox.cut.off() => return error.map_or(TOO_SLOW, End::Refused),
            () = seat.recalled() => Some(End::Recalled),
            sent = timeout(write, socket.send(sent)) => match sent {
                Ok(Ok(())) => None,
                Ok(Err(_)) => Some(End::Lost),
                Err(_) => Some(STUCK),
            }
        };
        match (end, queued) {
            (None, Some(frame)) => inbox.queue.written(frame.len()),
            (None, None) => (),
            (Some(end), frame) => {
                if let Some(frame) = frame {
                    inbox.queue.put_back(frame);
                }
                return end;
            }
        }
    }
}

/// What a frame of a peer has in it.
enum Said {
    Text(Utf8Bytes),
    Binary(Bytes),
    Nothing,
}

impl Said {
    fn text(self) -> Option<Utf8Bytes> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) | Self::Nothing => None,
        }
    }
}

fn binary() -> SignalError {
    wire::malformed("a binary frame: it is all text")
}

/// The next frame, and its length. May be dropped and called again.
async fn next(socket: &mut WebSocket) -> Result<(Said, usize), End> {
    match socket.recv().await {
        Some(Ok(Message::Text(text))) => {
            let length = text.len();
            Ok((Said::Text(text), length))
        }
        Some(Ok(Message::Ping(bytes) | Message::Pong(bytes))) => Ok((Said::Nothing, bytes.len())),
        Some(Ok(Message::Binary(bytes))) => {
            let length = bytes.len();
            Ok((Said::Binary(bytes), length))
        }
        // A connection that broke takes nothing any more; one on which nonsense came does.
        Some(Err(error)) => match socket.send(Message::Pong(Bytes::new())).await {
            Ok(()) => Err(End::Refused(wire::malformed(error))),
            Err(_) => Err(End::Lost),
        },
        Some(Ok(Message::Close(_))) | None => Err(End::Gone),
    }
}

/// Says why, and closes as the RFC wants it (RFC 6455, section 7.1.2): a connection dropped with something unread is
/// reset, and the peer may never see the reason. All that in bounded time.
async fn finish(mut socket: WebSocket, end: End, coplay: bool, rules: &Rules) {
    match &end {
        End::Gone | End::Lost => (),
        End::Recalled => rules.metrics.closes.add(&close::NORMAL.to_string(), 1),
        End::Refused(error) => rules.metrics.refused(error),
        End::Closed(code, _) | End::Stalled(code, _) => rules.metrics.closes.add(&code.to_string(), 1),
    }
    let (code, reason, error) = match end {
        End::Gone | End::Lost => (None, String::new(), None),
        End::Recalled => (Some(close::NORMAL), RECALLED.to_owned(), None),
        End::Closed(code, reason) | End::Stalled(code, reason) => (Some(code), reason.to_owned(), None),
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
