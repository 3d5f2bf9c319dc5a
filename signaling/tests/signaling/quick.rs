//! Do those who ask for the same meet, at once, and only if they are there?

use std::time::{Duration, Instant};

use coplay_proto::{
    Term, Topology,
    signal::{
        ClientMessage, Leader, ServerMessage, SignalError, Welcome,
        lobby::{Credentials, MatchStatus, QuickMatch, RoomCommand},
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

/// So many who are matched, in the order of arrival. The first, who leads, has heard of the others.
async fn matched<const N: usize>(server: &Running) -> [Client; N] {
    let size = u32::try_from(N).unwrap();
    let mut clients: Vec<Client> = Vec::new();
    for waiting in 1..size {
        clients.push(waits(server, &duel("1", size), waiting, size).await);
    }
    clients.push(Client::open(server, &duel("1", size), true).await.unwrap());
    for client in &mut clients {
        welcome(client).await;
    }
    let others: Vec<_> = clients.iter().skip(1).map(|client| client.me).collect();
    for other in others {
        clients[0].hears(ServerMessage::NewPeer(other)).await;
    }
    clients.try_into().unwrap_or_else(|_| panic!("not {N}"))
}

/// Leaves, which `host` hears.
async fn leaves(leaver: Client, host: &mut Client) {
    let gone = leaver.me;
    leaver.leave().await;
    host.hears(ServerMessage::PeerLeft(gone)).await;
}

/// Asks for the same match, and is in a room with these and itself.
async fn joins(server: &Running, size: u32, others: &[&Client]) -> Client {
    let mut client = Client::open(server, &duel("1", size), true).await.unwrap();
    let welcome = welcome(&mut client).await;
    let members: Vec<_> = others.iter().map(|client| client.me).chain([client.me]).collect();
    assert_eq!((welcome.members, welcome.max), (members, Some(size)));
    client
}

#[tokio::test]
async fn who_left_a_match_of_two_before_it_began_is_replaced_by_who_comes_next() {
    let server = plain();
    let [mut a, b] = matched(&server).await;
    leaves(b, &mut a).await;
    let mut c = joins(&server, 2, &[&a]).await;
    a.hears(ServerMessage::NewPeer(c.me)).await;
    a.reaches(&mut c).await;
    c.reaches(&mut a).await;
    // One who waits already gets a seat, too.
    let mut d = waits(&server, &duel("1", 2), 1, 2).await;
    leaves(c, &mut a).await;
    assert_eq!(welcome(&mut d).await.members, [a.me, d.me]);
    a.hears(ServerMessage::NewPeer(d.me)).await;
    until(&server, Occupancy { rooms: 1, peers: 2 }).await;
    // When all have left, nothing is left.
    leaves(d, &mut a).await;
    a.leave().await;
    until(&server, Occupancy { rooms: 0, peers: 0 }).await;
    let mut e = waits(&server, &duel("1", 2), 1, 2).await;
    let mut f = Client::open(&server, &duel("1", 2), true).await.unwrap();
    assert_eq!((welcome(&mut e).await.members.len(), welcome(&mut f).await.members), (1, vec![e.me, f.me]));
}

#[tokio::test]
async fn who_left_a_match_of_four_before_it_began_is_replaced_and_no_more_than_that() {
    let server = plain();
    let [mut a, b, mut c, d] = matched(&server).await;
    leaves(b, &mut a).await;
    leaves(d, &mut a).await;
    let e = joins(&server, 4, &[&a, &c]).await;
    a.hears(ServerMessage::NewPeer(e.me)).await;
    // The others began meanwhile.
    a.offers(&mut c).await;
    let mut f = joins(&server, 4, &[&a, &c, &e]).await;
    a.hears(ServerMessage::NewPeer(f.me)).await;
    a.reaches(&mut f).await;
    waits(&server, &duel("1", 4), 1, 4).await;
}

#[tokio::test]
async fn a_match_that_began_is_not_filled_again() {
    let server = plain();
    let [mut a, mut b] = matched(&server).await;
    a.offers(&mut b).await;
    leaves(b, &mut a).await;
    waits(&server, &duel("1", 2), 1, 2).await;
}

#[tokio::test]
async fn a_seat_is_not_kept_for_longer_than_that_while_others_play() {
    let timing = Timing { backfill: Duration::ZERO, ..Timing::default() };
    let server = start(Config { timing, ..Config::local().stun(Stun::Off) });
    let [mut a, mut b, c] = matched(&server).await;
    a.offers(&mut b).await;
    leaves(c, &mut a).await;
    waits(&server, &duel("1", 3), 1, 3).await;
}

#[tokio::test]
async fn of_two_who_come_at_once_one_gets_the_seat_and_the_other_waits() {
    let server = plain();
    for _ in 0..10 {
        let [mut a, b] = matched(&server).await;
        leaves(b, &mut a).await;
        let path = duel("1", 2);
        let (one, other) = tokio::join!(Client::open(&server, &path, true), Client::open(&server, &path, true));
        let (mut one, mut other) = (one.unwrap(), other.unwrap());
        let ServerMessage::NewPeer(newcomer) = a.next().await else { panic!("somebody comes") };
        let waiting = ServerMessage::Waiting(MatchStatus { waiting: 1, size: 2 });
        // Who came second may be the one who has the seat, if the first one's greeting is slow: ask both.
        let (first, second) = (one.next().await, other.next().await);
        let (seat, waits) = if first == waiting { (second, first) } else { (first, second) };
        assert!(matches!(&seat, ServerMessage::Welcome(welcome) if welcome.members == [a.me, newcomer]), "{seat:?}");
        assert_eq!(waits, waiting);
        // The one who waits does not come into the next round.
        for client in [a, one, other] {
            client.leave().await;
        }
        until(&server, Occupancy { rooms: 0, peers: 0 }).await;
    }
}

#[tokio::test]
async fn a_leader_who_left_before_it_began_is_succeeded_and_replaced() {
    let server = plain();
    let [a, mut b, mut c] = matched(&server).await;
    let gone = a.me;
    a.leave().await;
    let lead = ServerMessage::Leader(Leader { peer: b.me, term: Term(2) });
    for message in [ServerMessage::PeerLeft(gone), lead.clone(), ServerMessage::NewPeer(c.me)] {
        b.hears(message).await;
    }
    c.hears(ServerMessage::PeerLeft(gone)).await;
    c.hears(lead).await;
    let mut d = Client::open(&server, &duel("1", 3), true).await.unwrap();
    let welcome = welcome(&mut d).await;
    assert_eq!((&welcome.members[..], welcome.leader.peer), (&[b.me, c.me, d.me][..], b.me));
    b.hears(ServerMessage::NewPeer(d.me)).await;
    b.reaches(&mut d).await;
    b.reaches(&mut c).await;
}

#[tokio::test]
async fn a_seat_of_one_who_may_come_back_is_taken() {
    let timing = Timing { resume: Duration::from_secs(2), ..Timing::default() };
    let server = start(Config { timing, ..Config::local().stun(Stun::Off) });
    let mut a = waits(&server, &duel("1", 2), 1, 2).await;
    let credentials = Credentials { resumable: true, ..Credentials::default() };
    let mut b = Client::wait(&server, &duel("1", 2), &credentials).await;
    welcome(&mut a).await;
    welcome(&mut b).await;
    a.hears(ServerMessage::NewPeer(b.me)).await;
    let gone = b.me;
    drop(b);
    let mut c = waits(&server, &duel("1", 2), 1, 2).await;
    a.hears(ServerMessage::PeerLeft(gone)).await;
    assert_eq!(welcome(&mut c).await.members, [a.me, c.me], "it did not come back");
}

#[tokio::test]
async fn a_seat_that_is_taken_by_the_rooms_code_or_locked_is_none() {
    let server = plain();
    let mut a = waits(&server, &duel("1", 2), 1, 2).await;
    let mut b = Client::open(&server, &duel("1", 2), true).await.unwrap();
    let code = welcome(&mut a).await.room;
    welcome(&mut b).await;
    a.hears(ServerMessage::NewPeer(b.me)).await;
    leaves(b, &mut a).await;
    let (friend, _) = Client::coplay(&server, &format!("/{code}?existing=1")).await;
    a.hears(ServerMessage::NewPeer(friend.me)).await;
    let mut c = waits(&server, &duel("1", 2), 1, 2).await;
    a.tell(&ClientMessage::Room(RoomCommand::Lock(true))).await;
    assert!(matches!(a.next().await, ServerMessage::Room(_)));
    leaves(friend, &mut a).await;
    // Nothing was heard meanwhile but this.
    let mut d = Client::open(&server, &duel("1", 2), true).await.unwrap();
    assert_eq!((welcome(&mut c).await.members, welcome(&mut d).await.members), (vec![c.me], vec![c.me, d.me]));
}

#[tokio::test]
async fn whom_a_room_does_not_let_in_waits_for_another_match_and_who_is_removed_is_not_replaced() {
    let server = plain();
    let path = duel("1", 3);
    let elsewhere = async || Client::wait_from(&server, &path, &Credentials::default(), "127.0.0.2").await;
    let mut a = waits(&server, &path, 1, 3).await;
    let mut bad = elsewhere().await;
    bad.hears(ServerMessage::Waiting(MatchStatus { waiting: 2, size: 3 })).await;
    let mut b = Client::open(&server, &path, true).await.unwrap();
    for client in [&mut a, &mut bad, &mut b] {
        welcome(client).await;
    }
    a.hears(ServerMessage::NewPeer(bad.me)).await;
    a.hears(ServerMessage::NewPeer(b.me)).await;
    leaves(b, &mut a).await;
    a.tell(&ClientMessage::Room(RoomCommand::Kick(bad.me))).await;
    a.hears(ServerMessage::PeerLeft(bad.me)).await;
    // The seat of b is free, but not for this one.
    let mut bad = elsewhere().await;
    bad.hears(ServerMessage::Waiting(MatchStatus { waiting: 1, size: 3 })).await;
    let _c = joins(&server, 3, &[&a]).await;
    // There is no other.
    let mut d = waits(&server, &path, 2, 3).await;
    let mut e = Client::open(&server, &path, true).await.unwrap();
    for client in [&mut bad, &mut d] {
        welcome(client).await;
    }
    assert_eq!(welcome(&mut e).await.members, [bad.me, d.me, e.me]);
}

#[tokio::test]
async fn who_wants_a_match_of_two_is_never_the_third() {
    let server = plain();
    let mut a = waits(&server, &duel("1", 2), 1, 2).await;
    let mut b = Client::open(&server, &duel("1", 2), true).await.unwrap();
    let code = welcome(&mut a).await.room;
    welcome(&mut b).await;
    a.hears(ServerMessage::NewPeer(b.me)).await;
    a.reaches(&mut b).await;
    a.tell(&ClientMessage::Room(RoomCommand::Max(4))).await;
    assert!(matches!(a.next().await, ServerMessage::Room(_)));
    let (friend, _) = Client::coplay(&server, &format!("/{code}?existing=1")).await;
    a.hears(ServerMessage::NewPeer(friend.me)).await;
    leaves(friend, &mut a).await;
    let mut c = waits(&server, &duel("1", 2), 1, 2).await;
    let mut d = Client::open(&server, &duel("1", 2), true).await.unwrap();
    assert_eq!((welcome(&mut c).await.members, welcome(&mut d).await.members), (vec![c.me], vec![c.me, d.me]));
}
