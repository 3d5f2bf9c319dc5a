//! The `webrtc` crate alone: a hub that listens and offers, and guests that answer. Tasks of tokio serve the connections, with a
//! queue to and from the game loop.

use std::{
    collections::BTreeMap,
    sync::mpsc::{Receiver, Sender, channel},
};

use bytes::{Bytes, BytesMut};
use tokio::{
    net::TcpListener,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};
use tokio_tungstenite::{accept_async, connect_async};
use webrtc::data_channel::DataChannelEvent;

use super::{Heard, Peer, Room};
use crate::webrtc::{Connection, Kind, Tuning, answer, offer};

const KINDS: [Kind; 2] = [Kind::Unreliable, Kind::Reliable];

/// What the tasks tell.
enum Told {
    /// It is open: whoever writes here sends, reliably or not.
    Opened(Peer, UnboundedSender<(bool, Bytes)>),
    Heard(Heard),
}

/// The game loop's end.
struct Raw {
    told: Receiver<Told>,
    peers: BTreeMap<Peer, UnboundedSender<(bool, Bytes)>>,
}

/// Listens at this address from now on, for any number of guests.
///
/// # Errors
/// It cannot.
pub fn hub(address: &str) -> Result<Box<dyn Room>, String> {
    let listener = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    });
    let listener = listener.map_err(|error| format!("cannot listen at {address}: {error}"))?;
    let (tell, told) = channel();
    let _ = tell.send(Told::Heard(Heard::Entered));
    tokio::spawn(async move {
        let mut peer = 0;
        while let Ok((stream, _)) = listener.accept().await {
            peer += 1;
            let tell = tell.clone();
            tokio::spawn(async move {
                let offered = async {
                    let mut socket = accept_async(stream).await.map_err(|error| error.to_string())?;
                    offer(&mut socket, Tuning::Tuned, &KINDS).await
                };
                run(peer, offered.await, &tell).await;
            });
        }
    });
    Ok(Box::new(Raw { told, peers: BTreeMap::new() }))
}

/// Connects with the hub at this address.
pub fn guest(address: &str) -> Box<dyn Room> {
    let (tell, told) = channel();
    let url = format!("ws://{address}/");
    tokio::spawn(async move {
        let answered = async {
            let (mut socket, _) = connect_async(url).await.map_err(|error| error.to_string())?;
            answer(&mut socket, Tuning::Tuned, &KINDS).await
        };
        run(0, answered.await, &tell).await;
    });
    Box::new(Raw { told, peers: BTreeMap::new() })
}

/// Serves a connection until it is over, or the game is.
async fn run(peer: Peer, connection: Result<Connection, String>, tell: &Sender<Told>) {
    let connection = match connection {
        Ok(connection) => connection,
        Err(reason) => return drop(tell.send(Told::Heard(Heard::Lost(peer, reason)))),
    };
    let reason = pass(peer, &connection, tell).await;
    let _ = tell.send(Told::Heard(Heard::Lost(peer, reason)));
    connection.close().await;
}

/// Passes on what comes and what goes. Returns why it is over.
async fn pass(peer: Peer, connection: &Connection, tell: &Sender<Told>) -> String {
    let [unreliable, reliable] = &connection.channels[..] else { return "there are two channels".to_owned() };
    let (out, mut outgoing): (_, UnboundedReceiver<(bool, Bytes)>) = unbounded_channel();
    let (mut out, mut opened) = (Some(out), 0);
    loop {
        let event = tokio::select! {
            sent = outgoing.recv() => match sent {
                Some((reliably, bytes)) => {
                    let channel = if reliably { reliable } else { unreliable };
                    // An error is told by the channel, too.
                    let _ = channel.send(BytesMut::from(&bytes[..])).await;
                    continue;
                }
                None => return "closed here".to_owned(),
            },
            () = connection.lost() => return "disconnected".to_owned(),
            event = unreliable.poll() => event,
            event = reliable.poll() => event,
        };
        let told = match event {
            Some(DataChannelEvent::OnMessage(message)) => Told::Heard(Heard::Came(peer, message.data.freeze())),
            Some(DataChannelEvent::OnClose) | None => return "a channel is closed".to_owned(),
            Some(DataChannelEvent::OnOpen) => {
                opened += 1;
                match out.take_if(|_| opened == KINDS.len()) {
                    Some(out) => Told::Opened(peer, out),
                    None => continue,
                }
            }
            Some(_) => continue,
        };
        if tell.send(told).is_err() {
            return "closed here".to_owned();
        }
    }
}

impl Room for Raw {
    fn poll(&mut self) -> Option<Heard> {
        Some(match self.told.try_recv().ok()? {
            Told::Opened(peer, out) => {
                self.peers.insert(peer, out);
                Heard::Opened(peer)
            }
            Told::Heard(heard) => heard,
        })
    }

    fn state(&mut self, peer: Peer, bytes: Bytes) {
        self.send(peer, false, bytes);
    }

    fn event(&mut self, peer: Peer, bytes: Bytes) {
        self.send(peer, true, bytes);
    }
}

impl Raw {
    fn send(&self, peer: Peer, reliably: bool, bytes: Bytes) {
        if let Some(out) = self.peers.get(&peer) {
            // To one that is gone, nothing is sent.
            let _ = out.send((reliably, bytes));
        }
    }
}
