//! What coplay's games get: `Network`, which runs a link where bytes arrive, its channel of events, and blobs.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use coplay_proto::{
    Channel, PeerId,
    bulk::{BulkConfig, Fact},
    link::{FIRST_RATE, LinkEvent, MAX_STATE},
};
use coplay_socket::{Network, NetworkConfig, NetworkEvent, RelayPolicy, Socket, SocketConfig, now};

use crate::{
    game::{Connection, Way},
    say,
};

/// The largest blob that is taken.
const MOST: u64 = 1 << 30;
/// Budget that is not used is kept for so many seconds, as a session does.
const BURST: f64 = 0.1;

pub(crate) struct Coplay {
    network: Network,
    peer: Option<PeerId>,
    received: VecDeque<Bytes>,
    bulk: u64,
    allowance: Allowance,
}

/// How much state may be sent now: what the path carries, by the link's figures. A session keeps to it in this way.
struct Allowance {
    /// Bytes a second.
    budget: f64,
    bytes: f64,
    at: Duration,
}

impl Coplay {
    /// Meets its peer in this room, by WebRTC alone.
    pub(crate) fn meet(room: &str) -> Self {
        let config = SocketConfig { relay: RelayPolicy::Never, ..SocketConfig::new(room) };
        Self::over(coplay_socket::connect(config))
    }

    pub(crate) fn over(socket: Box<dyn Socket>) -> Self {
        let config =
            NetworkConfig { bulk: BulkConfig { max_size: MOST, ..BulkConfig::default() }, ..NetworkConfig::default() };
        Self {
            network: Network::start(socket, config),
            peer: None,
            received: VecDeque::new(),
            bulk: 0,
            allowance: Allowance { budget: FIRST_RATE.into(), bytes: 0.0, at: now() },
        }
    }
}

impl Connection for Coplay {
    fn begin(&mut self) -> Result<bool, String> {
        while let Some(event) = self.network.poll() {
            match event {
                NetworkEvent::Link(peer, LinkEvent::Opened) => self.peer = Some(peer),
                NetworkEvent::Link(peer, LinkEvent::Message(_, bytes)) => {
                    self.network.consumed(peer, bytes.len());
                    self.received.push_back(bytes);
                }
                NetworkEvent::Link(_, LinkEvent::State(bytes)) => self.received.push_back(bytes),
                NetworkEvent::Link(_, LinkEvent::Figures(figures)) => self.allowance.budget = figures.budget.into(),
                NetworkEvent::Link(_, LinkEvent::Closed(reason)) => return Err(reason.to_string()),
                // In chunks, as one takes what is larger than memory has room for.
                NetworkEvent::Blob(peer, Fact::Offered(offer)) => self.network.accept_blob(peer, offer.number, true),
                NetworkEvent::Blob(_, Fact::Chunk { bytes, .. }) => self.bulk += bytes.len() as u64,
                NetworkEvent::Blob(_, Fact::Failed { failure, .. }) => tell(&failure),
                NetworkEvent::Failed(error) => return Err(error.to_string()),
                _ => {}
            }
        }
        Ok(self.peer.is_some())
    }

    fn receive(&mut self) -> Option<Bytes> {
        self.received.pop_front()
    }

    fn send(&mut self, bytes: Bytes, way: Way) {
        let Some(peer) = self.peer else { return };
        match way {
            Way::Once if self.allowance.take(now(), bytes.len()) => self.network.state(peer, bytes),
            Way::Once => {}
            // One that is refused counts as sent, and shows as not delivered.
            Way::Reliably => _ = self.network.message(peer, Channel::Events, bytes),
        }
    }

    fn end(&mut self) {
        self.network.turn(now());
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn bulk(&mut self, bytes: u64) {
        let Some(peer) = self.peer else { return };
        if let Err(error) = self.network.send_blob(peer, coplay_proto::bulk::Blob::from_source("level", Level(bytes))) {
            tell(&error);
        }
    }

    fn bulk_came(&self) -> u64 {
        self.bulk
    }
}

impl Allowance {
    /// Whether so many bytes may be sent: what is more than the path carries is skipped.
    fn take(&mut self, now: Duration, bytes: usize) -> bool {
        let most = (self.budget * BURST).max(2.0 * MAX_STATE as f64);
        let since = now.saturating_sub(self.at).as_secs_f64();
        (self.bytes, self.at) = ((self.bytes + since * self.budget).min(most), now);
        let may = self.bytes > 0.0;
        if may {
            self.bytes -= bytes as f64;
        }
        may
    }
}

fn tell(error: &impl std::fmt::Display) {
    say(&serde_json::json!({ "event": "failed", "reason": error.to_string() }));
}

/// So many bytes, all the same.
#[cfg(not(target_arch = "wasm32"))]
struct Level(u64);

#[cfg(not(target_arch = "wasm32"))]
impl coplay_proto::bulk::Source for Level {
    fn size(&self) -> u64 {
        self.0
    }

    fn read(&self, _: u64, most: usize) -> Result<Bytes, String> {
        Ok(vec![7; most].into())
    }
}
