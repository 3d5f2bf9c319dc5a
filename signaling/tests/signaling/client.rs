//! A peer, as plain as can be: a WebSocket, and what was said on it.

use std::{fmt::Debug, net::SocketAddr, time::Duration};

use coplay_proto::{
    PeerId,
    signal::{ClientMessage, SUBPROTOCOL, ServerMessage, Signal, SignalError, Welcome, lobby::Credentials},
};
use coplay_signaling::{Config, Occupancy, Running, Signaling, Stun};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest, http::HeaderValue},
};

/// Anything that takes longer than this does not happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server for one test.
pub(crate) fn start(config: Config) -> Running {
    Signaling::spawn(config).unwrap()
}

/// One with the defaults, but no STUN.
pub(crate) fn plain() -> Running {
    start(Config::local().stun(Stun::Off))
}

/// What `future` comes to, or a failed test.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

/// Waits until so much of the server is in use.
pub(crate) async fn until(server: &Running, wanted: Occupancy) {
    let start = Instant::now();
    while server.occupancy() != wanted {
        assert!(start.elapsed() < PATIENCE, "{:?} and not {wanted:?}", server.occupancy());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<TcpStream>,
    pub(crate) me: PeerId,
}

impl Client {
    /// A peer with the subprotocol, and how it was received.
    pub(crate) async fn coplay(server: &Running, path: &str) -> (Self, Box<Welcome>) {
        let mut client = Self::open(server, path, true).await.unwrap();
        match client.next().await {
            ServerMessage::Welcome(welcome) => {
                client.me = welcome.me;
                (client, welcome)
            }
            other => panic!("{path}: {other:?}"),
        }
    }

    /// A peer as `matchbox_socket` is one.
    pub(crate) async fn stock(server: &Running, path: &str) -> Self {
        let mut client = Self::open(server, path, false).await.unwrap();
        match client.next().await {
            ServerMessage::IdAssigned(me) => client.me = me,
            other => panic!("{path}: {other:?}"),
        }
        client
    }

    /// Opens a WebSocket and waits for nothing.
    pub(crate) async fn open(server: &Running, path: &str, coplay: bool) -> Result<Self, Error> {
        Self::open_at(server.local_addr(), &format!("{}{path}", server.url()), coplay).await
    }

    /// The same at an address.
    pub(crate) async fn open_at(address: SocketAddr, url: &str, coplay: bool) -> Result<Self, Error> {
        Self::offering(address, url, if coplay { SUBPROTOCOL } else { "" }, "127.0.0.1").await
    }

    /// A peer with the subprotocol and more to offer, from an address of this machine.
    pub(crate) async fn from(
        server: &Running,
        path: &str,
        credentials: &Credentials,
        from: &str,
    ) -> Result<(Self, Box<Welcome>), SignalError> {
        let (url, offers) = (format!("{}{path}", server.url()), credentials.subprotocols().join(", "));
        let mut client = Self::offering(server.local_addr(), &url, &offers, from).await.unwrap();
        match client.next().await {
            ServerMessage::Welcome(welcome) => {
                client.me = welcome.me;
                Ok((client, welcome))
            }
            ServerMessage::Error(error) => {
                assert!(client.closed().await.is_some_and(|code| code > 4000), "{error}");
                Err(error)
            }
            other => panic!("{path}: {other:?}"),
        }
    }

    /// A peer with the subprotocol and more to offer, before it was told anything.
    pub(crate) async fn wait(server: &Running, path: &str, credentials: &Credentials) -> Self {
        Self::wait_from(server, path, credentials, "127.0.0.1").await
    }

    /// The same from an address of this machine.
    pub(crate) async fn wait_from(server: &Running, path: &str, credentials: &Credentials, from: &str) -> Self {
        let (url, offers) = (format!("{}{path}", server.url()), credentials.subprotocols().join(", "));
        Self::offering(server.local_addr(), &url, &offers, from).await.unwrap()
    }

    async fn offering(address: SocketAddr, url: &str, offers: &str, from: &str) -> Result<Self, Error> {
        let mut request = url.into_client_request()?;
        if !offers.is_empty() {
            request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_str(offers)?);
        }
        // Little may wait in the kernel, so that a peer that does not read is soon noticed.
        let tcp = TcpSocket::new_v4()?;
        tcp.set_recv_buffer_size(16 * 1024)?;
        tcp.bind(SocketAddr::new(from.parse().unwrap(), 0))?;
        let tcp = tcp.connect(address).await?;
        let (socket, _) = soon("the handshake", client_async(request, tcp)).await?;
        Ok(Self { socket, me: PeerId::from_u128(0) })
    }

    /// Why a peer with the subprotocol is refused, and the close code of it.
    pub(crate) async fn refused(server: &Running, path: &str) -> (SignalError, u16) {
        let mut client = Self::open(server, path, true).await.unwrap();
        client.dismissed().await
    }

    /// The HTTP status that a peer without it is refused with, and the text.
    pub(crate) async fn denied(server: &Running, path: &str) -> (u16, String) {
        match Self::open(server, path, false).await {
            Err(Error::Http(response)) => {
                let text = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                (response.status().as_u16(), text.into_owned())
            }
            Err(error) => panic!("{path}: {error}"),
            Ok(_) => panic!("{path}: was let in"),
        }
    }

    /// The error that comes next, and the close code that follows it.
    pub(crate) async fn dismissed(&mut self) -> (SignalError, u16) {
        match self.next().await {
            ServerMessage::Error(error) => (error, self.closed().await.expect("a close code")),
            other => panic!("{other:?}"),
        }
    }

    /// What the server says next.
    pub(crate) async fn next(&mut self) -> ServerMessage {
        serde_json::from_str(&self.text().await).unwrap()
    }

    /// The same as text.
    pub(crate) async fn text(&mut self) -> String {
        loop {
            match soon("a message", self.socket.next()).await {
                Some(Ok(Message::Text(text))) => return text.as_str().to_owned(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => (),
                other => panic!("{other:?} and not a message"),
            }
        }
    }

    /// What comes next is this.
    pub(crate) async fn hears(&mut self, expected: ServerMessage) {
        assert_eq!(self.next().await, expected);
    }

    /// Reads whatever there is until the server closes; its code, or `None` where the connection just broke.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        loop {
            match soon("the end", self.socket.next()).await {
                Some(Ok(Message::Close(frame))) => {
                    // Reading on is what answers it.
                    let _ = soon("the connection to end", self.socket.next()).await;
                    return frame.map(|frame| frame.code.into());
                }
                Some(Ok(_)) => (),
                Some(Err(_)) | None => return None,
            }
        }
    }

    pub(crate) async fn say(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).await.unwrap();
    }

    pub(crate) async fn tell(&mut self, message: &ClientMessage) {
        self.say(serde_json::to_string(message).unwrap()).await;
    }

    pub(crate) async fn signal(&mut self, receiver: PeerId, data: Signal) {
        self.say(serde_json::to_string(&ClientMessage::Signal { receiver, data }).unwrap()).await;
    }

    /// Sends `other` a candidate and sees it arrive as the next thing: the pair is connected by signaling, and `other`
    /// has heard nothing else meanwhile.
    pub(crate) async fn reaches(&mut self, other: &mut Self) {
        let data = candidate();
        self.signal(other.me, data.clone()).await;
        other.hears(ServerMessage::Signal { sender: self.me, data }).await;
    }

    /// The same with an offer: the two begin.
    pub(crate) async fn offers(&mut self, other: &mut Self) {
        self.signal(other.me, offer("x")).await;
        other.hears(ServerMessage::Signal { sender: self.me, data: offer("x") }).await;
    }

    /// Closes the WebSocket as a peer does that leaves.
    pub(crate) async fn leave(mut self) {
        self.socket.close(None).await.unwrap();
        self.closed().await;
    }
}

/// An offer that has `word` in it.
pub(crate) fn offer(word: impl AsRef<str>) -> Signal {
    Signal::Offer(sdp(word.as_ref(), "actpass"))
}

/// An answer that has `word` in it.
pub(crate) fn answer(word: &str) -> Signal {
    Signal::Answer(sdp(word, "active"))
}

/// A candidate as browsers send it.
pub(crate) fn candidate() -> Signal {
    Signal::IceCandidate(
        r#"{"candidate":"candidate:1 1 udp 2130706431 192.0.2.1 9 typ host","sdpMid":"0","sdpMLineIndex":0}"#.into(),
    )
}

/// As much of a session description as the server looks at, with `word` as the session's name.
fn sdp(word: &str, setup: &str) -> String {
    let fingerprint = ["AB"; 32].join(":");
    format!(
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns={word}\r\nt=0 0\r\na=fingerprint:sha-256 {fingerprint}\r\n\
         m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=setup:{setup}\r\na=mid:0\r\na=ice-ufrag:8hhY\r\n\
         a=ice-pwd:asd88fgpdd777uzjYhagZg\r\n"
    )
}

/// The whole answer to an HTTP request, the connection of which is closed after it.
pub(crate) async fn http(server: &Running, path: &str) -> String {
    raw(server, &format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")).await
}

/// Everything that comes back for `bytes`, until the server closes.
pub(crate) async fn raw(server: &Running, bytes: impl AsRef<[u8]> + Debug) -> String {
    raw_at(server.local_addr(), bytes).await
}

/// The same at an address.
pub(crate) async fn raw_at(address: SocketAddr, bytes: impl AsRef<[u8]> + Debug) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_ref()).await.unwrap();
    let mut answer = Vec::new();
    let _ = soon("the server to close", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}
