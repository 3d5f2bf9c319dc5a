//! A game that sends each peer a number more, all the time, and says what it hears: in a test's process, or in a page.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use coplay_proto::{
    Channel, PeerId,
    bulk::{Blob, BlobId, Fact},
    link::{LinkConfig, LinkEvent},
};
use coplay_socket::{BlobShelf, Network, NetworkConfig, NetworkEvent, SocketConfig, connect, now};

/// Before what it says, in the middle of what others say.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) const SAYS: &str = "life: ";
/// A frame of the game, where nothing else tells when one is due.
#[cfg(not(target_arch = "wasm32"))]
const FRAME: Duration = Duration::from_millis(5);
/// How often it sends each peer an event, and how often it tells how far it is.
const EVERY: Duration = Duration::from_millis(20);
const COUNTS: Duration = Duration::from_millis(100);

/// The game of one peer.
pub(crate) struct Game {
    config: SocketConfig,
    say: fn(&str),
    network: Network,
    shelf: BlobShelf,
    others: BTreeMap<PeerId, Other>,
    hushed: bool,
    send_at: Duration,
    count_at: Duration,
}

#[derive(Default)]
struct Other {
    open: bool,
    sent: u32,
    got: u32,
}

impl Game {
    /// In the room of these settings.
    pub(crate) fn new(config: SocketConfig, say: fn(&str)) -> Self {
        let shelf = BlobShelf::default();
        let network = Self::enter(&config, &shelf);
        let (others, time) = (BTreeMap::new(), now());
        Self { config, say, network, shelf, others, hushed: false, send_at: time, count_at: time }
    }

    fn enter(socket: &SocketConfig, shelf: &BlobShelf) -> Network {
        let config = NetworkConfig { shelf: shelf.clone(), ..LinkConfig::default().into() };
        Network::start(connect(socket.clone()), config)
    }

    /// One frame.
    pub(crate) fn turn(&mut self) {
        while let Some(event) = self.network.poll() {
            self.hear(event);
        }
        let time = now();
        if self.send_at <= time && !self.hushed {
            self.send_at = time + EVERY;
            for (peer, other) in self.others.iter_mut().filter(|(_, other)| other.open) {
                let bytes = Bytes::copy_from_slice(&other.sent.to_le_bytes());
                if self.network.message(*peer, Channel::Events, bytes).is_ok() {
                    other.sent += 1;
                }
            }
        }
        if self.count_at <= time {
            self.count_at = time + COUNTS;
            for (peer, Other { sent, got, .. }) in &self.others {
                (self.say)(&format!("count {peer} {sent} {got}"));
            }
        }
        self.network.turn(time);
    }

    /// `hush`: send no more. `blob`: send everybody a large one. `rejoin`: as after a start.
    pub(crate) fn obey(&mut self, order: &str) {
        match order {
            "hush" => self.hushed = true,
            "blob" => self.send_blobs(),
            "rejoin" => {
                self.others.clear();
                self.network = Self::enter(&self.config, &self.shelf);
            }
            order => panic!("no such order: {order}"),
        }
    }

    fn send_blobs(&mut self) {
        let content: Bytes = (0..2_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for peer in self.others.keys() {
            self.network.send_blob(*peer, Blob::new("level", content.clone())).expect("it is taken");
        }
    }

    fn hear(&mut self, event: NetworkEvent) {
        let said = match event {
            NetworkEvent::Entered(entered) => format!("entered {}", entered.me),
            NetworkEvent::Link(peer, event) => match event {
                LinkEvent::Opened => {
                    self.others.insert(peer, Other { open: true, ..Other::default() });
                    format!("opened {peer}")
                }
                LinkEvent::Message(Channel::Events, bytes) => {
                    self.network.consumed(peer, bytes.len());
                    let other = self.others.entry(peer).or_default();
                    other.got += 1;
                    if bytes[..] == (other.got - 1).to_le_bytes() {
                        return;
                    }
                    format!("broken {peer}: {bytes:?} instead of {}", other.got - 1)
                }
                LinkEvent::Unresponsive => format!("unresponsive {peer}"),
                LinkEvent::Responsive => format!("responsive {peer}"),
                LinkEvent::Closed(reason) => {
                    self.others.entry(peer).or_default().open = false;
                    format!("closed {peer} {reason}")
                }
                _ => return,
            },
            NetworkEvent::Path(peer, path) => format!("path {peer} {} {}", path.kind, path.local),
            NetworkEvent::Blob(peer, fact) => match fact {
                Fact::Offered(offer) => return self.network.accept_blob(peer, offer.number, false),
                Fact::Progress { blob: BlobId::In(_), bytes, .. } => format!("blob of {peer} at {bytes}"),
                Fact::Received { .. } => format!("blob of {peer} whole"),
                Fact::Failed { failure, .. } => format!("blob failed: {failure}"),
                _ => return,
            },
            NetworkEvent::Signaling(state) => format!("signaling {state:?}"),
            NetworkEvent::Failed(error) => format!("failed {error}"),
            NetworkEvent::Leader(_) | NetworkEvent::Room(_) => return,
        };
        (self.say)(&said);
    }
}

/// Plays in a process, which is told what to do line by line, until it is told to `leave` or its input ends.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn run(config: SocketConfig) {
    use std::sync::mpsc::{TryRecvError, channel};
    let (order, orders) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if order.send(line).is_err() {
                break;
            }
        }
    });
    let mut game = Game::new(config, say);
    loop {
        game.turn();
        match orders.try_recv().as_deref() {
            Ok("leave") => return game.network.close(Duration::from_secs(1)),
            Ok(order) => game.obey(order),
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) => {}
        }
        std::thread::sleep(FRAME);
    }
}

#[cfg(not(target_arch = "wasm32"))]
#[allow(clippy::print_stdout, reason = "so that who started it hears of it")]
pub(crate) fn say(what: &str) {
    println!("{SAYS}{what}");
}
