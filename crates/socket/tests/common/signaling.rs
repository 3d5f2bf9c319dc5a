//! A signaling server of a few lines, that does as it is told: for what a real one never does.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use coplay_proto::{
    PeerId, Term, Topology,
    signal::{ClientMessage, Leader, SUBPROTOCOL, ServerMessage, Welcome},
};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
        http::{HeaderValue, StatusCode, header::SEC_WEBSOCKET_PROTOCOL},
    },
};

/// How it behaves.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// As ours does.
    Coplay,
    /// As a stock `matchbox_server` does.
    Stock,
    /// Refuses with this HTTP status and body.
    Refusing(u16, String),
    /// As ours does, but says this to everyone first of all.
    Saying(String),
}

type Members = Arc<Mutex<BTreeMap<PeerId, mpsc::UnboundedSender<ServerMessage>>>>;

/// Starts one; returns the URL of its room, and who has entered so far.
pub(crate) async fn serve(manner: Manner) -> (String, Members) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address: SocketAddr = listener.local_addr().expect("bound");
    let members = Members::default();
    let known = members.clone();
    tokio::spawn(async move {
        let mut arrived = 0;
        while let Ok((stream, _)) = listener.accept().await {
            arrived += 1;
            let me = PeerId::from_u128(arrived << 96);
            tokio::spawn(attend(manner.clone(), stream, me, members.clone()));
        }
    });
    (format!("ws://{address}/room?next=2"), known)
}

#[allow(clippy::result_large_err, reason = "that is tungstenite's callback")]
async fn attend(manner: Manner, stream: TcpStream, me: PeerId, members: Members) {
    let answer = |request: &Request, mut response: Response| match &manner {
        Manner::Refusing(status, body) => {
            let mut refusal = ErrorResponse::new(Some(body.clone()));
            *refusal.status_mut() = StatusCode::from_u16(*status).expect("a status");
            Err(refusal)
        }
        Manner::Stock => Ok(response),
        Manner::Coplay | Manner::Saying(_) => {
            let offered = request.headers()[SEC_WEBSOCKET_PROTOCOL].to_str().expect("text").split(", ").next();
            assert_eq!(offered, Some(SUBPROTOCOL));
            let chosen = HeaderValue::from_static(SUBPROTOCOL);
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, chosen);
            Ok(response)
        }
    };
    let Ok(mut line) = accept_hdr_async(stream, answer).await else { return };
    let (inbox, mut news) = mpsc::unbounded_channel();
    let first = {
        let mut members = members.lock().expect("no panic");
        for other in members.values() {
            let _ = other.send(ServerMessage::NewPeer(me));
        }
        members.insert(me, inbox);
        let everyone: Vec<PeerId> = members.keys().copied().collect();
        match manner {
            Manner::Stock => ServerMessage::IdAssigned(me),
            _ => ServerMessage::Welcome(Box::new(Welcome {
                me,
                room: "room".into(),
                topology: Topology::Mesh,
                leader: Leader { peer: everyone[0], term: Term(1) },
                members: everyone,
                max: None,
                ice_servers: Vec::new(),
                resume: None,
                secret: None,
                resumed: false,
                lobby: None,
                relay: None,
            })),
        }
    };
    if let Manner::Saying(text) = &manner {
        let _ = line.send(Message::text(text.clone())).await;
    }
    let _ = line.send(Message::text(json(&first))).await;
    loop {
        tokio::select! {
            said = news.recv() => {
                let Some(said) = said else { break };
                if line.send(Message::text(json(&said))).await.is_err() {
                    break;
                }
            }
            heard = line.next() => {
                let Some(Ok(heard)) = heard else { break };
                if let Message::Text(text) = heard
                    && let Ok(ClientMessage::Signal { receiver, data }) = serde_json::from_str(&text)
                    && let Some(receiver) = members.lock().expect("no panic").get(&receiver)
                {
                    let _ = receiver.send(ServerMessage::Signal { sender: me, data });
                }
            }
        }
    }
    let mut members = members.lock().expect("no panic");
    members.remove(&me);
    for other in members.values() {
        let _ = other.send(ServerMessage::PeerLeft(me));
    }
}

fn json(message: &ServerMessage) -> String {
    serde_json::to_string(message).expect("it has no maps")
}
