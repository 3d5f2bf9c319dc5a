//! Does a peer get its id again by the secret of it, also from a server that was started anew, and nobody else? And does
//! who led a room before lead it again?

use std::time::Duration;

use coplay_proto::{
    PeerId, Term,
    signal::{
        ClientMessage, Leader, ServerMessage, SignalError, Welcome,
        lobby::{Credentials, RoomCommand},
    },
};
use coplay_signaling::{Config, Occupancy, Running, Stun, Timing};

use crate::client::*;

const HERE: &str = "127.0.0.1";

/// What a peer shows that was received like this.
fn secret(welcome: &Welcome) -> Credentials {
    Credentials { secret: welcome.secret.clone(), ..Credentials::default() }
}

/// The same, and that it led.
fn led(welcome: &Welcome, term: u32) -> Credentials {
    Credentials { led: Some(Term(term)), ..secret(welcome) }
}

async fn enter(server: &Running, path: &str, credentials: &Credentials) -> (Client, Box<Welcome>) {
    Client::from(server, path, credentials, HERE).await.unwrap()
}

/// How peers were received by a server that is no more.
async fn before<const N: usize>() -> [Box<Welcome>; N] {
    let server = plain();
    let mut welcomes = Vec::new();
    for _ in 0..N {
        welcomes.push(Client::coplay(&server, "/r").await.1);
    }
    welcomes.try_into().expect("so many")
}

fn leader(peer: PeerId, term: u32) -> Leader {
    Leader { peer, term: Term(term) }
}

#[tokio::test]
async fn an_id_is_proven_to_a_server_that_was_started_anew_and_by_its_secret_alone() {
    let [one, two] = before().await;
    assert!(one.secret.is_some() && one.secret != two.secret && one.me != two.me);
    let server = plain();
    // Made up, cut short, of somebody else: as good as none.
    let mut wrong = secret(&two);
    let forged = one.secret.as_deref().map(|text| text.chars().rev().collect());
    for shown in [forged, one.secret.as_deref().map(|text| text[..20].to_owned()), Some("x".into())] {
        wrong.secret = shown;
        let (mut stranger, welcome) = enter(&server, "/r", &wrong).await;
        assert!(welcome.me != one.me && welcome.me != two.me);
        stranger.socket.close(None).await.unwrap();
        stranger.closed().await;
    }
    until(&server, Occupancy::default()).await;
    let (mut one_again, welcome) = enter(&server, "/r", &secret(&one)).await;
    assert_eq!((welcome.me, &welcome.secret, welcome.resumed), (one.me, &None, false));
    let (mut two_again, welcome) = enter(&server, "/r", &secret(&two)).await;
    assert_eq!((welcome.me, &welcome.members[..]), (two.me, &[one.me, two.me][..]));
    one_again.hears(ServerMessage::NewPeer(two.me)).await;
    one_again.reaches(&mut two_again).await;
    // Without the subprotocol there is nothing to show it by, nor is a secret told.
    let stock = Client::stock(&server, "/r").await;
    assert!(![one.me, two.me].contains(&stock.me));
}

#[tokio::test]
async fn who_is_there_loses_its_id_to_nobody_but_itself() {
    let server = plain();
    let resumable = Credentials { resumable: true, ..Credentials::default() };
    let (mut member, mine) = enter(&server, "/r", &resumable).await;
    let (mut other, theirs) = enter(&server, "/r", &Credentials::default()).await;
    member.hears(ServerMessage::NewPeer(other.me)).await;
    let (stranger, _) = enter(&server, "/r", &Credentials { secret: Some("A".repeat(22)), ..resumable }).await;
    assert!(stranger.me != member.me && stranger.me != other.me);
    for client in [&mut member, &mut other] {
        client.hears(ServerMessage::NewPeer(stranger.me)).await;
    }
    // By another WebSocket of its own it has its seat, and nobody hears of it.
    let (mut again, welcome) = enter(&server, "/r", &secret(&mine)).await;
    assert!(welcome.resumed && welcome.me == mine.me && welcome.leader == leader(mine.me, 1));
    assert_eq!(member.closed().await, Some(1000));
    other.reaches(&mut again).await;
    // One that keeps no seat comes anew, and what it had before is closed.
    let (mut other_again, welcome) = enter(&server, "/r", &secret(&theirs)).await;
    assert_eq!((welcome.me, welcome.resumed), (theirs.me, false));
    assert_eq!(other.dismissed().await, (SignalError::SeatGone, 4410));
    again.hears(ServerMessage::PeerLeft(theirs.me)).await;
    again.hears(ServerMessage::NewPeer(theirs.me)).await;
    until(&server, Occupancy { rooms: 1, peers: 3 }).await;
    // That the old one is gone is not taken for the new one's leaving.
    again.reaches(&mut other_again).await;
}

#[tokio::test]
async fn who_led_before_the_restart_leads_again_by_the_latest_term() {
    let [old, later, other, equal] = before().await;
    let server = plain();
    let (mut newcomer, welcome) = Client::coplay(&server, "/r?topology=host").await;
    assert_eq!(welcome.leader, leader(newcomer.me, 1));
    let (mut other, welcome) = enter(&server, "/r", &led(&other, 0)).await;
    assert_eq!(welcome.leader, leader(newcomer.me, 1));
    newcomer.hears(ServerMessage::NewPeer(other.me)).await;

    let (mut old, welcome) = enter(&server, "/r", &led(&old, 4)).await;
    assert_eq!((welcome.leader, welcome.members[0]), (leader(old.me, 5), old.me));
    for (client, gone) in [(&mut newcomer, other.me), (&mut other, welcome.members[1])] {
        client.hears(ServerMessage::PeerLeft(gone)).await;
        client.hears(ServerMessage::Leader(leader(old.me, 5))).await;
    }
    for client in [&mut newcomer, &mut other] {
        old.hears(ServerMessage::NewPeer(client.me)).await;
    }
    old.reaches(&mut newcomer).await;
    newcomer.reaches(&mut old).await;
    let (mut later, welcome) = enter(&server, "/r", &led(&later, 6)).await;
    assert_eq!(welcome.leader, leader(later.me, 7));
    old.hears(ServerMessage::PeerLeft(newcomer.me)).await;
    later.tell(&ClientMessage::Room(RoomCommand::Max(9))).await;
    later.hears(ServerMessage::NewPeer(old.me)).await;
    // Of the same term, or without a proof of the id: as anybody.
    for credentials in [led(&equal, 6), Credentials { secret: None, ..led(&equal, 9) }] {
        let (_, welcome) = enter(&server, "/r", &credentials).await;
        assert_eq!(welcome.leader, leader(later.me, 7));
    }
}

#[tokio::test]
async fn nobody_leads_again_once_the_server_runs_for_a_while_or_where_its_seat_was_given_up() {
    let [old] = before().await;
    let timing = Timing { reclaim: Duration::ZERO, ..Timing::default() };
    let late = start(Config { timing, ..Config::local().stun(Stun::Off) });
    let (newcomer, _) = Client::coplay(&late, "/r").await;
    let (_old, welcome) = enter(&late, "/r", &led(&old, 4)).await;
    assert_eq!((welcome.me, welcome.leader), (old.me, leader(newcomer.me, 1)), "it has its id");

    let server = start(Config {
        timing: Timing { resume: Duration::from_millis(50), ..Timing::default() },
        ..Config::local().stun(Stun::Off)
    });
    let (lost, mine) = enter(&server, "/r", &Credentials { resumable: true, ..Credentials::default() }).await;
    let (mut other, _) = Client::coplay(&server, "/r").await;
    drop(lost);
    other.hears(ServerMessage::PeerLeft(mine.me)).await;
    other.hears(ServerMessage::Leader(leader(other.me, 2))).await;
    let known = Credentials { resumable: true, resume: mine.resume.clone(), ..led(&mine, 1) };
    let (mut back, welcome) = enter(&server, "/r", &known).await;
    assert_eq!((welcome.me, welcome.resumed, welcome.leader), (mine.me, false, leader(other.me, 2)));
    other.hears(ServerMessage::NewPeer(mine.me)).await;
    other.reaches(&mut back).await;
}

#[tokio::test]
async fn a_leader_that_is_back_sets_the_password_again_and_says_who_may_come_back_to_a_locked_room() {
    let [old, friend] = before().await;
    let server = plain();
    let (mut newcomer, welcome) = Client::coplay(&server, "/r").await;
    assert!(!welcome.lobby.unwrap().has_password);
    let password = Some("swordfish".into());
    let (mut old, _) = enter(&server, "/r", &Credentials { password: password.clone(), ..led(&old, 1) }).await;
    newcomer.hears(ServerMessage::Leader(leader(old.me, 2))).await;
    assert!(matches!(newcomer.next().await, ServerMessage::Room(lobby) if lobby.has_password));
    assert_eq!(Client::refused(&server, "/r").await.0, SignalError::PasswordNeeded);
    old.hears(ServerMessage::NewPeer(newcomer.me)).await;
    assert!(matches!(old.next().await, ServerMessage::Room(lobby) if lobby.has_password));

    for command in [RoomCommand::Returning(vec![friend.me]), RoomCommand::Lock(true)] {
        old.tell(&ClientMessage::Room(command)).await;
        assert!(matches!(old.next().await, ServerMessage::Room(_)));
    }
    let known = Credentials { password: password.clone(), ..Credentials::default() };
    assert_eq!(Client::from(&server, "/r", &known, HERE).await.err(), Some(SignalError::RoomLocked));
    assert_eq!(Client::from(&server, "/r", &secret(&friend), HERE).await.err(), Some(SignalError::PasswordNeeded));
    let (_, welcome) = enter(&server, "/r", &Credentials { password, ..secret(&friend) }).await;
    assert_eq!(welcome.me, friend.me);
}

#[tokio::test]
async fn who_was_back_in_a_locked_room_or_is_kicked_is_not_expected_again() {
    let [one, two, three] = before().await;
    let server = plain();
    let (mut host, _) = Client::coplay(&server, "/r").await;
    for command in [RoomCommand::Returning(vec![one.me, two.me, three.me]), RoomCommand::Lock(true)] {
        host.tell(&ClientMessage::Room(command)).await;
        assert!(matches!(host.next().await, ServerMessage::Room(_)));
    }
    let locked = Some(SignalError::RoomLocked);
    let (mut kicked, _) = Client::from(&server, "/r", &secret(&one), "127.0.0.3").await.unwrap();
    host.hears(ServerMessage::NewPeer(kicked.me)).await;
    // Also before it is back.
    for peer in [one.me, three.me] {
        host.tell(&ClientMessage::Room(RoomCommand::Kick(peer))).await;
    }
    assert_eq!(kicked.dismissed().await.1, 4403);
    host.hears(ServerMessage::PeerLeft(one.me)).await;
    for _ in 0..2 {
        assert!(matches!(host.next().await, ServerMessage::Room(_)));
    }
    for peer in [&one, &three] {
        assert_eq!(Client::from(&server, "/r", &secret(peer), "127.0.0.4").await.err(), locked, "from elsewhere");
    }
    let (back, _) = enter(&server, "/r", &secret(&two)).await;
    host.hears(ServerMessage::NewPeer(back.me)).await;
    back.leave().await;
    host.hears(ServerMessage::PeerLeft(two.me)).await;
    assert_eq!(Client::from(&server, "/r", &secret(&two), HERE).await.err(), locked, "once");
}

#[tokio::test]
async fn nobody_led_a_room_before_whose_code_was_drawn_since() {
    let [stranger] = before().await;
    let server = plain();
    let (mut founder, welcome) = Client::coplay(&server, "/?topology=host").await;
    let code = welcome.room;
    let (usurper, welcome) = enter(&server, &format!("/{code}?existing=1"), &led(&stranger, 2_000_000_000)).await;
    assert_eq!((welcome.me, welcome.leader), (stranger.me, leader(founder.me, 1)));
    founder.hears(ServerMessage::NewPeer(usurper.me)).await;
    founder.tell(&ClientMessage::Room(RoomCommand::Lock(true))).await;
    assert!(matches!(founder.next().await, ServerMessage::Room(_)), "it leads");
    // To the next server the same code is a name, which says nothing about what was before.
    let anew = plain();
    let (_newcomer, _) = Client::coplay(&anew, &format!("/{code}?topology=host")).await;
    let (host, welcome) = enter(&anew, &format!("/{code}"), &led(&stranger, 4)).await;
    assert_eq!(welcome.leader, leader(host.me, 5));
}

#[tokio::test]
async fn a_member_that_is_not_let_in_anew_keeps_the_seat_that_it_has() {
    let server = plain();
    let (mut host, _) = Client::coplay(&server, "/r").await;
    let (mut member, mine) = Client::coplay(&server, "/r").await;
    host.hears(ServerMessage::NewPeer(member.me)).await;
    let again = async || Client::from(&server, "/r", &secret(&mine), HERE).await;
    let steps = [
        (vec![RoomCommand::Lock(true)], SignalError::RoomLocked),
        (vec![RoomCommand::Lock(false), RoomCommand::Max(1)], SignalError::RoomFull { max: 1 }),
    ];
    for (commands, refused) in steps {
        for command in commands {
            host.tell(&ClientMessage::Room(command)).await;
            for client in [&mut host, &mut member] {
                assert!(matches!(client.next().await, ServerMessage::Room(_)));
            }
        }
        assert_eq!(again().await.err(), Some(refused));
    }
    // Nobody heard of it.
    host.reaches(&mut member).await;
    member.reaches(&mut host).await;
    // In a room that is full with it, its seat is its own.
    host.tell(&ClientMessage::Room(RoomCommand::Max(2))).await;
    for client in [&mut host, &mut member] {
        assert!(matches!(client.next().await, ServerMessage::Room(_)));
    }
    let (_again, welcome) = again().await.unwrap();
    assert_eq!((welcome.me, welcome.lobby.map(|lobby| lobby.players)), (mine.me, Some(2)));
    assert_eq!(member.dismissed().await.0, SignalError::SeatGone);
}
