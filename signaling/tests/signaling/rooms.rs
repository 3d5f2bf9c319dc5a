//! Who meets whom, who leads, and who is not let in?

use coplay_proto::{
    Term, Topology,
    signal::{Leader, ServerMessage, Signal, SignalError},
};
use coplay_signaling::{Config, Limits, Occupancy, Stun};

use crate::client::*;

const EMPTY: Occupancy = Occupancy { rooms: 0, peers: 0 };

#[tokio::test]
async fn peers_of_a_room_are_told_of_each_other_and_exchange_signals() {
    let server = plain();
    let mut a = Client::stock(&server, "/r").await;
    let mut b = Client::stock(&server, "/r").await;
    a.hears(ServerMessage::NewPeer(b.me)).await;
    let mut c = Client::stock(&server, "/r").await;
    a.hears(ServerMessage::NewPeer(c.me)).await;
    b.hears(ServerMessage::NewPeer(c.me)).await;

    a.reaches(&mut b).await;
    a.signal(b.me, offer("a")).await;
    b.hears(ServerMessage::Signal { sender: a.me, data: offer("a") }).await;
    b.signal(a.me, answer("b")).await;
    a.hears(ServerMessage::Signal { sender: b.me, data: answer("b") }).await;
    let candidate = Signal::IceCandidate(r#"{"candidate":"","sdpMid":null,"sdpMLineIndex":0}"#.into());
    c.signal(a.me, candidate.clone()).await;
    a.hears(ServerMessage::Signal { sender: c.me, data: candidate }).await;

    let gone = b.me;
    b.leave().await;
    a.hears(ServerMessage::PeerLeft(gone)).await;
    c.hears(ServerMessage::PeerLeft(gone)).await;
    drop(c);
    assert!(matches!(a.next().await, ServerMessage::PeerLeft(_)), "without a goodbye");
}

#[tokio::test]
async fn next_makes_groups_in_the_order_of_arrival() {
    let server = plain();
    let mut a = Client::stock(&server, "/r?next=2").await;
    let mut b = Client::stock(&server, "/r?next=2").await;
    a.hears(ServerMessage::NewPeer(b.me)).await;
    // The third waits, and the room without `next` and that of three are others.
    let mut c = Client::stock(&server, "/r?next=2").await;
    let mut other = Client::stock(&server, "/r").await;
    let mut three = Client::stock(&server, "/r?next=3").await;
    let mut d = Client::stock(&server, "/r?next=2").await;
    c.hears(ServerMessage::NewPeer(d.me)).await;
    a.reaches(&mut b).await;
    c.reaches(&mut d).await;
    // A group that was full is closed once it began: nobody takes a leaver's place.
    a.offers(&mut b).await;
    let (b_id, mut e) = (b.me, Client::stock(&server, "/r?next=2").await);
    b.leave().await;
    a.hears(ServerMessage::PeerLeft(b_id)).await;
    // A place of one who went while waiting is free again.
    let e_id = e.me;
    let mut f = Client::stock(&server, "/r?next=3").await;
    three.hears(ServerMessage::NewPeer(f.me)).await;
    e.say("\"KeepAlive\"").await;
    e.leave().await;
    until(&server, Occupancy { rooms: 3, peers: 6 }).await;
    let mut g = Client::stock(&server, "/r?next=2").await;
    let mut h = Client::stock(&server, "/r?next=2").await;
    g.hears(ServerMessage::NewPeer(h.me)).await;
    g.reaches(&mut h).await;
    assert_ne!(e_id, g.me);
    let mut i = Client::stock(&server, "/r").await;
    other.hears(ServerMessage::NewPeer(i.me)).await;
    other.reaches(&mut i).await;
    three.reaches(&mut f).await;
}

#[tokio::test]
async fn a_group_that_lost_somebody_before_the_first_offer_takes_the_next() {
    let server = plain();
    let mut a = Client::stock(&server, "/r?next=4").await;
    let mut b = Client::stock(&server, "/r?next=4").await;
    let c = Client::stock(&server, "/r?next=4").await;
    let d = Client::stock(&server, "/r?next=4").await;
    for other in [b.me, c.me, d.me] {
        a.hears(ServerMessage::NewPeer(other)).await;
    }
    for other in [c.me, d.me] {
        b.hears(ServerMessage::NewPeer(other)).await;
    }
    // The next group fills already, and is not forgotten.
    let mut e = Client::stock(&server, "/r?next=4").await;
    for gone in [c, d] {
        let id = gone.me;
        gone.leave().await;
        a.hears(ServerMessage::PeerLeft(id)).await;
        b.hears(ServerMessage::PeerLeft(id)).await;
    }
    let mut met: Vec<Client> = Vec::new();
    for _ in 0..2 {
        let mut newcomer = Client::stock(&server, "/r?next=4").await;
        a.hears(ServerMessage::NewPeer(newcomer.me)).await;
        b.hears(ServerMessage::NewPeer(newcomer.me)).await;
        if let Some(other) = met.last_mut() {
            other.hears(ServerMessage::NewPeer(newcomer.me)).await;
        }
        a.reaches(&mut newcomer).await;
        met.push(newcomer);
    }
    // It is full again, and the others come where somebody waits.
    let f = Client::stock(&server, "/r?next=4").await;
    e.hears(ServerMessage::NewPeer(f.me)).await;
    a.reaches(&mut b).await;
}

#[tokio::test]
async fn a_group_says_its_size_and_one_is_a_group() {
    let server = plain();
    let (mut a, welcome) = Client::coplay(&server, "/r?next=2").await;
    assert_eq!((welcome.room.as_str(), welcome.max), ("r", Some(2)));
    let (b, welcome) = Client::coplay(&server, "/r?next=2").await;
    assert_eq!(welcome.members, [a.me, b.me]);
    a.hears(ServerMessage::NewPeer(b.me)).await;
    let (_, welcome) = Client::coplay(&server, "/alone?next=1").await;
    assert_eq!(welcome.members.len(), 1);
    let (_, welcome) = Client::coplay(&server, "/alone?next=1").await;
    assert_eq!(welcome.members.len(), 1);
}

#[tokio::test]
async fn a_crowd_that_comes_at_once_is_matched_in_pairs() {
    let server = plain();
    let crowd = (0..40).map(|_| Client::coplay(&server, "/quick?next=2"));
    let mut alone = Vec::new();
    let mut second = Vec::new();
    for (client, welcome) in futures_util::future::join_all(crowd).await {
        match &welcome.members[..] {
            [_] => alone.push(client),
            [first, _] => second.push((client, *first)),
            more => panic!("{more:?}"),
        }
    }
    assert_eq!((alone.len(), second.len()), (20, 20));
    for first in &mut alone {
        let (partner, _) = second.iter_mut().find(|(_, with)| *with == first.me).unwrap();
        first.hears(ServerMessage::NewPeer(partner.me)).await;
        first.reaches(partner).await;
    }
}

#[tokio::test]
async fn a_welcome_says_who_is_there_and_who_leads() {
    let server = plain();
    let (mut a, welcome) = Client::coplay(&server, "/r").await;
    assert_eq!((welcome.room.as_str(), welcome.topology, welcome.max), ("r", Topology::Mesh, None));
    assert_eq!((&welcome.members[..], welcome.leader), (&[a.me][..], Leader { peer: a.me, term: Term(1) }));
    assert_eq!(welcome.ice_servers, []);
    // Both kinds of peers meet in one room, and each is told what it understands.
    let mut stock = Client::stock(&server, "/r").await;
    a.hears(ServerMessage::NewPeer(stock.me)).await;
    let (mut b, welcome) = Client::coplay(&server, "/r").await;
    assert_eq!(welcome.members, [a.me, stock.me, b.me]);
    a.hears(ServerMessage::NewPeer(b.me)).await;
    stock.hears(ServerMessage::NewPeer(b.me)).await;

    let gone = a.me;
    a.leave().await;
    b.hears(ServerMessage::PeerLeft(gone)).await;
    b.hears(ServerMessage::Leader(Leader { peer: stock.me, term: Term(2) })).await;
    stock.hears(ServerMessage::PeerLeft(gone)).await;
    b.reaches(&mut stock).await;
    let gone = stock.me;
    stock.leave().await;
    b.hears(ServerMessage::PeerLeft(gone)).await;
    b.hears(ServerMessage::Leader(Leader { peer: b.me, term: Term(3) })).await;
}

#[tokio::test]
async fn in_a_host_room_peers_meet_the_leader_alone() {
    let server = plain();
    let (mut host, welcome) = Client::coplay(&server, "/r?topology=host").await;
    assert_eq!(welcome.topology, Topology::Host);
    let (mut b, _) = Client::coplay(&server, "/r?topology=host").await;
    let mut c = Client::stock(&server, "/r").await;
    host.hears(ServerMessage::NewPeer(b.me)).await;
    host.hears(ServerMessage::NewPeer(c.me)).await;
    // What b says to c arrives nowhere; the next that c hears is the host.
    b.signal(c.me, offer("v=0")).await;
    b.reaches(&mut host).await;
    host.reaches(&mut c).await;
    host.reaches(&mut b).await;

    let gone = host.me;
    host.leave().await;
    b.hears(ServerMessage::PeerLeft(gone)).await;
    b.hears(ServerMessage::Leader(Leader { peer: b.me, term: Term(2) })).await;
    b.hears(ServerMessage::NewPeer(c.me)).await;
    c.hears(ServerMessage::PeerLeft(gone)).await;
    b.reaches(&mut c).await;
    c.reaches(&mut b).await;
    let gone = c.me;
    let (mut d, welcome) = Client::coplay(&server, "/r?topology=host").await;
    assert_eq!((&welcome.members[..], welcome.leader.peer), (&[b.me, c.me, d.me][..], b.me));
    b.hears(ServerMessage::NewPeer(d.me)).await;
    c.leave().await;
    b.hears(ServerMessage::PeerLeft(gone)).await;
    b.reaches(&mut d).await;
}

#[tokio::test]
async fn a_new_room_has_a_code_to_join_it_by() {
    let server = plain();
    let (mut a, made) = Client::coplay(&server, "/?topology=host&max=3").await;
    let (_other, another) = Client::coplay(&server, "/").await;
    assert_ne!(made.room, another.room);
    assert!(
        made.room.len() == 6 && made.room.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit()),
        "{}",
        made.room
    );

    let (b, welcome) = Client::coplay(&server, &format!("/{}?existing=1", made.room)).await;
    let host = (welcome.room.as_str(), welcome.topology, welcome.max);
    assert_eq!(host, (made.room.as_str(), Topology::Host, Some(3)));
    a.hears(ServerMessage::NewPeer(b.me)).await;
    let (c, _) = Client::coplay(&server, &format!("/{}?existing=1", made.room.to_lowercase())).await;
    a.hears(ServerMessage::NewPeer(c.me)).await;
    let refusal = Client::refused(&server, &format!("/{}?existing=1", made.room)).await;
    assert_eq!(refusal, (SignalError::RoomFull { max: 3 }, 4403));

    let refusal = Client::refused(&server, "/NOBODY?existing=1").await;
    assert_eq!(refusal, (SignalError::NoSuchRoom { code: "NOBODY".into() }, 4404));
    let (status, text) = Client::denied(&server, "/NOBODY?existing=1").await;
    assert_eq!(status, 404);
    assert!(text.contains("check the code"), "{text}");
    until(&server, Occupancy { rooms: 2, peers: 4 }).await;
}

#[tokio::test]
async fn the_first_decides_about_topology_and_size() {
    let server = plain();
    let (mut a, _) = Client::coplay(&server, "/r?topology=mesh&max=2").await;
    let differs = SignalError::TopologyDiffers { room: Topology::Mesh, asked: Topology::Host };
    assert_eq!(Client::refused(&server, "/r?topology=host").await, (differs, 4409));
    assert_eq!(Client::denied(&server, "/r?topology=host").await.0, 409);
    let (b, welcome) = Client::coplay(&server, "/r?max=9").await;
    assert_eq!(welcome.max, Some(2));
    a.hears(ServerMessage::NewPeer(b.me)).await;
    assert_eq!(Client::refused(&server, "/r").await, (SignalError::RoomFull { max: 2 }, 4403));
    assert_eq!(Client::denied(&server, "/r").await.0, 403);
    // When a place is free again, it is given again.
    let gone = b.me;
    b.leave().await;
    a.hears(ServerMessage::PeerLeft(gone)).await;
    let (b, _) = Client::coplay(&server, "/r").await;
    a.hears(ServerMessage::NewPeer(b.me)).await;
}

#[tokio::test]
async fn a_room_is_forgotten_when_nobody_is_in_it() {
    let server = plain();
    for round in 0..50 {
        let (a, welcome) = Client::coplay(&server, "/r?topology=host&max=2").await;
        assert_eq!((welcome.members.len(), welcome.leader.term), (1, Term(1)), "round {round}");
        let (b, _) = Client::coplay(&server, &format!("/other-{round}?next=3")).await;
        a.leave().await;
        b.leave().await;
        until(&server, EMPTY).await;
    }
    // Nothing of the old room is left: another topology is fine.
    let (_, welcome) = Client::coplay(&server, "/r").await;
    assert_eq!((welcome.topology, welcome.max), (Topology::Mesh, None));
}

#[tokio::test]
async fn rooms_opened_and_left_in_a_hurry_let_everyone_in() {
    let server = plain();
    // A few rooms that many enter and leave at once, so that doors close while somebody knocks.
    let visits = (0..8).map(|visitor| {
        let server = &server;
        async move {
            for visit in 0..25 {
                let (client, _) = Client::coplay(server, &format!("/{}", (visitor + visit) % 2)).await;
                drop(client);
            }
        }
    });
    futures_util::future::join_all(visits).await;
    until(&server, EMPTY).await;
}

#[tokio::test]
async fn a_full_server_says_so() {
    let limits = Limits { peers: 2, rooms: 1, ..Limits::default() };
    let server = start(Config { limits, ..Config::local().stun(Stun::Off) });
    let (mut a, _) = Client::coplay(&server, "/r").await;
    assert_eq!(Client::refused(&server, "/another-room").await, (SignalError::ServerFull, 4503));
    until(&server, Occupancy { rooms: 1, peers: 1 }).await;
    let (mut b, _) = Client::coplay(&server, "/r").await;
    a.hears(ServerMessage::NewPeer(b.me)).await;
    assert_eq!(Client::refused(&server, "/r").await, (SignalError::ServerFull, 4503));
    assert_eq!(Client::denied(&server, "/r").await.0, 503);
    a.reaches(&mut b).await;
}
