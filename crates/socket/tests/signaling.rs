//! Do native sockets find their way with every kind of signaling server?
#![cfg(not(target_arch = "wasm32"))]

use std::time::{Duration, Instant};

use coplay_proto::{
    PeerId,
    signal::{SignalError, lobby::LobbyFilter},
};
use coplay_socket::{
    Dialect, LobbyBrowser, LobbyEvent, SignalingState, Socket, SocketConfig, SocketError, SocketEvent, connect, now,
};
use signaling::{Manner, serve};

#[path = "common/signaling.rs"]
mod signaling;

/// The next event that `pick` takes.
async fn next<T>(socket: &mut dyn Socket, mut pick: impl FnMut(SocketEvent) -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        while let Some(event) = socket.poll(now()) {
            if let Some(picked) = pick(event) {
                return picked;
            }
        }
        assert!(Instant::now() < end, "waited in vain");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn failed(event: SocketEvent) -> Option<SocketError> {
    match event {
        SocketEvent::Failed(error) => Some(error),
        _ => None,
    }
}

fn lost(event: SocketEvent) -> Option<String> {
    match event {
        SocketEvent::Signaling(SignalingState::Lost { reason }) => Some(reason),
        _ => None,
    }
}

async fn two_peers_meet(manner: Manner, leads: bool) {
    let (url, members) = serve(manner).await;
    let mut peers = [connect(SocketConfig::new(&url)), connect(SocketConfig::new(&url))];
    for peer in &mut peers {
        let entered = next(&mut **peer, |event| match event {
            SocketEvent::Entered(entered) => Some(entered),
            _ => None,
        })
        .await;
        assert_eq!(entered.room, "room");
        assert_eq!(entered.leader.is_some(), leads);
    }
    for peer in &mut peers {
        next(&mut **peer, |event| matches!(event, SocketEvent::Opened(_)).then_some(())).await;
    }
    let met: Vec<_> = members.lock().expect("no panic").keys().copied().collect();
    let expected = [1, 2].map(|n| PeerId::from_u128(n << 96));
    assert_eq!(met, expected, "nobody entered twice: a server that matches two would have matched a ghost");
}

#[tokio::test]
async fn two_peers_meet_by_our_dialect() {
    two_peers_meet(Manner::Coplay, true).await;
}

#[tokio::test]
async fn two_peers_meet_at_a_stock_server() {
    two_peers_meet(Manner::Stock, false).await;
}

#[tokio::test]
async fn a_dialect_that_was_asked_for_is_the_only_one() {
    let (url, _) = serve(Manner::Stock).await;
    let dialect = Some(Dialect::Coplay);
    let config = SocketConfig { dialect, signaling_attempts: 1, ..SocketConfig::new(&url) };
    let error = next(&mut *connect(config), failed).await;
    assert!(error.to_string().contains("coplay's dialect"), "{error}");
}

#[tokio::test]
async fn an_address_may_be_that_of_a_page_and_one_without_a_scheme_is_told_at_once() {
    let (url, _) = serve(Manner::Coplay).await;
    let page = url.replacen("ws://", "http://", 1);
    let mut socket = connect(SocketConfig::new(page));
    let room = next(&mut *socket, |event| match event {
        SocketEvent::Entered(entered) => Some(entered.room),
        SocketEvent::Failed(error) => panic!("{error}"),
        _ => None,
    })
    .await;
    assert_eq!(room, "room");
    let mut socket = connect(SocketConfig::new("localhost:3536/room"));
    let Some(SocketEvent::Failed(error)) = socket.poll(now()) else { panic!("it is tried") };
    assert!(error.to_string().contains("write ws://localhost:3536,"), "{error}");

    let mut lobbies = LobbyBrowser::open("localhost:3536", LobbyFilter::default());
    let failed = std::iter::from_fn(|| lobbies.poll()).find_map(|event| match event {
        LobbyEvent::Failed(error) => Some(error),
        _ => None,
    });
    let error = failed.expect("it is not tried");
    assert!(error.to_string().contains("write ws://localhost:3536,"), "{error}");
}

#[tokio::test]
async fn a_refusal_is_told_as_it_was_said() {
    let full = SignalError::RoomFull { max: 4 };
    let (url, _) = serve(Manner::Refusing(403, serde_json::to_string(&full).unwrap())).await;
    let error = next(&mut *connect(SocketConfig::new(&url)), failed).await;
    assert_eq!(error, SocketError::Refused(full));

    let (url, _) = serve(Manner::Refusing(404, "<html>".into())).await;
    let config = SocketConfig { signaling_attempts: 1, ..SocketConfig::new(&url) };
    let error = next(&mut *connect(config), failed).await;
    assert!(error.to_string().contains("404") && error.to_string().contains(&url), "{error}");
}

#[tokio::test]
async fn nobody_there_is_tried_again_and_then_told() {
    // Bound and dropped: nobody listens there.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = SocketConfig { signaling_attempts: 2, ..SocketConfig::new(format!("ws://{address}/room")) };
    let mut socket = connect(config);
    let reason = next(&mut *socket, lost).await;
    let error = next(&mut *socket, failed).await;
    assert!(error.to_string().contains(&reason) && error.to_string().contains("coplay_signaling"), "{error}");
    let mut socket = connect(SocketConfig { signaling_attempts: 1, ..SocketConfig::new("not a url") });
    let error = next(&mut *socket, failed).await;
    assert!(error.to_string().contains("not a url"), "{error}");
}

#[tokio::test]
async fn what_a_server_says_cannot_hurt() {
    for nonsense in ["", "{", "[]", r#"{"Signal":{"sender":"x","data":1}}"#, r#"{"Welcome":{}}"#, r#"{"Unknown":1}"#] {
        let (url, _) = serve(Manner::Saying(nonsense.into())).await;
        let entered = |event| matches!(event, SocketEvent::Entered(_)).then_some(());
        next(&mut *connect(SocketConfig::new(&url)), entered).await;
    }
    let megabyte = format!(r#"{{"IdAssigned":"{}"}}"#, "0".repeat(1_000_000));
    let (url, _) = serve(Manner::Saying(megabyte)).await;
    let reason = next(&mut *connect(SocketConfig::new(&url)), lost).await;
    assert!(reason.contains("too long"), "{reason}");
}
