//! Do blobs reach whom they are for, within what those take, and is everybody told how it ended?

#[path = "common/world.rs"]
mod world;

use bevy_app::prelude::*;
use bevy_coplay::{BlobFailure, BlobRefusal, BlobUnsendable, Conditions, prelude::*};
use bevy_ecs::prelude::*;
use bytes::Bytes;
use world::*;

/// What was told of blobs: a word, and the peer or the numbers.
type Told = String;

/// What was received, by name.
type Got = (String, Bytes);

fn observing(app: &mut App) {
    types(app);
    app.init_resource::<Log<Told>>().init_resource::<Log<Got>>();
    app.add_observer(|offered: On<BlobOffered>, all: Query<&BlobTransfer>, mut log: ResMut<Log<Told>>| {
        let transfer = all.get(offered.entity).expect("its entity is there");
        assert!(transfer.incoming && (transfer.peer, &transfer.name) == (offered.from, &offered.name));
        log.0.push(format!("offered {} {} {:?}", offered.name, offered.size, offered.metadata));
    })
    .add_observer(|progress: On<BlobProgress>, mut log: ResMut<Log<Told>>| {
        if progress.bytes == 0 {
            log.0.push(format!("begins {}", progress.size));
        }
    })
    .add_observer(
        |got: On<BlobReceived>, all: Query<&BlobTransfer>, mut log: ResMut<Log<Told>>, mut gots: ResMut<Log<Got>>| {
            assert!(all.contains(got.entity), "it goes after this");
            log.0.push(format!("received {} {}", got.name, got.bytes.len()));
            gots.0.push((got.name.clone(), got.bytes.clone()));
        },
    )
    .add_observer(|sent: On<BlobSent>, mut log: ResMut<Log<Told>>| log.0.push(format!("sent to {}", sent.to)))
    .add_observer(|failed: On<BlobFailed>, mut log: ResMut<Log<Told>>| {
        log.0.push(format!("failed: {}", failed.failure));
    });
}

fn with(policy: BlobPolicy) -> impl FnMut(&mut App) + 'static {
    move |app| {
        observing(app);
        app.insert_resource(policy.clone());
    }
}

fn content(size: usize, salt: u32) -> Bytes {
    (0..size as u32).map(|at| (at.wrapping_mul(2_654_435_761).wrapping_add(salt) >> 13) as u8).collect()
}

fn send(net: &mut TestNet, from: usize, to: usize, blob: Blob) -> Entity {
    let to = me(net.app(to));
    let world = net.app(from).world_mut();
    let entity = world.commands().send_blob(to, blob).id();
    world.flush();
    entity
}

fn told(net: &mut TestNet, peer: usize) -> Vec<Told> {
    core::mem::take(&mut net.app(peer).world_mut().resource_mut::<Log<Told>>().0)
}

fn transfers(net: &mut TestNet, peer: usize) -> Vec<Entity> {
    let world = net.app(peer).world_mut();
    world.query_filtered::<Entity, With<BlobTransfer>>().iter(world).collect()
}

fn trigger<'a, E: Event<Trigger<'a>: Default>>(net: &mut TestNet, peer: usize, event: E) {
    net.app(peer).world_mut().trigger(event);
    net.app(peer).world_mut().flush();
}

#[test]
fn a_blob_arrives_and_both_are_told() {
    for mut net in
        [TestNet::mesh(3, with(BlobPolicy::accept(1 << 20))), TestNet::host(3, with(BlobPolicy::accept(1 << 20)))]
    {
        net.set_conditions(Conditions::WIFI);
        let bytes = content(600_000, 1);
        let entity = send(&mut net, 0, 2, Blob::new("level", bytes.clone()).metadata("hill"));
        assert!(net.app(0).world().get::<BlobTransfer>(entity).is_some_and(|transfer| !transfer.incoming));
        net.run_secs(4.0);
        let to = me(net.app(2));
        assert_eq!(told(&mut net, 0), ["begins 600000".to_owned(), format!("sent to {to}")]);
        assert_eq!(told(&mut net, 2), ["offered level 600000 b\"hill\"", "begins 600000", "received level 600000"]);
        assert_eq!(told(&mut net, 1).len(), 0, "it is none of its business");
        assert_eq!(logged::<Got>(net.app(2)), [("level".to_owned(), bytes)]);
        for peer in 0..3 {
            assert_eq!(transfers(&mut net, peer).len(), 0, "entities go with their blobs");
        }
        assert!(net.app(0).world().get_entity(entity).is_err());
    }
}

#[test]
fn by_default_no_blob_is_taken() {
    let mut net = TestNet::mesh(2, observing);
    send(&mut net, 0, 1, Blob::new("level", "x"));
    net.run_secs(0.5);
    assert_eq!(told(&mut net, 0), [format!("failed: {}", BlobRefusal::Unwanted)]);
    assert_eq!(told(&mut net, 1).len(), 0);
}

#[test]
fn what_is_too_large_or_too_much_in_all_is_refused() {
    let mut net = TestNet::mesh(3, with(BlobPolicy::accept(1_000_000).max_total(1_500_000)));
    send(&mut net, 0, 2, Blob::new("large", content(1_000_001, 1)));
    net.run_secs(0.5);
    assert_eq!(told(&mut net, 0), [format!("failed: {}", BlobRefusal::TooLarge { limit: 1_000_000 })]);
    assert_eq!(told(&mut net, 2).len(), 0);
    // Each alone would do.
    net.set_conditions(Conditions::WIFI);
    for from in [0, 1] {
        send(&mut net, from, 2, Blob::new("level", content(900_000, 1)));
    }
    net.run_secs(6.0);
    let mut ends: Vec<_> = [0, 1].map(|peer| told(&mut net, peer).pop().unwrap_or_default()).into();
    ends.sort();
    assert_eq!(ends, [format!("failed: {}", BlobRefusal::Busy), format!("sent to {}", me(net.app(2)))]);
    // And there is room again.
    send(&mut net, 0, 2, Blob::new("level", content(900_000, 1)));
    net.run_secs(6.0);
    assert_eq!(told(&mut net, 0).pop(), Some(format!("sent to {}", me(net.app(2)))));
}

#[test]
fn the_game_may_be_asked() {
    let mut net = TestNet::mesh(2, with(BlobPolicy::ask(1 << 20)));
    for name in ["a", "b", "c"] {
        send(&mut net, 0, 1, Blob::new(name, content(50_000, 1)));
    }
    net.run_secs(0.5);
    assert_eq!(told(&mut net, 1).len(), 3, "offered");
    let world = net.app(1).world_mut();
    let mut offers: Vec<(String, Entity)> = world
        .query::<(Entity, &BlobTransfer)>()
        .iter(world)
        .map(|(entity, blob)| (blob.name.clone(), entity))
        .collect();
    offers.sort();
    let [(_, a), (_, b), (_, c)] = offers[..] else { panic!("{offers:?}") };
    trigger(&mut net, 1, AcceptBlob::whole(a));
    trigger(&mut net, 1, RefuseBlob { entity: b });
    net.app(1).world_mut().despawn(c);
    net.run_secs(1.0);
    let mut there = told(&mut net, 1);
    there.sort();
    assert_eq!(there, ["begins 50000", "failed: it was cancelled here", "received a 50000"]);
    let mut here = told(&mut net, 0);
    here.sort();
    let refused = format!("failed: {}", BlobRefusal::Unwanted);
    assert_eq!(here, ["begins 50000".to_owned(), refused.clone(), refused, format!("sent to {}", me(net.app(1)))]);
}

#[test]
fn a_large_one_comes_in_chunks() {
    #[derive(Resource, Default)]
    struct File(Vec<u8>);
    let mut net = TestNet::mesh(2, |app| {
        observing(app);
        app.insert_resource(BlobPolicy::ask(1 << 30)).init_resource::<File>();
        app.add_observer(|offered: On<BlobOffered>, mut commands: Commands| {
            commands.trigger(AcceptBlob::stream(offered.entity));
        })
        .add_observer(|chunk: On<BlobChunk>, mut file: ResMut<File>| {
            assert_eq!(chunk.offset, file.0.len() as u64);
            file.0.extend_from_slice(&chunk.bytes);
        });
    });
    let bytes = content(5_000_000, 7);
    send(&mut net, 0, 1, Blob::new("film", bytes.clone()));
    net.run_secs(5.0);
    assert_eq!(told(&mut net, 1).pop(), Some("received film 0".to_owned()));
    assert!(net.app(1).world().resource::<File>().0 == bytes);
}

#[test]
fn either_side_cancels_and_both_are_told() {
    for (peer, by_despawn) in [(0, false), (1, false), (0, true), (1, true)] {
        let mut net = TestNet::mesh(2, with(BlobPolicy::accept(8 << 20))).with(Conditions::WIFI);
        send(&mut net, 0, 1, Blob::new("film", content(4_000_000, 1)));
        net.run_secs(1.0);
        let entity = transfers(&mut net, peer)[0];
        if by_despawn {
            net.app(peer).world_mut().despawn(entity);
        } else {
            trigger(&mut net, peer, CancelBlob { entity });
        }
        net.run_secs(0.5);
        assert_eq!(told(&mut net, 1 - peer).pop(), Some(format!("failed: {}", BlobFailure::CancelledByPeer)));
        let here = told(&mut net, peer).pop();
        assert_eq!(here.as_deref() == Some("failed: it was cancelled here"), !by_despawn, "{here:?}");
        for peer in [0, 1] {
            assert_eq!(transfers(&mut net, peer).len(), 0);
        }
    }
}

#[test]
fn to_whom_there_is_no_link_nothing_is_sent() {
    let mut net = TestNet::mesh(1, with(BlobPolicy::accept(1 << 20)));
    let nobody = PeerId::from_u128(99);
    let world = net.app(0).world_mut();
    let entity = world.commands().send_blob(nobody, Blob::new("level", "x")).id();
    world.flush();
    assert!(net.app(0).world().get::<BlobTransfer>(entity).is_some(), "there is time to observe it");
    net.step(1);
    assert_eq!(told(&mut net, 0), [format!("failed: {}", BlobUnsendable::NotConnected)]);
    assert!(net.app(0).world().get_entity(entity).is_err());
}

#[test]
fn who_comes_again_gets_the_rest() {
    let mut net = TestNet::mesh(2, with(BlobPolicy::accept(8 << 20))).with(Conditions::WIFI);
    let bytes = content(4_000_000, 1);
    send(&mut net, 0, 1, Blob::new("film", bytes.clone()));
    net.run_secs(1.5);
    trigger(&mut net, 1, LeaveRoom);
    net.run_secs(1.0);
    for peer in [0, 1] {
        assert_eq!(told(&mut net, peer).pop(), Some(format!("failed: {}", BlobFailure::Disconnected)), "peer {peer}");
    }
    net.rejoin(1);
    net.run_secs(3.0);
    assert_eq!(state(net.app(1)), RoomState::Joined);
    send(&mut net, 0, 1, Blob::new("film", bytes.clone()));
    net.run_secs(0.3);
    let begun = told(&mut net, 1);
    assert_eq!(begun.len(), 1, "it begins with more than nothing: {begun:?}");
    net.run_secs(6.0);
    assert_eq!(logged::<Got>(net.app(1)), [("film".to_owned(), bytes)]);
}

/// What one is sent as soon as it has joined may be there before it knows that the other has.
#[test]
fn what_comes_before_the_word_that_its_sender_has_joined_waits_for_it() {
    let mut net = TestNet::mesh(2, |app| {
        observing(app);
        app.insert_resource(BlobPolicy::accept(1 << 20));
        app.add_observer(|joined: On<PeerJoined>, mut commands: Commands| {
            commands.send_blob(joined.id, Blob::new("hello", "hello"));
        });
    });
    net.set_conditions(Conditions::TERRIBLE);
    net.add_late();
    net.run_secs(10.0);
    for peer in 0..3 {
        let got = logged::<Got>(net.app(peer));
        assert_eq!(got.len(), 2, "from each of the others: {got:?}");
    }
}

#[test]
fn events_and_state_go_on_beside_a_blob() {
    let mut net = TestNet::host(2, |app| {
        observing(app);
        app.insert_resource(BlobPolicy::accept(16 << 20));
        log::<Received<Say>, u32, _>(app, |say: On<Received<Say>>, mut log: ResMut<Log<u32>>| log.0.push(say.number));
    })
    .with(Conditions::WIFI);
    send(&mut net, 0, 1, Blob::new("film", content(5_000_000, 1)));
    for number in 0..240 {
        let say = Say { number, about: None, text: String::new() };
        net.app(0).world_mut().commands().net_trigger_to(Target::Others, say);
        net.step(1);
        let heard = logged::<u32>(net.app(1)).len() as u32;
        assert!(number < 30 || heard + 15 > number, "{heard} of {number} events are here");
    }
    net.run_secs(2.0);
    assert_eq!(logged::<u32>(net.app(1)), (0..240).collect::<Vec<_>>());
}
