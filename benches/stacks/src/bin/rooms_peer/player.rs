//! What does one player do in a tick?

use std::collections::BTreeMap;

use bytes::Bytes;
use coplay_bench_stacks::program::time_of_day;
use coplay_proto::{
    NetId, PeerId, Topology,
    link::{Figures, LinkConfig, LinkEvent},
    rng::Rng,
    schema::{FieldSchema, Schema, TypeKind, TypeSchema},
    session::{Fact, Input, Output, Session, SessionConfig, TypeId},
};
use coplay_socket::{Network, NetworkEvent, RelayPolicy, SocketConfig, now};

/// Ticks a second.
pub(crate) const RATE: u16 = 30;
/// Of each entity's one component, the first eight bytes of which are when it was written: a position, a direction and a
/// speed, say.
const VALUE: usize = 16;
const COMPONENT: TypeId = TypeId(0);

pub(crate) struct Player {
    network: Network,
    session: Session,
    mine: Option<NetId>,
    /// The newest of each link.
    figures: BTreeMap<PeerId, Figures>,
    rng: Rng,
}

impl Player {
    pub(crate) fn enter(url: &str, topology: Topology, seed: u64) -> Self {
        let config = SocketConfig { relay: RelayPolicy::Never, ..SocketConfig::new(url) };
        let network = Network::start(coplay_socket::connect(config), LinkConfig::default());
        let config = SessionConfig { tick_rate: RATE, ..SessionConfig::new(topology, schema()) };
        let session = Session::new(now(), config);
        Self { network, session, mine: None, figures: BTreeMap::new(), rng: Rng::new(seed) }
    }

    /// Takes what came and sends what changed. Returns how old another player's entity is, in ms, if one is seen.
    pub(crate) fn tick(&mut self) -> Result<Option<f64>, String> {
        while let Some(event) = self.network.poll() {
            match event {
                NetworkEvent::Entered(entered) => {
                    self.handle(Input::Entered { me: entered.me, leader: entered.leader })?;
                }
                NetworkEvent::Leader(leader) => self.handle(Input::Leader(leader))?,
                NetworkEvent::Link(peer, event) => {
                    let taken = if let LinkEvent::Message(_, bytes) = &event { Some(bytes.len()) } else { None };
                    if let LinkEvent::Figures(figures) = &event {
                        self.figures.insert(peer, *figures);
                    }
                    self.handle(Input::Link(peer, event))?;
                    if let Some(bytes) = taken {
                        self.network.consumed(peer, bytes);
                    }
                }
                NetworkEvent::Failed(error) => return Err(error.to_string()),
                _ => {}
            }
        }
        if let Some(mine) = self.mine {
            let mut value = time_of_day().to_le_bytes().to_vec();
            value.extend_from_slice(&self.rng.next_u64().to_le_bytes()[..VALUE - 8]);
            self.session.write(mine, COMPONENT, value.into()).map_err(|error| error.to_string())?;
        }
        self.handle(Input::Flush)?;
        self.network.turn(now());
        Ok(self.age())
    }

    /// How many entities are there, its own included.
    pub(crate) fn sees(&self) -> usize {
        self.session.entities().count()
    }

    /// Bytes of datagrams that its links sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.figures.values().map(|figures| figures.bytes_sent).sum()
    }

    /// Bytes of datagrams that its links received so far.
    pub(crate) fn received(&self) -> u64 {
        self.figures.values().map(|figures| figures.bytes_received).sum()
    }

    fn handle(&mut self, input: Input) -> Result<(), String> {
        self.session.handle(now(), input);
        while let Some(output) = self.session.poll() {
            match output {
                Output::State(peer, bytes) => self.network.state(peer, bytes),
                Output::Message(peer, channel, bytes) => {
                    if self.network.message(peer, channel, bytes).is_err() {
                        self.session.handle(now(), Input::Overflow(peer));
                    }
                }
                Output::Disconnect(peer, _) => self.network.disconnect(peer),
                Output::Fact(Fact::Admitted(_)) => self.mine = self.session.spawn(None),
                Output::Fact(Fact::Closed(reason)) => return Err(reason.to_string()),
                Output::Fact(_) => {}
            }
        }
        Ok(())
    }

    /// How old what is seen of one of the others is, any of them.
    fn age(&mut self) -> Option<f64> {
        let others: Vec<_> = self.session.entities().filter(|entity| Some(*entity) != self.mine).collect();
        let chosen = self.rng.below(others.len().max(1) as u64);
        let value: &Bytes = self.session.value(*others.get(usize::try_from(chosen).ok()?)?, COMPONENT)?;
        value.first_chunk().map(|time| time_of_day() - f64::from_le_bytes(*time))
    }
}

fn schema() -> Schema {
    let fields = vec![FieldSchema { name: "0".to_owned(), coding: "u128".to_owned() }];
    let kind = TypeKind::Component;
    let moving = TypeSchema { name: "Moving".to_owned(), kind, optional: false, fields };
    // There is one type, which no schema refuses.
    Schema::new(vec![moving]).unwrap_or_default()
}
