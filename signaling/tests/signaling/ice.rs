//! Do peers learn their address, and get TURN credentials that a TURN server accepts?

use std::{net::SocketAddr, time::Duration};

use coplay_proto::signal::IceServer;
use coplay_signaling::{Config, Running, Secret, Stun, Turn};
use futures_util::StreamExt;
use rtc_stun::{
    message::{BINDING_REQUEST, BINDING_SUCCESS, Getter, Message, TransactionId},
    xoraddr::XorMappedAddress,
};
use tokio::net::{TcpStream, UdpSocket};
use tokio_tungstenite::{client_async, tungstenite::client::IntoClientRequest};

use crate::client::*;

/// Asks for the own address.
async fn ask(stun: SocketAddr, socket: &UdpSocket) -> Message {
    let mut request = Message::new();
    request.build(&[Box::new(BINDING_REQUEST), Box::new(TransactionId::new())]).unwrap();
    socket.send_to(&request.raw, stun).await.unwrap();
    let mut buffer = [0; 1500];
    let (length, from) = soon("an answer", socket.recv_from(&mut buffer)).await.unwrap();
    assert_eq!(from, stun);
    let mut answer = Message::new();
    answer.unmarshal_binary(&buffer[..length]).unwrap();
    assert_eq!(answer.transaction_id, request.transaction_id, "the answer to something else");
    answer
}

#[tokio::test]
async fn a_binding_request_is_answered_with_the_address_of_who_asks() {
    let server = start(Config::local());
    let stun = server.stun_addr().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    // Whatever else arrives is ignored: the first that comes back is the answer to the request.
    for garbage in [&b""[..], b"x", &[0; 20], &[0xff; 1400], b"\x00\x01\x00\x00\x21\x12\xa4\x42"] {
        socket.send_to(garbage, stun).await.unwrap();
    }
    let answer = ask(stun, &socket).await;
    assert_eq!(answer.typ, BINDING_SUCCESS);
    let mut seen = XorMappedAddress::default();
    seen.get_from(&answer).unwrap();
    assert_eq!(SocketAddr::new(seen.ip, seen.port), socket.local_addr().unwrap());
}

#[tokio::test]
async fn stun_takes_the_port_of_signaling_or_another_or_none() {
    // An address of its own, so that no other test takes the port between two of these steps.
    let ip = if cfg!(target_os = "linux") { "127.83.0.1" } else { "127.0.0.1" };
    let socket = UdpSocket::bind(format!("{ip}:0")).await.unwrap();
    let taken = socket.local_addr().unwrap();
    let beside = start(Config::local().listen(taken));
    let stun = beside.stun_addr().unwrap();
    assert_ne!(stun, taken);
    ask(stun, &socket).await;
    drop((beside, socket));
    assert_eq!(start(Config::local().listen(taken)).stun_addr(), Some(taken), "now it is free");
    assert_eq!(start(Config::local().stun(Stun::Off)).stun_addr(), None);
    assert_eq!(start(Config::local().stun(Stun::At(taken))).stun_addr(), Some(taken));
}

/// What a peer is told that came by the name `host`.
async fn ice_servers(server: &Running, host: &str) -> Vec<IceServer> {
    let mut request = format!("{}/r", server.url()).into_client_request().unwrap();
    request.headers_mut().insert("Host", host.parse().unwrap());
    request.headers_mut().insert("Sec-WebSocket-Protocol", "coplay.v1".parse().unwrap());
    let tcp = TcpStream::connect(server.local_addr()).await.unwrap();
    let (mut socket, _) = client_async(request, tcp).await.unwrap();
    let welcome: serde_json::Value =
        serde_json::from_str(socket.next().await.unwrap().unwrap().to_text().unwrap()).unwrap();
    serde_json::from_value(welcome["Welcome"]["ice_servers"].clone()).unwrap()
}

#[tokio::test]
async fn a_welcome_names_the_ice_servers_with_credentials_for_this_peer() {
    let fixed = IceServer { urls: vec!["stun:stun.example.org:3478".into()], ..IceServer::default() };
    let turn = Turn {
        urls: vec!["turn:turn.example.org:3478".into(), "turns:turn.example.org:443?transport=tcp".into()],
        secret: Secret::from("north"),
        ttl: Duration::from_secs(600),
    };
    let server = start(Config { ice_servers: vec![fixed.clone()], turn: Some(turn.clone()), ..Config::local() });
    let told = ice_servers(&server, "play.example.org:8080").await;
    let port = server.stun_addr().unwrap().port();
    assert_eq!(told[0].urls, [format!("stun:play.example.org:{port}")], "the name that the peer used");
    assert_eq!((&told[1], told.len()), (&fixed, 3));

    // As a TURN server with the secret checks it: the time in the name, and the signature over the name.
    assert_eq!(told[2].urls, turn.urls);
    let username = told[2].username.clone().unwrap();
    let (expires, _peer) = username.split_once(':').unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!((now + 1..=now + 600).contains(&expires.parse().unwrap()), "{expires} at {now}");
    use base64::{Engine, prelude::BASE64_STANDARD};
    use hmac::Mac;
    let mut signer = hmac::Hmac::<sha1::Sha1>::new_from_slice(b"north").unwrap();
    signer.update(username.as_bytes());
    signer.verify_slice(&BASE64_STANDARD.decode(told[2].credential.as_ref().unwrap()).unwrap()).unwrap();

    let another = ice_servers(&server, "localhost").await;
    assert_eq!(another.len(), 2, "no STUN for who comes from the same machine");
    assert_ne!(another[1].username, told[2].username, "each peer has its own");
}
