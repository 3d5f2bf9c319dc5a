//! What becomes of two peers that play when a third one in their room does all that it should not? Nothing.
#![cfg(not(target_arch = "wasm32"))]

use std::time::Duration;

use coplay_proto::PeerId;
use coplay_signaling::{Config, Signaling};
use coplay_socket::{Dialect, SocketEvent};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use self::{
    gullible::{Gullible, name},
    pair::Pair,
    peer::Peer,
};

#[path = "common/gullible.rs"]
mod gullible;
#[path = "common/pair.rs"]
mod pair;
#[path = "common/peer.rs"]
mod peer;

/// Words that the healthy pair says after each attack.
const WORDS: u32 = 20;

/// Well below the time after which the server closes who is silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// A peer that says whatever it likes.
struct Attacker {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Attacker {
    async fn enter(url: &str) -> Self {
        let (socket, _) = connect_async(url).await.expect("the room lets it in");
        Self { socket }
    }

    async fn say(&mut self, text: impl Into<String>) {
        // A server that has thrown it out has done what it should.
        let _ = self.socket.send(Message::text(text.into())).await;
    }

    async fn signal(&mut self, to: PeerId, data: Value) {
        self.say(json!({ "Signal": { "receiver": name(to), "data": data } }).to_string()).await;
    }

    /// Waits for an offer, and returns who made it.
    async fn offered(&mut self) -> PeerId {
        loop {
            let heard = self.socket.next().await.expect("still connected").expect("a frame");
            let Ok(heard) = serde_json::from_slice::<Value>(&heard.into_data()) else { continue };
            if !heard["Signal"]["data"]["Offer"].is_null() {
                return serde_json::from_value(heard["Signal"]["sender"].clone()).expect("an id");
            }
        }
    }

    /// Waits until the server closes the connection.
    async fn thrown_out(mut self) {
        let closed = async { while self.socket.next().await.is_some_and(|frame| frame.is_ok()) {} };
        timeout(PATIENCE, closed).await.expect("the server keeps who does such a thing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_answers_with_garbage_costs_nobody_else_a_word() {
    let server = Gullible::start().await;
    let url = format!("ws://{}/room", server.address);
    let mut pair = Pair::meet(&url, Dialect::Matchbox).await;
    let mut attacker = Attacker::enter(&url).await;
    let victims = [attacker.offered().await, attacker.offered().await];
    assert!(pair.ids().iter().all(|id| victims.contains(id)), "both are to offer to the newcomer");

    let answers = [
        json!({ "Answer": "v=0\r\nthis is no session description" }),
        json!({ "Answer": "" }),
        json!({ "Answer": "\u{0}\u{ffff}".repeat(2000) }),
        json!({ "Answer": 7 }),
        json!({ "Offer": "an offer where an answer is due" }),
        json!({ "Nonsense": [1, 2, 3] }),
        Value::Null,
    ];
    for answer in answers {
        for victim in victims {
            attacker.signal(victim, answer.clone()).await;
        }
        pair.talk(WORDS).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn candidates_before_their_description_or_of_no_sense_are_kept_or_refused() {
    let server = Gullible::start().await;
    let url = format!("ws://{}/room", server.address);
    let mut pair = Pair::meet(&url, Dialect::Matchbox).await;
    let mut attacker = Attacker::enter(&url).await;
    let early =
        json!({ "candidate": "candidate:1 1 udp 2130706431 192.0.2.1 9 typ host", "sdpMid": "0", "sdpMLineIndex": 0 });
    let candidates = [
        early.to_string(),
        "null".to_owned(),
        "{".to_owned(),
        json!({ "candidate": "candidate:x y z" }).to_string(),
        json!({ "candidate": "c".repeat(100_000), "sdpMid": "0" }).to_string(),
    ];
    for candidate in candidates {
        for victim in pair.ids() {
            for _ in 0..100 {
                attacker.signal(victim, json!({ "IceCandidate": candidate })).await;
            }
        }
        pair.talk(WORDS).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_says_nothing_is_given_up_with_a_reason() {
    let server = Gullible::start().await;
    let url = format!("ws://{}/room", server.address);
    let mut talker = Peer::connect(&url, Dialect::Matchbox);
    talker.entered().await;
    let _silent = Attacker::enter(&url).await;
    let reason = talker
        .until("the end of the attempts", |event| match event {
            SocketEvent::Closed(_, reason) => Some(reason),
            SocketEvent::Opened(peer) => panic!("{peer} is connected without having said a word"),
            _ => None,
        })
        .await;
    assert!(!reason.to_string().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn our_server_throws_out_who_floods_it_and_nobody_else() {
    let signaling = Signaling::spawn(Config::local()).expect("it starts");
    let url = format!("{}/room", signaling.url());
    let mut pair = Pair::meet(&url, Dialect::Coplay).await;
    let [victim, _] = pair.ids();

    let megabyte = "x".repeat(1024 * 1024);
    let large = json!({ "Signal": { "receiver": name(victim), "data": { "Offer": megabyte } } }).to_string();
    let nested = "[".repeat(60_000);
    for attack in [large, nested, "not JSON at all".to_owned(), String::new()] {
        let mut attacker = Attacker::enter(&url).await;
        attacker.say(attack).await;
        attacker.thrown_out().await;
        pair.talk(WORDS).await;
    }
}
