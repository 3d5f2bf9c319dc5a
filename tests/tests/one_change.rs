//! One component change, step by step, as the table in `docs/ARCHITECTURE.md` tells it: printed as it happens.
//!
//! `cargo test -p coplay_tests --test one_change -- --nocapture`
#![cfg(not(target_arch = "wasm32"))]

use std::{path::Path, time::Duration};

use bevy_coplay::{
    NetInput, NetType, Networked,
    prelude::{PeerId, Shared, TestNet, Topology},
};
use bevy_ecs::prelude::*;
use bevy_math::Vec2;
use coplay_proto::{
    Lane, Term,
    link::{self, Link, LinkConfig, LinkEvent},
    schema::Schema,
    session::{Fact, Input, Output, Session, SessionConfig, TypeId},
    signal::Leader,
};

/// The steps' modules, in the order of the table.
const STEPS: [&str; 13] = [
    "bevy_coplay::collect",
    "bevy_coplay::field",
    "coplay_proto::session::store",
    "coplay_proto::session::outbox",
    "coplay_proto::session::frame",
    "coplay_proto::link",
    "coplay_socket::network",
    "coplay_socket::network",
    "coplay_proto::link",
    "coplay_proto::session::inbox",
    "coplay_proto::session::apply",
    "bevy_coplay::apply",
    "coplay_proto::session::outbox",
];

#[derive(Component, Networked, Clone, Debug, Default, PartialEq)]
struct Pos {
    #[net(step = 0.01, range = -512.0..=512.0)]
    xy: Vec2,
}

#[derive(Component, NetInput, Clone, Debug, Default)]
struct Go(bool);

/// One peer without an engine: its session, and its link to the other.
struct Peer {
    id: PeerId,
    session: Session,
    link: Link,
    facts: Vec<Fact>,
}

impl Peer {
    fn new(id: u128, schema: &Schema, leader: PeerId) -> Self {
        let id = PeerId::from_u128(id << 96);
        let mut session = Session::new(Duration::ZERO, SessionConfig::new(Topology::Mesh, schema.clone()));
        let leader = Some(Leader { peer: leader, term: Term(1) });
        session.handle(Duration::ZERO, Input::Entered { me: id, leader });
        Self { id, session, link: Link::new(Duration::ZERO, LinkConfig::default(), 7), facts: Vec::new() }
    }

    /// Hands what the session wants to the link, and gives the datagrams and frames that came of it.
    fn drain(&mut self, now: Duration) -> (Vec<link::Output>, Vec<usize>) {
        let mut frames = Vec::new();
        while let Some(output) = self.session.poll() {
            match output {
                Output::State(_, bytes) => {
                    frames.push(bytes.len());
                    self.link.handle(now, link::Input::State(bytes)).expect("a frame fits");
                }
                Output::Message(_, channel, bytes) => {
                    self.link.handle(now, link::Input::Message(channel, bytes)).expect("there is room");
                }
                Output::Fact(fact) => self.facts.push(fact),
                Output::Disconnect(peer, reason) => panic!("{peer} is sent away: {reason}"),
            }
        }
        (core::iter::from_fn(|| self.link.poll()).collect(), frames)
    }
}

/// Passes on what both have to say until neither has anything left.
fn settle(now: Duration, peers: &mut [Peer; 2]) {
    loop {
        let mut quiet = true;
        for from in 0..2 {
            let (outputs, _) = peers[from].drain(now);
            for output in outputs {
                quiet = false;
                pass(now, peers, from, output);
            }
        }
        if quiet {
            return;
        }
    }
}

fn pass(now: Duration, peers: &mut [Peer; 2], from: usize, output: link::Output) {
    match output {
        link::Output::Transmit(lane, bytes) => {
            peers[1 - from].link.handle(now, link::Input::Received(lane, bytes)).expect("open");
        }
        link::Output::Event(event) => {
            if let LinkEvent::Message(_, bytes) = &event {
                peers[from].link.handle(now, link::Input::Consumed(bytes.len())).expect("open");
            }
            let other = peers[1 - from].id;
            peers[from].session.handle(now, Input::Link(other, event));
        }
    }
}

#[test]
fn a_change_takes_the_steps_of_the_table() {
    let table = documented_steps();
    assert_eq!(table, STEPS, "docs/ARCHITECTURE.md and this test tell different lives");
    let mut steps = STEPS.iter();
    let mut step = |what: String| println!("{:28} {what}", steps.next().expect("a step of the table"));

    // A component changes, and its fields are coded.
    let value = Pos { xy: Vec2::new(1.5, -2.25) };
    let mut net = TestNet::mesh(2, |app| {
        use bevy_coplay::prelude::AppNetExt;
        app.add_net::<(Pos, Go)>();
    });
    let entity = net.app(0).world_mut().spawn((value.clone(), Shared)).id();
    net.step(1);
    step(format!("{entity} has changed: {value:?}"));
    let (_, components) = bevy_coplay::snapshot(net.app(0).world_mut()).into_iter().next().expect("one entity");
    let bytes = components.into_iter().find(|(name, _)| name.ends_with("Pos")).expect("its Pos").1;
    step(format!("{} bytes: {bytes:02x?}", bytes.len()));

    // From here without an engine: two sessions and the link between them.
    let schema = Schema::new(vec![Pos::schema()]).expect("one type");
    let first = PeerId::from_u128(1 << 96);
    let mut peers = [Peer::new(1, &schema, first), Peer::new(2, &schema, first)];
    let mut now = Duration::from_millis(16);
    for at in 0..2 {
        let other = peers[1 - at].id;
        peers[at].session.handle(now, Input::Link(other, LinkEvent::Opened));
    }
    settle(now, &mut peers);
    let pos = TypeId(0);
    let id = peers[0].session.spawn(None).expect("admitted");
    peers[0].session.write(id, pos, bytes.clone()).expect("its own");
    step(format!("{id} has a new value"));
    now += Duration::from_millis(16);
    peers[0].session.handle(now, Input::Flush);
    step("it is due for one peer".to_owned());
    let (outputs, frames) = peers[0].drain(now);
    step(format!("{} frame of {} bytes", frames.len(), frames[0]));
    let datagrams: Vec<_> = outputs
        .into_iter()
        .filter_map(|output| match output {
            link::Output::Transmit(lane, bytes) => Some((lane, bytes)),
            link::Output::Event(_) => None,
        })
        .collect();
    let (lane, datagram) = datagrams.last().cloned().expect("a datagram");
    step(format!("in a datagram of {} bytes", datagram.len()));
    assert_eq!(lane, Lane::Unreliable);
    step(format!("goes out on the {lane:?} lane"));
    now += Duration::from_millis(30);
    step("comes in".to_owned());
    for (lane, datagram) in datagrams {
        peers[1].link.handle(now, link::Input::Received(lane, datagram)).expect("open");
    }
    let events: Vec<_> = core::iter::from_fn(|| peers[1].link.poll()).collect();
    let frame = events.iter().filter(|output| matches!(output, link::Output::Event(LinkEvent::State(_)))).count();
    step(format!("{frame} frame for the session"));
    for output in events {
        pass(now, &mut peers, 1, output);
    }
    step("its sequence is new".to_owned());
    peers[1].drain(now);
    let written = peers[1].facts.iter().find_map(|fact| match fact {
        Fact::Written { entity, component, value, .. } if *entity == id && *component == pos => Some(value.clone()),
        _ => None,
    });
    assert_eq!(written.as_ref(), Some(&bytes), "the owner may write it");
    step("by its owner, and newer: stored".to_owned());

    // And with an engine again: the value is on the other peer's entity, exactly.
    net.step(30);
    let world = net.app(1).world_mut();
    let there = world.query::<&Pos>().single(world).expect("it has arrived").clone();
    assert!((there.xy - value.xy).abs().max_element() <= 0.005, "{there:?} is within half a step of {value:?}");
    step(format!("a query sees {there:?}"));

    // The ack: the value is not sent again.
    peers[1].session.handle(now, Input::Flush);
    settle(now, &mut peers);
    now += Duration::from_millis(16);
    peers[0].session.handle(now, Input::Flush);
    let (_, frames) = peers[0].drain(now);
    assert!(frames.iter().all(|frame| *frame < bytes.len() + 20), "nothing but acks: {frames:?}");
    step("acked: nothing of it is due any more".to_owned());
}

/// The modules of the table's rows; each is a file.
fn documented_steps() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join("docs/ARCHITECTURE.md")).expect("the document");
    let rows = text.lines().filter(|line| line.split('|').nth(1).is_some_and(|cell| cell.trim().parse::<u8>().is_ok()));
    let modules: Vec<String> =
        rows.filter_map(|row| Some(row.split('|').nth(3)?.trim().trim_matches('`').to_owned())).collect();
    for module in &modules {
        let (package, path) = module.split_once("::").expect("a package and a module");
        let folder = match package {
            "bevy_coplay" => "bevy",
            "coplay_proto" => "proto",
            _ => "socket",
        };
        let file = root.join("crates").join(folder).join("src").join(format!("{}.rs", path.replace("::", "/")));
        assert!(file.is_file(), "{module} is no module: {} is missing", file.display());
    }
    modules
}
