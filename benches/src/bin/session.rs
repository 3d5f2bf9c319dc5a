//! What does a session cost in a tick, and how much does it send? N peers of a mesh in memory, each of which changes
//! all of its entities in every tick; neither links nor sockets are part of it. One row of JSON for each N.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use coplay_proto::{
    NetId, PeerId, Term, Topology,
    link::LinkEvent,
    schema::{Delivery, FieldSchema, Schema, TypeKind, TypeSchema},
    session::{Fact, Input, Output, Session, SessionConfig, TypeId},
    signal::Leader,
};
use serde_json::json;

/// Of each peer.
const ENTITIES: usize = 50;
/// Of each entity's one component: a position and a direction, say.
const VALUE: usize = 8;
const RATE: u32 = 60;
/// Before and while it is measured.
const WARM_UP: u32 = 2 * RATE;
const TICKS: u32 = 10 * RATE;
const COMPONENT: TypeId = TypeId(0);

fn main() {
    for peers in [2, 4, 8, 16] {
        let mut mesh = Mesh::of(peers);
        for _ in 0..WARM_UP {
            mesh.tick();
        }
        let all = usize::try_from(peers).unwrap_or(0) * ENTITIES;
        assert!(mesh.sessions.values().all(|session| session.entities().count() == all), "everyone has everything");
        (mesh.bytes, mesh.spent) = (0, Duration::ZERO);
        for _ in 0..TICKS {
            mesh.tick();
        }
        let (peers, ticks) = (f64::from(peers), f64::from(TICKS));
        let row = json!({
            "peers": peers,
            "entities": all,
            "us_per_tick": round(mesh.spent.as_secs_f64() * 1e6 / ticks / peers),
            "us_per_tick_and_link": round(mesh.spent.as_secs_f64() * 1e6 / ticks / peers / (peers - 1.0)),
            "bytes_per_second_and_link": round(mesh.bytes as f64 / ticks * f64::from(RATE) / peers / (peers - 1.0)),
        });
        println!("{row}");
    }
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Sessions whose links lose nothing and take no time.
struct Mesh {
    now: Duration,
    sessions: BTreeMap<PeerId, Session>,
    entities: BTreeMap<PeerId, Vec<NetId>>,
    count: u64,
    /// Of frames, on all links.
    bytes: usize,
    /// Within sessions.
    spent: Duration,
}

impl Mesh {
    /// All have joined, and each has made its entities.
    fn of(peers: u32) -> Self {
        let ids: Vec<_> = (1..=peers).map(|number| PeerId::from_u128(u128::from(number) << 96)).collect();
        let mut config = SessionConfig::new(Topology::Mesh, schema());
        config.max_players = 64;
        // Enough for everything: what is measured is the cost of all that has changed.
        config.budget = 10_000_000;
        let session = |id: &PeerId| (*id, Session::new(Duration::ZERO, config.clone()));
        let mut mesh = Self {
            now: Duration::ZERO,
            sessions: ids.iter().map(session).collect(),
            entities: BTreeMap::new(),
            count: 0,
            bytes: 0,
            spent: Duration::ZERO,
        };
        let leader = Leader { peer: ids[0], term: Term(1) };
        for &me in &ids {
            mesh.handle([(me, Input::Entered { me, leader: Some(leader) })]);
            for &other in ids.iter().take_while(|other| **other != me) {
                let opened = |peer| Input::Link(peer, LinkEvent::Opened);
                mesh.handle([(me, opened(other)), (other, opened(me))]);
            }
            for _ in 0..RATE {
                mesh.tick();
            }
        }
        for id in ids {
            let session = mesh.sessions.get_mut(&id).expect("it was made above");
            let spawned = (0..ENTITIES).map(|_| session.spawn(None).expect("it is admitted")).collect();
            mesh.entities.insert(id, spawned);
        }
        mesh
    }

    /// Every peer changes everything that is its own, and tells the others.
    fn tick(&mut self) {
        self.now += Duration::from_secs(1) / RATE;
        self.count += 1;
        let value = self.count.to_le_bytes()[..VALUE].to_vec();
        let ids: Vec<_> = self.sessions.keys().copied().collect();
        for id in ids {
            let start = Instant::now();
            if let Some(session) = self.sessions.get_mut(&id) {
                for &entity in self.entities.get(&id).into_iter().flatten() {
                    session.write(entity, COMPONENT, value.clone().into()).expect("it is its own");
                }
            }
            self.spent += start.elapsed();
            self.handle([(id, Input::Flush)]);
        }
    }

    /// Hands inputs to sessions, and all that follows from them to the others.
    fn handle<const N: usize>(&mut self, inputs: [(PeerId, Input); N]) {
        let mut inputs = VecDeque::from(inputs);
        while let Some((me, input)) = inputs.pop_front() {
            let Some(session) = self.sessions.get_mut(&me) else { continue };
            let start = Instant::now();
            session.handle(self.now, input);
            let outputs: Vec<_> = std::iter::from_fn(|| session.poll()).collect();
            self.spent += start.elapsed();
            for output in outputs {
                match output {
                    Output::State(to, bytes) => {
                        self.bytes += bytes.len();
                        inputs.push_back((to, Input::Link(me, LinkEvent::State(bytes))));
                    }
                    Output::Message(to, channel, bytes) => {
                        inputs.push_back((to, Input::Link(me, LinkEvent::Message(channel, bytes))));
                    }
                    Output::Disconnect(other, reason) => panic!("{me} disconnects {other}: {reason}"),
                    Output::Fact(Fact::Closed(reason)) => panic!("{me} is out: {reason}"),
                    Output::Fact(_) => {}
                }
            }
        }
    }
}

fn schema() -> Schema {
    let fields = vec![FieldSchema { name: "0".to_owned(), coding: "u64".to_owned() }];
    let (kind, delivery) = (TypeKind::Component, Delivery::default());
    let moving = TypeSchema { name: "Moving".to_owned(), kind, optional: false, delivery, fields };
    Schema::new(vec![moving]).expect("there is one type")
}
