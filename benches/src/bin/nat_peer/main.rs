//! One peer of `cargo xtask bench nat` and `bench relay`, native or in a browser: enters a room, connects with whoever is
//! there, and tells by which path, how fast, or why not. It goes on to answer the other until it is ended.
#![forbid(unsafe_code)]

use std::time::Duration;

use bytes::Bytes;
use coplay_proto::{Lane, PeerId, link::CloseReason};
use coplay_socket::{IceTransportPolicy, PathKind, RelayPolicy, Socket, SocketConfig, SocketEvent, now};
use serde_json::{Value, json};

#[cfg(not(target_arch = "wasm32"))]
#[path = "native.rs"]
mod platform;
#[cfg(target_arch = "wasm32")]
#[path = "web.rs"]
mod platform;

/// Of a message, as a small state.
const SIZE: usize = 64;
/// First byte of a message: what asks, and what answers.
const PING: u8 = 0;
const PONG: u8 = 1;
/// How long answers are waited for after the last question.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

fn main() {
    platform::run();
}

/// What the peer is told by its command line or URL.
struct Settings {
    /// `ws://HOST:PORT/ROOM`.
    room: String,
    /// Only by TURN.
    relay: bool,
    /// Only by signaling.
    websocket: bool,
    /// How many messages to send.
    pings: u32,
    /// How far apart.
    every: Duration,
}

impl Settings {
    fn read(value: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let number = |name: &str| {
            let text = value(name).ok_or_else(|| format!("{name} is missing"))?;
            text.parse::<u32>().map_err(|error| format!("{name} is {text:?}: {error}"))
        };
        let is_set = |name: &str| value(name).is_some_and(|value| value == "true");
        Ok(Self {
            room: value("room").ok_or("room is missing")?,
            relay: is_set("relay"),
            websocket: is_set("websocket"),
            pings: number("pings")?,
            every: Duration::from_millis(number("every")?.into()),
        })
    }

    fn config(&self) -> SocketConfig {
        let ice_transport_policy = if self.relay { IceTransportPolicy::Relay } else { IceTransportPolicy::All };
        let relay = if self.websocket { RelayPolicy::Only } else { RelayPolicy::Allowed };
        SocketConfig { ice_transport_policy, relay, ..SocketConfig::new(&*self.room) }
    }
}

/// The peer, whatever it runs on.
struct Peer {
    socket: Box<dyn Socket>,
    settings: Settings,
    other: Option<PeerId>,
    /// When each message was sent.
    sent: Vec<Duration>,
    due: Duration,
    round_trips: Vec<Duration>,
    told: bool,
}

impl Peer {
    fn new(socket: Box<dyn Socket>, settings: Settings) -> Self {
        Self { socket, settings, other: None, sent: Vec::new(), due: now(), round_trips: Vec::new(), told: false }
    }

    /// Does what is to be done now; to be called whenever something came, and every few milliseconds.
    fn turn(&mut self) {
        while let Some(event) = self.socket.poll(now()) {
            self.hear(event);
        }
        let Some(other) = self.other else { return };
        if now() < self.due {
            return;
        }
        if self.sent.len() < self.settings.pings as usize {
            let mut message = [0; SIZE];
            message[0] = PING;
            message[1..5].copy_from_slice(&(self.sent.len() as u32).to_le_bytes());
            self.sent.push(now());
            // What is not taken is a loss like any other.
            let _ = self.socket.send(other, Lane::Unreliable, Bytes::copy_from_slice(&message));
            let last = self.sent.len() == self.settings.pings as usize;
            self.due = now() + if last { LAST_ANSWERS } else { self.settings.every };
        } else if !self.told {
            self.told = self.tell(other);
        }
    }

    fn hear(&mut self, event: SocketEvent) {
        match event {
            SocketEvent::Entered(_) => say("entered", json!({})),
            SocketEvent::Opened(other) => {
                say("opened", json!({}));
                (self.other, self.due) = (Some(other), now());
            }
            SocketEvent::Received(other, Lane::Unreliable, bytes) if bytes.len() == SIZE => {
                let mut message: Vec<u8> = bytes.into();
                if message[0] == PING {
                    message[0] = PONG;
                    let _ = self.socket.send(other, Lane::Unreliable, message.into());
                } else if let Ok(number) = message[1..5].try_into().map(u32::from_le_bytes)
                    && let Some(sent) = self.sent.get(number as usize)
                {
                    self.round_trips.push(now().saturating_sub(*sent));
                }
            }
            SocketEvent::Closed(_, reason) => {
                let code = if let CloseReason::NoPath(cause) = &reason { Some(cause.code()) } else { None };
                say("closed", json!({ "code": code, "reason": reason.to_string() }));
                self.other = None;
            }
            SocketEvent::Failed(error) => say("failed", json!({ "reason": error.to_string() })),
            SocketEvent::Received(..)
            | SocketEvent::Leader(_)
            | SocketEvent::Room(_)
            | SocketEvent::Signaling(_)
            | SocketEvent::Mended(_) => {}
        }
    }

    /// Tells the path and the round trips, if the path is known.
    fn tell(&mut self, other: PeerId) -> bool {
        let Some(path) = self.socket.path(other) else { return false };
        let kind = match path.kind {
            PathKind::Memory | PathKind::Host => "host",
            // Both are addresses that a NAT gave, or that were hidden: who saw them first makes no difference.
            PathKind::ServerReflexive | PathKind::PeerReflexive => "srflx",
            PathKind::Relay => "relay",
            PathKind::WebSocket => "websocket",
        };
        self.round_trips.sort_unstable();
        say(
            "measured",
            json!({
                "path": kind,
                "local": path.local,
                "remote": path.remote,
                "sent": self.sent.len(),
                "answered": self.round_trips.len(),
                "rtt_ms": self.round_trips.iter().map(milliseconds).collect::<Vec<_>>(),
            }),
        );
        true
    }
}

fn milliseconds(time: &Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Says what happened, with the time of day: `nat_peer {..}`.
fn say(event: &str, mut what: Value) {
    what["event"] = event.into();
    what["at"] = platform::time_of_day().into();
    platform::print(&format!("nat_peer {what}"));
}
