//! What else does the port answer, and how does a server end?

use std::{
    net::{Ipv4Addr, TcpListener},
    time::{Duration, Instant},
};

use coplay_proto::signal::ServerMessage;
use coplay_signaling::{Config, Occupancy, Signaling, StartError, Stun, Timing, axum};

use crate::client::*;

#[tokio::test]
async fn a_page_is_served_on_the_same_port() {
    let page = axum::Router::new()
        .route("/", axum::routing::get(|| async { "the game" }))
        .route("/pkg/{file}", axum::routing::get(|| async { "a file" }));
    let server = start(Config::local().stun(Stun::Off).page(page));
    assert!(http(&server, "/").await.ends_with("the game"));
    assert!(http(&server, "/?room=x").await.ends_with("the game"));
    assert!(http(&server, "/pkg/game.wasm").await.ends_with("a file"));
    assert!(http(&server, "/nothing").await.starts_with("HTTP/1.1 404"));
    assert!(http(&server, "/healthz").await.ends_with("ok\n"));
    // And WebSockets come in at the same paths.
    let (mut a, _) = Client::coplay(&server, "/r").await;
    let (_, made) = Client::coplay(&server, "/").await;
    let (b, _) = Client::coplay(&server, "/r").await;
    a.hears(ServerMessage::NewPeer(b.me)).await;
    assert_eq!(made.members.len(), 1);
}

#[tokio::test]
async fn without_a_page_it_says_what_it_is() {
    let server = plain();
    let answer = http(&server, "/").await;
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("ws://"), "{answer}");
    assert!(http(&server, "/healthz").await.ends_with("ok\n"));
}

#[tokio::test]
async fn its_router_can_be_served_by_another_server() {
    let signaling = Signaling::bind(Config::local().stun(Stun::Off)).await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, signaling.router()).into_future());
    let (_socket, _) = tokio_tungstenite::connect_async(format!("ws://{address}/r")).await.unwrap();
    assert_eq!(signaling.occupancy(), Occupancy { rooms: 1, peers: 1 });
}

#[tokio::test]
async fn a_server_that_stops_tells_its_peers_and_is_gone() {
    let timing = Timing { close: Duration::from_secs(600), ..Timing::default() };
    let server = start(Config { timing, ..Config::local().stun(Stun::Off) });
    let address = server.local_addr();
    let (mut a, _) = Client::coplay(&server, "/r").await;
    let mut b = Client::stock(&server, "/r").await;
    a.hears(ServerMessage::NewPeer(b.me)).await;
    let stopping = std::thread::spawn(move || {
        let start = Instant::now();
        drop(server);
        start.elapsed()
    });
    // They hear of the end only, not of each other's.
    for client in [&mut a, &mut b] {
        use futures_util::StreamExt;
        use tokio_tungstenite::tungstenite::Message;
        match soon("the end", client.socket.next()).await {
            Some(Ok(Message::Close(Some(frame)))) => assert_eq!(u16::from(frame.code), 1001),
            other => panic!("{other:?}"),
        }
        assert_eq!(client.closed().await, None);
    }
    let took = stopping.join().unwrap();
    assert!(took < timing.close, "peers that answer are not waited for: {took:?}");
    TcpListener::bind(address).expect("the port is free again");
}

#[test]
fn a_port_that_is_taken_is_an_error_that_says_what_to_do() {
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = other.local_addr().unwrap();
    let error = Signaling::spawn(Config::local().listen(address)).unwrap_err();
    assert!(matches!(error, StartError::PortInUse { address: at } if at == address), "{error:?}");
    assert!(error.to_string().contains("--listen") && error.to_string().contains(&address.to_string()), "{error}");
    let nowhere = Config::local().listen("192.0.2.1:0".parse().unwrap());
    assert!(matches!(Signaling::spawn(nowhere), Err(StartError::Listen { .. })));
}
