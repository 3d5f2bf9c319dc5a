//! What may a leader do with its room, who may come in, and what do the others learn of it?

use std::time::Duration;

use coplay_proto::{
    PeerId,
    signal::{
        ClientMessage, ServerMessage, SignalError,
        lobby::{Credentials, Lobby, Metadata, RoomCommand},
    },
};
use coplay_signaling::{Config, Occupancy, Running, Stun, Timing};

use crate::client::*;

const HERE: &str = "127.0.0.1";
const THERE: &str = "127.0.0.2";

fn password(password: &str) -> Credentials {
    Credentials { password: Some(password.into()), ..Credentials::default() }
}

async fn command(client: &mut Client, command: RoomCommand) {
    client.tell(&ClientMessage::Room(command)).await;
}

/// The settings that come next.
async fn settings(client: &mut Client) -> Lobby {
    match client.next().await {
        ServerMessage::Room(lobby) => *lobby,
        other => panic!("{other:?}"),
    }
}

/// A leader and a member of the room "r".
async fn two(server: &Running) -> (Client, Client) {
    let (mut leader, _) = Client::coplay(server, "/r").await;
    let (member, _) = Client::coplay(server, "/r").await;
    leader.hears(ServerMessage::NewPeer(member.me)).await;
    (leader, member)
}

#[tokio::test]
async fn a_welcome_says_the_settings_and_changes_are_pushed_to_all() {
    let server = plain();
    let url = "/r?game=arena&version=0.1&meta.map=hill&max=3";
    let (mut leader, welcome) = Client::coplay(&server, url).await;
    let lobby = *welcome.lobby.unwrap();
    assert_eq!((lobby.code.as_str(), lobby.game.as_str(), lobby.version.as_str()), ("r", "arena", "0.1"));
    assert_eq!((lobby.players, lobby.max, lobby.public, lobby.locked), (1, 3, false, false));
    assert_eq!(lobby.metadata.get("map"), Some("hill"));
    let mut stock = Client::stock(&server, "/r").await;
    leader.hears(ServerMessage::NewPeer(stock.me)).await;
    let (mut member, welcome) = Client::coplay(&server, "/r?game=other&meta.map=lake").await;
    assert_eq!(welcome.lobby.map(|lobby| *lobby), Some(Lobby { players: 3, ..lobby }), "the first decided");
    leader.hears(ServerMessage::NewPeer(member.me)).await;

    command(&mut leader, RoomCommand::Metadata(Metadata::new([("mode", "duel")]).unwrap())).await;
    for client in [&mut leader, &mut member] {
        let lobby = settings(client).await;
        assert!(lobby.metadata.iter().eq([("mode", "duel")]), "{lobby:?}");
    }
    command(&mut leader, RoomCommand::Max(9)).await;
    assert_eq!((settings(&mut leader).await.max, settings(&mut member).await.max), (9, 9));
    // Who does not know the words is not told.
    stock.hears(ServerMessage::NewPeer(member.me)).await;
    leader.reaches(&mut stock).await;
}

#[tokio::test]
async fn only_the_leader_commands_and_only_what_makes_sense() {
    let server = plain();
    let (mut leader, mut member) = two(&server).await;
    for wish in [RoomCommand::Lock(true), RoomCommand::Kick(leader.me), RoomCommand::Public(true), RoomCommand::Max(2)]
    {
        command(&mut member, wish).await;
        member.hears(ServerMessage::Denied(SignalError::NotLeader)).await;
    }
    for wish in [RoomCommand::Max(0), RoomCommand::Max(65), RoomCommand::Kick(leader.me)] {
        command(&mut leader, wish.clone()).await;
        let denied = leader.next().await;
        assert!(matches!(denied, ServerMessage::Denied(SignalError::Malformed { .. })), "{wish:?}: {denied:?}");
    }
    member.reaches(&mut leader).await;
    // The next leader may.
    let gone = leader.me;
    leader.leave().await;
    member.hears(ServerMessage::PeerLeft(gone)).await;
    assert!(matches!(member.next().await, ServerMessage::Leader(_)));
    command(&mut member, RoomCommand::Lock(true)).await;
    assert!(settings(&mut member).await.locked);
    // A room of groups has no settings.
    let (mut alone, welcome) = Client::coplay(&server, "/g?next=2").await;
    assert_eq!(welcome.lobby, None);
    command(&mut alone, RoomCommand::Lock(true)).await;
    assert!(matches!(alone.next().await, ServerMessage::Denied(SignalError::Malformed { .. })));
    // Too many at once are denied, and the rest of the room is as it was.
    let mut denied = 0;
    for _ in 0..60 {
        command(&mut member, RoomCommand::Lock(true)).await;
        denied += u32::from(member.next().await == ServerMessage::Denied(SignalError::TooMuch));
    }
    assert!((10..=40).contains(&denied), "{denied}");
}

#[tokio::test]
async fn a_locked_room_lets_nobody_in_until_it_is_unlocked() {
    let server = plain();
    let (mut leader, _member) = two(&server).await;
    command(&mut leader, RoomCommand::Lock(true)).await;
    assert!(settings(&mut leader).await.locked);
    assert_eq!(Client::refused(&server, "/r").await, (SignalError::RoomLocked, 4423));
    let (status, text) = Client::denied(&server, "/r").await;
    assert!(status == 423 && text.contains("unlock"), "{status} {text}");
    command(&mut leader, RoomCommand::Lock(false)).await;
    assert!(!settings(&mut leader).await.locked);
    let (third, _) = Client::coplay(&server, "/r").await;
    leader.hears(ServerMessage::NewPeer(third.me)).await;
}

#[tokio::test]
async fn a_password_is_needed_and_refused_and_right() {
    let server = plain();
    let (mut leader, welcome) = Client::from(&server, "/", &password("swordfish"), HERE).await.unwrap();
    assert!(welcome.lobby.unwrap().has_password);
    let code = format!("/{}?existing=1", welcome.room);
    assert_eq!(Client::refused(&server, &code).await, (SignalError::PasswordNeeded, 4401));
    assert_eq!(Client::denied(&server, &code).await.0, 401);
    for wrong in ["", "Swordfish", "swordfish "] {
        let refused = Client::from(&server, &code, &password(wrong), HERE).await.err();
        let expected = match wrong {
            "" => {
                SignalError::Malformed { detail: "a password has 1 to 128 bytes: leave it out, or shorten it".into() }
            }
            _ => SignalError::WrongPassword,
        };
        assert_eq!(refused, Some(expected), "{wrong}");
    }
    let (member, _) = Client::from(&server, &code, &password("swordfish"), HERE).await.unwrap();
    leader.hears(ServerMessage::NewPeer(member.me)).await;
    // Three more wrong ones are five, and then this address has to wait; another has not.
    for _ in 0..3 {
        assert_eq!(Client::from(&server, &code, &password("x"), HERE).await.err(), Some(SignalError::WrongPassword));
    }
    let refused = Client::from(&server, &code, &password("swordfish"), HERE).await.err();
    assert!(matches!(refused, Some(SignalError::TooManyAttempts { seconds: 1..=10 })), "{refused:?}");
    let (other, _) = Client::from(&server, &code, &password("swordfish"), THERE).await.unwrap();
    leader.hears(ServerMessage::NewPeer(other.me)).await;
}

#[tokio::test]
async fn who_is_kicked_is_told_and_its_address_stays_out_for_a_while() {
    let timing = Timing { kicked: Duration::from_millis(1500), ..Timing::default() };
    let server = start(Config { timing, ..Config::local().stun(Stun::Off) });
    let (mut leader, mut member) = two(&server).await;
    let (mut bad, _) = Client::from(&server, "/r", &Credentials::default(), THERE).await.unwrap();
    leader.hears(ServerMessage::NewPeer(bad.me)).await;
    member.hears(ServerMessage::NewPeer(bad.me)).await;
    command(&mut leader, RoomCommand::Kick(bad.me)).await;
    assert_eq!(bad.dismissed().await, (SignalError::Kicked { seconds: 1 }, 4403));
    // The leader knows.
    member.hears(ServerMessage::Kicked(bad.me)).await;
    for client in [&mut leader, &mut member] {
        client.hears(ServerMessage::PeerLeft(bad.me)).await;
        assert_eq!(settings(client).await.players, 2);
    }
    let refused = Client::from(&server, "/r", &Credentials::default(), THERE).await.err();
    assert!(matches!(refused, Some(SignalError::Kicked { seconds: 1..=2 })), "{refused:?}");
    let (elsewhere, _) = Client::from(&server, "/other", &Credentials::default(), THERE).await.unwrap();
    elsewhere.leave().await;
    tokio::time::sleep(timing.kicked).await;
    let (back, _) = Client::from(&server, "/r", &Credentials::default(), THERE).await.unwrap();
    leader.hears(ServerMessage::NewPeer(back.me)).await;
    // Nobody of that name: done, for it is not there.
    command(&mut leader, RoomCommand::Kick(PeerId::from_u128(7))).await;
    assert_eq!(settings(&mut leader).await.players, 3);
}

#[tokio::test]
async fn a_room_full_of_settings_leaves_nothing_behind() {
    let server = plain();
    for _ in 0..20 {
        let (mut leader, welcome) = Client::from(&server, "/?public=1&game=a", &password("x"), HERE).await.unwrap();
        let (member, _) = Client::from(&server, &format!("/{}", welcome.room), &password("x"), HERE).await.unwrap();
        leader.hears(ServerMessage::NewPeer(member.me)).await;
        command(&mut leader, RoomCommand::Kick(member.me)).await;
        leader.leave().await;
        drop(member);
    }
    until(&server, Occupancy { rooms: 0, peers: 0 }).await;
}
