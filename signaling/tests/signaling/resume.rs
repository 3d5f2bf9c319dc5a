//! Does a peer whose WebSocket broke come back to its seat, and is the seat given up if it does not?

use std::time::Duration;

use coplay_proto::{
    Term,
    signal::{
        ClientMessage, Leader, ServerMessage, SignalError, Welcome,
        lobby::{Credentials, RoomCommand},
    },
};
use coplay_signaling::{Config, Limits, Occupancy, Running, Stun, Timing};

use crate::client::*;

const HERE: &str = "127.0.0.1";

fn brief(resume: Duration) -> Running {
    let timing = Timing { resume, ..Timing::default() };
    start(Config { timing, ..Config::local().stun(Stun::Off) })
}

async fn resumable(server: &Running, path: &str) -> (Client, Box<Welcome>) {
    let credentials = Credentials { resumable: true, ..Credentials::default() };
    Client::from(server, path, &credentials, HERE).await.unwrap()
}

async fn back(server: &Running, welcome: &Welcome) -> Result<(Client, Box<Welcome>), SignalError> {
    let credentials = Credentials { resumable: true, resume: welcome.resume.clone(), ..Credentials::default() };
    Client::from(server, "/", &credentials, HERE).await
}

#[tokio::test]
async fn a_lost_peer_comes_back_as_who_it_was_and_nobody_noticed() {
    let server = plain();
    let (leader, mine) = resumable(&server, "/r").await;
    let (mut other, _) = resumable(&server, "/r").await;
    let me = leader.me;
    drop(leader);
    // What is meant for it meanwhile is kept, who came as well as what was said.
    let (mut third, welcome) = Client::coplay(&server, "/r").await;
    assert_eq!(welcome.leader, Leader { peer: me, term: Term(1) }, "it leads still");
    other.hears(ServerMessage::NewPeer(third.me)).await;
    other.signal(me, candidate()).await;

    let (mut leader, again) = back(&server, &mine).await.unwrap();
    assert_eq!((again.me, again.resumed, again.leader), (me, true, Leader { peer: me, term: Term(1) }));
    assert_eq!(again.members, [me, other.me, third.me]);
    let mut heard = Vec::new();
    while heard.last() != Some(&ServerMessage::Signal { sender: other.me, data: candidate() }) {
        heard.push(leader.next().await);
    }
    assert!(heard.contains(&ServerMessage::NewPeer(third.me)), "{heard:?}");
    leader.reaches(&mut other).await;
    third.reaches(&mut leader).await;
    leader.tell(&ClientMessage::Room(RoomCommand::Lock(true))).await;
    assert!(matches!(leader.next().await, ServerMessage::Room(_)), "it may command");
    assert!(matches!(other.next().await, ServerMessage::Room(_)), "and this is all that the others heard");
    // A token is good for more than once.
    drop(leader);
    let (leader, _) = back(&server, &again).await.unwrap();
    for client in [leader, other, third] {
        client.leave().await;
    }
    until(&server, Occupancy { rooms: 0, peers: 0 }).await;
}

#[tokio::test]
async fn who_was_matched_comes_back_to_its_seat_and_not_to_the_queue() {
    let server = plain();
    let credentials = Credentials { resumable: true, ..Credentials::default() };
    let wanted = "/-/match?size=2";
    let mut one = Client::wait(&server, wanted, &credentials).await;
    let mut two = Client::wait(&server, wanted, &credentials).await;
    let welcome = async |client: &mut Client| loop {
        if let ServerMessage::Welcome(welcome) = client.next().await {
            client.me = welcome.me;
            return welcome;
        }
    };
    let mine = welcome(&mut one).await;
    welcome(&mut two).await;
    drop(one);
    // By the URL that it has.
    let credentials = Credentials { resume: mine.resume.clone(), ..credentials };
    let (mut one, again) = Client::from(&server, wanted, &credentials, HERE).await.unwrap();
    assert!(again.resumed && again.me == mine.me && again.room == mine.room);
    two.reaches(&mut one).await;
}

#[tokio::test]
async fn who_comes_back_before_the_loss_was_noticed_takes_its_seat_over() {
    let server = plain();
    let (mut old, mine) = resumable(&server, "/r").await;
    let (mut other, _) = Client::coplay(&server, "/r").await;
    old.hears(ServerMessage::NewPeer(other.me)).await;
    let (mut new, again) = back(&server, &mine).await.unwrap();
    assert!(again.resumed && again.me == old.me);
    assert_eq!(old.closed().await, Some(1000));
    other.reaches(&mut new).await;
    new.reaches(&mut other).await;
    until(&server, Occupancy { rooms: 1, peers: 2 }).await;
}

#[tokio::test]
async fn a_seat_is_kept_for_a_while_and_then_given_up() {
    let server = brief(Duration::from_millis(400));
    let (lost, mine) = resumable(&server, "/r").await;
    let (mut other, _) = Client::coplay(&server, "/r").await;
    let gone = lost.me;
    let start = std::time::Instant::now();
    drop(lost);
    other.hears(ServerMessage::PeerLeft(gone)).await;
    assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
    other.hears(ServerMessage::Leader(Leader { peer: other.me, term: Term(2) })).await;
    assert_eq!(back(&server, &mine).await.err(), Some(SignalError::SeatGone));
    let (alone, mine) = resumable(&server, "/alone").await;
    drop(alone);
    until(&server, Occupancy { rooms: 1, peers: 1 }).await;
    assert_eq!(back(&server, &mine).await.err(), Some(SignalError::SeatGone), "nor is the room there");
}

#[tokio::test]
async fn who_says_goodbye_or_did_not_ask_leaves_at_once() {
    let server = plain();
    let (polite, mine) = resumable(&server, "/r").await;
    let (mut other, _) = Client::coplay(&server, "/r").await;
    let gone = polite.me;
    polite.leave().await;
    other.hears(ServerMessage::PeerLeft(gone)).await;
    assert!(matches!(other.next().await, ServerMessage::Leader(_)));
    assert_eq!(back(&server, &mine).await.err(), Some(SignalError::SeatGone));
    let (plain, welcome) = Client::coplay(&server, "/r").await;
    assert_eq!(welcome.resume, None);
    other.hears(ServerMessage::NewPeer(plain.me)).await;
    let gone = plain.me;
    drop(plain);
    other.hears(ServerMessage::PeerLeft(gone)).await;
}

#[tokio::test]
async fn who_was_kicked_while_away_does_not_come_back() {
    let server = plain();
    let (mut leader, _) = Client::coplay(&server, "/r").await;
    let (lost, mine) = resumable(&server, "/r").await;
    let gone = lost.me;
    leader.hears(ServerMessage::NewPeer(gone)).await;
    drop(lost);
    leader.tell(&ClientMessage::Room(RoomCommand::Kick(gone))).await;
    leader.hears(ServerMessage::PeerLeft(gone)).await;
    assert_eq!(back(&server, &mine).await.err(), Some(SignalError::SeatGone));
    until(&server, Occupancy { rooms: 1, peers: 1 }).await;
}

#[tokio::test]
async fn more_than_may_wait_for_who_is_away_is_the_end_of_its_seat() {
    let limits = Limits { queue_frames: 8, ..Limits::default() };
    let server = start(Config { limits, ..Config::local().stun(Stun::Off) });
    let (mut other, _) = Client::coplay(&server, "/r").await;
    let (lost, mine) = resumable(&server, "/r").await;
    let gone = lost.me;
    other.hears(ServerMessage::NewPeer(gone)).await;
    drop(lost);
    for n in 0..12 {
        other.signal(gone, offer(n.to_string())).await;
    }
    other.hears(ServerMessage::PeerLeft(gone)).await;
    assert_eq!(back(&server, &mine).await.err(), Some(SignalError::SeatGone));
    until(&server, Occupancy { rooms: 1, peers: 1 }).await;
}

#[tokio::test]
async fn a_token_of_nobody_is_refused() {
    let server = plain();
    let (_other, welcome) = resumable(&server, "/r").await;
    let mut forged = welcome.clone();
    for token in ["x", "AAAA", &"A".repeat(300)] {
        forged.resume = Some(token.into());
        assert_eq!(back(&server, &forged).await.err(), Some(SignalError::SeatGone));
    }
    // That of another server, as after a restart.
    assert_eq!(back(&plain(), &welcome).await.err(), Some(SignalError::SeatGone));
}
