//! A peer, as little of it as there can be: a WebSocket, what our sockets offer by it, and the words that both servers
//! have.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use coplay_proto::signal::lobby::Credentials;
use futures_util::{SinkExt, StreamExt};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue, protocol::WebSocketConfig},
};

use crate::{
    Result,
    server::{Kind, Server},
};

/// Anything that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
    /// Its id, as the server writes it.
    pub(crate) id: String,
}

impl Client {
    /// Joins a room, by the dialect that the server's own peers speak, and waits until it knows who it is.
    pub(crate) async fn join(server: &Server, path: &str) -> Result<Self> {
        let mut client = Self::open(server, path).await?;
        let word = match server.kind {
            Kind::Coplay => "\"Welcome\"",
            Kind::Matchbox => "\"IdAssigned\"",
        };
        let greeting = client.hear(word).await?;
        // The first UUID in it is the peer's own.
        let id = greeting.split('"').find(|word| word.len() == 36 && word.matches('-').count() == 4);
        client.id = id.ok_or("no id in the greeting")?.to_owned();
        Ok(client)
    }

    /// Opens a WebSocket and waits for nothing.
    pub(crate) async fn open(server: &Server, path: &str) -> Result<Self> {
        let mut request = format!("ws://{}{path}", server.address).into_client_request()?;
        if server.kind == Kind::Coplay {
            request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_str(&offers())?);
        }
        let tcp = TcpSocket::new_v4()?;
        tcp.set_nodelay(true)?;
        tcp.bind(next_address())?;
        let tcp = timeout(PATIENCE, tcp.connect(server.address)).await??;
        let config = WebSocketConfig::default().read_buffer_size(2048).write_buffer_size(0);
        let (socket, _) = timeout(PATIENCE, client_async_with_config(request, tcp, Some(config))).await??;
        Ok(Self { socket, id: String::new() })
    }

    /// Reads until a message has `word` in it.
    pub(crate) async fn hear(&mut self, word: &str) -> Result<String> {
        loop {
            match timeout(PATIENCE, self.socket.next()).await? {
                Some(Ok(Message::Text(text))) if text.contains(word) => return Ok(text.to_string()),
                Some(Ok(Message::Close(frame))) => return Err(format!("closed: {frame:?}").into()),
                Some(Ok(_)) => (),
                Some(Err(error)) => return Err(error.into()),
                None => return Err("the connection ended".into()),
            }
        }
    }

    /// Says an offer or an answer of the usual size to another.
    pub(crate) async fn signal(&mut self, to: &str, kind: &str) -> Result {
        let text = format!(r#"{{"Signal":{{"receiver":"{to}","data":{{"{kind}":"{SDP}"}}}}}}"#);
        Ok(self.socket.send(Message::text(text)).await?)
    }

    pub(crate) async fn leave(mut self) {
        let _ = self.socket.close(None).await;
    }
}

/// The subprotocols that a socket of ours offers if nothing else is asked of it: its seat is kept when its connection is
/// lost, and it takes relayed frames. Both cost the server something.
fn offers() -> String {
    Credentials { resumable: true, relays: true, ..Credentials::default() }.subprotocols().join(", ")
}

/// One of this machine's addresses after the other, so that there are ports enough.
fn next_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed) / 8000 % 250;
    SocketAddr::from((Ipv4Addr::new(127, 0, 1, number as u8 + 1), 0))
}

/// A description of a data channel, as JSON has it: it does for an offer and for an answer.
const SDP: &str = concat!(
    "v=0\\r\\no=- 4611731400430051336 2 IN IP4 127.0.0.1\\r\\ns=-\\r\\nt=0 0\\r\\na=group:BUNDLE 0\\r\\n",
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\\r\\nc=IN IP4 0.0.0.0\\r\\na=ice-ufrag:4ZcD\\r\\n",
    "a=ice-pwd:2/1muCWoOi3uLifh0NuRHlQC\\r\\na=ice-options:trickle\\r\\n",
    "a=fingerprint:sha-256 4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AB:11:22:33:44:55:66:77:88:99:AA:BB:CC\\r\\n",
    "a=setup:active\\r\\na=mid:0\\r\\na=sctp-port:5000\\r\\na=max-message-size:262144\\r\\n"
);
