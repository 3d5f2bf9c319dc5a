//! A signaling server of the stock dialect that believes everything: whatever a peer sends to another arrives, so that
//! peers are tested against what our own server would not let through.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use coplay_proto::PeerId;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_tungstenite::{accept_async, tungstenite::Message};

/// Frames that wait for a peer at most; more are lost.
const QUEUE: usize = 1024;

type Members = Arc<Mutex<BTreeMap<String, mpsc::Sender<Value>>>>;

/// Runs until it is dropped.
pub(crate) struct Gullible {
    pub(crate) address: SocketAddr,
    server: JoinHandle<()>,
}

impl Gullible {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let members = Members::default();
        let server = tokio::spawn(async move {
            for number in 1.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let members = members.clone();
                tokio::spawn(async move {
                    if let Ok(socket) = accept_async(stream).await {
                        member(socket, uuid(number), &members).await;
                    }
                });
            }
        });
        Self { address, server }
    }
}

impl Drop for Gullible {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn uuid(number: u32) -> String {
    format!("{number:08x}-0000-4000-8000-000000000000")
}

async fn member(socket: tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>, id: String, members: &Members) {
    let (mut out, mut input) = socket.split();
    let (sender, mut queue) = mpsc::channel::<Value>(QUEUE);
    let tell = |to: &str, what: Value| {
        if let Some(queue) = members.lock().unwrap_or_else(PoisonError::into_inner).get(to) {
            let _ = queue.try_send(what);
        }
    };
    let others: Vec<_> = members.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
    members.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), sender);
    tell(&id, json!({ "IdAssigned": id }));
    for other in &others {
        tell(other, json!({ "NewPeer": id }));
    }
    loop {
        tokio::select! {
            Some(what) = queue.recv() => if out.send(Message::text(what.to_string())).await.is_err() { break },
            said = input.next() => {
                let Some(Ok(said)) = said else { break };
                let Ok(said) = serde_json::from_slice::<Value>(&said.into_data()) else { continue };
                let Some(to) = said["Signal"]["receiver"].as_str() else { continue };
                tell(to, json!({ "Signal": { "sender": id, "data": said["Signal"]["data"] } }));
            }
        }
    }
    members.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    for other in others {
        tell(&other, json!({ "PeerLeft": id }));
    }
}

/// The id as JSON has it.
pub(crate) fn name(peer: PeerId) -> Value {
    serde_json::to_value(peer).expect("an id is a string")
}
