//! What does every WebSocket do that is in no room: hear, say, keep alive, end?

use std::{sync::Arc, time::Duration};

use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use coplay_proto::signal::ServerMessage;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::{End, Rules, STUCK, Said, binary, bucket::Bucket, finish, leave, next};
use crate::{drain::Drain, peer::SILENT, wire};

/// A WebSocket with coplay's subprotocol, and what was heard on it.
#[derive(Debug)]
pub(crate) struct Line {
    socket: WebSocket,
    rules: Arc<Rules>,
    stopped: watch::Receiver<Option<Drain>>,
    began: Instant,
    heard: Instant,
    pinged: bool,
    bucket: Bucket,
}

impl Line {
    pub(crate) fn new(socket: WebSocket, rules: Arc<Rules>) -> Self {
        let (heard, stopped) = (Instant::now(), rules.stopped.subscribe());
        let bucket = Bucket::new(&rules.limits, heard);
        Self { socket, rules, stopped, began: heard, heard, pinged: false, bucket }
    }

    /// The text of the next frame, `None` if it has none. Pings who is silent. May be dropped and called again.
    pub(crate) async fn hear(&mut self) -> Result<Option<Utf8Bytes>, End> {
        let timing = self.rules.timing;
        loop {
            let silence = self.heard + if self.pinged { timing.close_after } else { timing.ping_after };
            tokio::select! {
                biased;
                (code, reason) = leave(&mut self.stopped, 0, self.began) => return Err(End::Closed(code, reason)),
                () = sleep_until(silence) => {
                    if self.pinged {
                        return Err(SILENT);
                    }
                    self.ping().await?;
                }
                message = next(&mut self.socket) => {
                    let (said, length) = message?;
                    (self.heard, self.pinged) = (Instant::now(), false);
                    if !self.bucket.take(length, self.heard) {
                        return Err(End::Refused(coplay_proto::signal::SignalError::TooMuch));
                    }
                    return match said {
                        Said::Binary(_) => Err(End::Refused(binary())),
                        said => Ok(said.text()),
                    };
                }
            }
        }
    }

    /// Whether something was heard in so short a time.
    pub(crate) fn heard_within(&self, time: Duration) -> bool {
        self.heard.elapsed() <= time
    }

    pub(crate) async fn ping(&mut self) -> Result<(), End> {
        self.pinged = true;
        self.send(Message::Ping(Bytes::new())).await
    }

    pub(crate) async fn say(&mut self, message: &ServerMessage) -> Result<(), End> {
        self.send(Message::Text(wire::say(message))).await
    }

    /// Says why it ends, and closes.
    pub(crate) async fn end(self, end: End) {
        tracing::debug!(why = end.to_string(), "is closed");
        finish(self.socket, end, true, &self.rules).await;
    }

    /// The WebSocket, to go on with it elsewhere.
    pub(crate) fn into_socket(self) -> WebSocket {
        self.socket
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        match timeout(self.rules.timing.write, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Lost),
            Err(_) => Err(STUCK),
        }
    }
}
