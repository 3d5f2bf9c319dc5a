//! Are all STUN and TURN servers asked, each with the credentials that are for it, whoever names them?
#![cfg(not(target_arch = "wasm32"))]

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use coplay_proto::signal::IceServer;
use coplay_socket::{Dialect, IceTransportPolicy, Rendezvous, SocketConfig, SocketEvent, connect_by, now};
use tokio::{net::UdpSocket, sync::mpsc, time::timeout};

/// Message types and attributes of STUN (RFC 8489) and TURN (RFC 8656).
const BINDING: u16 = 0x0001;
const ALLOCATE: u16 = 0x0003;
const ALLOCATE_ERROR: u16 = 0x0113;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const REALM: u16 = 0x0014;
const NONCE: u16 = 0x0015;

/// What a server was asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    /// For the address that it sees.
    Binding,
    /// For a relayed address, by this user, who signed that.
    Allocate(String),
}

/// A server that gives nothing: it asks who is there, and writes down what it hears.
async fn serve(number: usize, heard: mpsc::UnboundedSender<(usize, Asked)>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("bound");
    tokio::spawn(async move {
        let mut datagram = [0; 2048];
        while let Ok((size, from)) = socket.recv_from(&mut datagram).await {
            let message = &datagram[..size];
            let asked = match (u16_at(message, 0), attribute(message, USERNAME)) {
                (Some(BINDING), _) => Asked::Binding,
                (Some(ALLOCATE), Some(user)) if attribute(message, MESSAGE_INTEGRITY).is_some() => {
                    Asked::Allocate(String::from_utf8_lossy(user).into_owned())
                }
                (Some(ALLOCATE), _) => {
                    let _ = socket.send_to(&unauthorized(message), from).await;
                    continue;
                }
                _ => continue,
            };
            let _ = heard.send((number, asked));
        }
    });
    address
}

fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    message.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
}

fn attribute(message: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut at = 20;
    loop {
        let (kind, size) = (u16_at(message, at)?, usize::from(u16_at(message, at + 2)?));
        if kind == wanted {
            return message.get(at + 4..at + 4 + size);
        }
        at += 4 + size.next_multiple_of(4);
    }
}

/// The answer to a request that names no user: 401, and what to sign.
fn unauthorized(request: &[u8]) -> Vec<u8> {
    let mut attributes = Vec::new();
    for (kind, value) in [(ERROR_CODE, &b"\0\0\x04\x01"[..]), (REALM, b"test"), (NONCE, b"once")] {
        attributes.extend(kind.to_be_bytes());
        attributes.extend((value.len() as u16).to_be_bytes());
        attributes.extend(value);
    }
    let mut answer = ALLOCATE_ERROR.to_be_bytes().to_vec();
    answer.extend((attributes.len() as u16).to_be_bytes());
    // The cookie, and the number of the request.
    answer.extend(&request[4..20]);
    answer.extend(attributes);
    answer
}

async fn every_server_is_asked(policy: IceTransportPolicy) -> BTreeSet<(usize, Asked)> {
    let (heard, mut hears) = mpsc::unbounded_channel();
    let mut addresses = Vec::new();
    for number in 0..4 {
        addresses.push(serve(number, heard.clone()).await);
    }
    let turn = |user: &str, numbers: &[usize]| IceServer {
        urls: numbers.iter().map(|&number| format!("turn:{}?transport=udp", addresses[number])).collect(),
        username: Some(user.into()),
        credential: Some(format!("password of {user}")),
    };
    let stun = IceServer { urls: vec![format!("stun:{}", addresses[3])], ..IceServer::default() };
    // One by the settings, with two addresses; and one by signaling, as the STUN server is.
    let rendezvous = Rendezvous::with_ice_servers(vec![stun, turn("bob", &[2])]);
    let config = SocketConfig {
        ice_servers: vec![turn("alice", &[0, 1])],
        ice_transport_policy: policy,
        ..SocketConfig::default()
    };
    let mut socket = connect_by(config, rendezvous.signaller());
    let mut other = rendezvous.signaller();
    let mut asked = BTreeSet::new();
    let all_asked = async {
        let wanted = [(0, "alice"), (1, "alice"), (2, "bob")];
        loop {
            while let Some(event) = socket.poll(now()) {
                if matches!(event, SocketEvent::Entered(_)) {
                    // Who comes now is to be connected with.
                    other.dial(Dialect::Matchbox.into());
                }
            }
            match timeout(Duration::from_millis(5), hears.recv()).await {
                Ok(Some(heard)) => drop(asked.insert(heard)),
                Ok(None) => panic!("the servers are gone"),
                Err(_) => {}
            }
            let relays = wanted.iter().all(|&(number, user)| asked.contains(&(number, Asked::Allocate(user.into()))));
            let reflexive = policy == IceTransportPolicy::Relay || asked.contains(&(3, Asked::Binding));
            if relays && reflexive {
                return;
            }
        }
    };
    let done = timeout(Duration::from_secs(30), all_asked).await;
    assert!(done.is_ok(), "only these were asked: {asked:?}");
    asked
}

#[tokio::test]
async fn every_server_is_asked_with_its_own_credentials() {
    let asked = every_server_is_asked(IceTransportPolicy::All).await;
    assert_eq!(asked.len(), 4, "{asked:?}");
}

#[tokio::test]
async fn where_only_relayed_paths_are_allowed_turn_servers_are_asked_alone() {
    let asked = every_server_is_asked(IceTransportPolicy::Relay).await;
    assert_eq!(asked.len(), 3, "{asked:?}");
}
