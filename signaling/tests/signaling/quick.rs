//! Do those who ask for the same meet, at once, and only if they are there?

use std::time::{Duration, Instant};

use coplay_proto::{
    Topology,
    signal::{
        ClientMessage, ServerMessage, SignalError, Welcome,
        lobby::{MatchStatus, QuickMatch},
    },
};
use coplay_signaling::{Config, Limits, Occupancy, Running, Stun, Timing};

use crate::client::*;

fn duel(version: &str, size: u32) -> String {
    QuickMatch { game: "duel".into(), version: version.into(), size, topology: Topology::Host }.url("")
}

/// A peer that waits with so many.
async fn waits(server: &Running, path: &str, waiting: u32, size: u32) -> Client {
    let mut client = Client::open(server, path, true).await.unwrap();
    client.hears(ServerMessage::Waiting(MatchStatus { waiting, size })).await;
    client
}

async fn welcome(client: &mut Client) -> Box<Welcome> {
    loop {
        match client.next().await {
            ServerMessage::Welcome(welcome) => {
                client.me = welcome.me;
                return welcome;
            }
            ServerMessage::Waiting(_) => (),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn those_who_want_the_same_find_themselves_in_a_new_room() {
    let server = plain();
    let mut a = waits(&server, &duel("1", 3), 1, 3).await;
    let mut other = waits(&server, &duel("2", 3), 1, 3).await;
    let mut b = waits(&server, &duel("1", 3), 2, 3).await;
    a.hears(ServerMessage::Waiting(MatchStatus { waiting: 2, size: 3 })).await;
    a.tell(&ClientMessage::KeepAlive).await;
    until(&server, Occupancy { rooms: 0, peers: 3 }).await;
    let start = Instant::now();
    let mut c = Client::open(&server, &duel("1", 3), true).await.unwrap();
    let (first, second, third) = (welcome(&mut a).await, welcome(&mut b).await, welcome(&mut c).await);
    assert!(start.elapsed() < Duration::from_secs(1), "it took {:?}", start.elapsed());
    assert_eq!((first.members.len(), second.members.len(), third.members.len()), (1, 2, 3));
    assert_eq!(third.members, [a.me, b.me, c.me], "in the order of arrival");
    assert!(first.room.len() == 6 && first.room == third.room && third.max == Some(3));
    assert_eq!((third.topology, third.leader.peer), (Topology::Host, a.me));
    let lobby = third.lobby.unwrap();
    assert_eq!((lobby.game.as_str(), lobby.version.as_str(), lobby.public), ("duel", "1", false));
    a.hears(ServerMessage::NewPeer(b.me)).await;
    a.hears(ServerMessage::NewPeer(c.me)).await;
    a.reaches(&mut c).await;
    let (full, _) = Client::refused(&server, &format!("/{}", first.room)).await;
    assert_eq!(full, SignalError::RoomFull { max: 3 });
    // Nobody else was touched.
    other.tell(&ClientMessage::KeepAlive).await;
    let mut more = waits(&server, &duel("2", 3), 2, 3).await;
    other.hears(ServerMessage::Waiting(MatchStatus { waiting: 2, size: 3 })).await;
    more.tell(&ClientMessage::Cancel).await;
    assert_eq!(more.closed().await, Some(1000));
    other.hears(ServerMessage::Waiting(MatchStatus { waiting: 1, size: 3 })).await;
    for client in [a, b, c, other] {
        client.leave().await;
    }
    until(&server, Occupancy { rooms: 0, peers: 0 }).await;
}

#[tokio::test]
async fn who_left_or_is_silent_is_in_no_match() {
    let timing = Timing { proof: Duration::from_millis(300), ..Timing::default() };
    let server = start(Config { timing, ..Config::local().stun(Stun::Off) });
    let gone = waits(&server, &duel("1", 2), 1, 2).await;
    gone.leave().await;
    until(&server, Occupancy { rooms: 0, peers: 0 }).await;
    // This one does not read, so it does not answer a ping either.
    let mut silent = waits(&server, &duel("1", 2), 1, 2).await;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let mut a = Client::open(&server, &duel("1", 2), true).await.unwrap();
    a.hears(ServerMessage::Waiting(MatchStatus { waiting: 1, size: 2 })).await;
    assert_eq!(silent.closed().await, Some(4408), "told that it was thought dead");
    let mut b = Client::open(&server, &duel("1", 2), true).await.unwrap();
    let (first, second) = (welcome(&mut a).await, welcome(&mut b).await);
    assert_eq!((first.members.len(), second.members), (1, vec![a.me, b.me]));
}

#[tokio::test]
async fn a_peer_that_was_quiet_proves_that_it_is_there() {
    let server = plain();
    let mut quiet = waits(&server, &duel("1", 2), 1, 2).await;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let mut other = Client::open(&server, &duel("1", 2), true).await.unwrap();
    // Reading is what answers the ping.
    let (one, two) = tokio::join!(welcome(&mut quiet), welcome(&mut other));
    assert_eq!(one.room, two.room);
}

#[tokio::test]
async fn a_crowd_is_matched_and_each_is_in_one_match() {
    let server = plain();
    let crowd = (0..60).map(|_| async {
        let mut client = Client::open(&server, &duel("1", 4), true).await.unwrap();
        let welcome = welcome(&mut client).await;
        (client, welcome.room)
    });
    let mut crowd = futures_util::future::join_all(crowd).await;
    crowd.sort_by(|one, other| one.1.cmp(&other.1));
    assert!(crowd.chunks(4).all(|four| four.iter().all(|(_, room)| *room == four[0].1)));
    until(&server, Occupancy { rooms: 15, peers: 60 }).await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_a_full_server_says_so() {
    let limits = Limits { rooms: 1, ..Limits::default() };
    let server = start(Config { limits, ..Config::local().stun(Stun::Off) });
    for path in ["/-/match", "/-/match?size=1", "/-/match?size=65", "/-/match?size=2&topology=ring"] {
        assert!(matches!(Client::refused(&server, path).await, (SignalError::Malformed { .. }, 4400)), "{path}");
    }
    let mut a = waits(&server, &duel("1", 2), 1, 2).await;
    a.signal(a.me, offer("v=0")).await;
    assert!(matches!(a.dismissed().await, (SignalError::Malformed { .. }, 4400)), "there is no room yet");
    let (_r, _) = Client::coplay(&server, "/r").await;
    let mut b = waits(&server, &duel("1", 2), 1, 2).await;
    let mut c = Client::open(&server, &duel("1", 2), true).await.unwrap();
    assert_eq!(b.dismissed().await, (SignalError::ServerFull, 4503));
    assert_eq!(c.dismissed().await, (SignalError::ServerFull, 4503));
}
