//! The `webrtc` crate alone: a peer connection with negotiated data channels. The two sides exchange their descriptions,
//! candidates included, over a WebSocket.

use std::{
    future::Future,
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use rtc_ice::mdns::MulticastDnsMode;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};
use webrtc::{
    data_channel::{DataChannel, RTCDataChannelInit},
    peer_connection::{
        PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder,
        RTCIceGatheringState, RTCPeerConnectionState, RTCSessionDescription, SettingEngineBuilder,
    },
    runtime::{AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, Runtime, TokioRuntime},
};

/// How often each pair of candidates is checked, where it is tuned. By default 200 ms.
const CHECKS: Duration = Duration::from_millis(20);
/// As many as by default fit into as much time.
const ATTEMPTS: u16 = 100;
/// Of the sockets, where it is tuned: by default a burst overflows them.
const SOCKET_BUFFER: usize = 1 << 20;
/// What `send` lets wait on a channel, where it is tuned. By default all.
const SEND_BUFFER: usize = 1 << 20;

/// How the crate is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tuning {
    /// As it comes, but for mDNS: nobody here has a name of it, and its sockets would only disturb each other.
    Default,
    /// As who knows it well sets it up for games: checks every 20 ms, 1 MiB for each socket, and `send` waits while more than
    /// 1 MiB does.
    Tuned,
}

/// What a data channel is like. Its number is where it stands among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Unordered, never retransmitted.
    Unreliable,
    /// In order, all of it.
    Reliable,
}

/// A connection whose descriptions are exchanged. It opens when its channels say so.
pub struct Connection {
    inner: Arc<dyn PeerConnection>,
    /// In the order in which they were asked for.
    pub channels: Vec<Arc<dyn DataChannel>>,
    signals: Arc<Signals>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

/// Offers a connection to who is at the other end of the WebSocket.
///
/// # Errors
/// It came to nothing, and why.
pub async fn offer<S>(socket: &mut WebSocketStream<S>, tuning: Tuning, kinds: &[Kind]) -> Result<Connection, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connection = Connection::new(tuning, kinds).await?;
    let offer = connection.inner.create_offer(None).await.map_err(shown)?;
    connection.inner.set_local_description(offer).await.map_err(shown)?;
    socket.send(Message::Text(connection.described().await.into())).await.map_err(shown)?;
    let answer = RTCSessionDescription::answer(text(socket).await?).map_err(shown)?;
    connection.inner.set_remote_description(answer).await.map_err(shown)?;
    Ok(connection)
}

/// Takes the connection that is offered by who is at the other end of the WebSocket.
///
/// # Errors
/// It came to nothing, and why.
pub async fn answer<S>(socket: &mut WebSocketStream<S>, tuning: Tuning, kinds: &[Kind]) -> Result<Connection, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let offer = RTCSessionDescription::offer(text(socket).await?).map_err(shown)?;
    let connection = Connection::new(tuning, kinds).await?;
    connection.inner.set_remote_description(offer).await.map_err(shown)?;
    let answer = connection.inner.create_answer(None).await.map_err(shown)?;
    connection.inner.set_local_description(answer).await.map_err(shown)?;
    socket.send(Message::Text(connection.described().await.into())).await.map_err(shown)?;
    Ok(connection)
}

impl Connection {
    async fn new(tuning: Tuning, kinds: &[Kind]) -> Result<Self, String> {
        let signals = Arc::<Signals>::default();
        let settings = SettingEngineBuilder::new().with_multicast_dns_mode(MulticastDnsMode::Disabled);
        let builder = PeerConnectionBuilder::new()
            .with_configuration(RTCConfigurationBuilder::new().build())
            .with_handler(signals.clone())
            .with_udp_addrs(vec!["0.0.0.0:0"]);
        let builder = match tuning {
            Tuning::Default => builder.with_setting_engine(settings.build()),
            Tuning::Tuned => builder
                .with_setting_engine(settings.with_ice_connection_attempts(Some(CHECKS), Some(ATTEMPTS)).build())
                .with_data_channel_send_buffer_limit(SEND_BUFFER)
                .with_runtime(Arc::new(Buffered)),
        };
        let inner: Arc<dyn PeerConnection> = Arc::new(builder.build().await.map_err(shown)?);
        let mut channels = Vec::new();
        for (kind, number) in kinds.iter().zip(0..) {
            let (ordered, max_retransmits) = match kind {
                Kind::Unreliable => (false, Some(0)),
                Kind::Reliable => (true, None),
            };
            let negotiated = Some(number);
            let init = RTCDataChannelInit { ordered, max_retransmits, negotiated, ..RTCDataChannelInit::default() };
            channels.push(inner.create_data_channel(&format!("{number}"), Some(init)).await.map_err(shown)?);
        }
        Ok(Self { inner, channels, signals })
    }

    /// The description with all candidates.
    async fn described(&self) -> String {
        self.signals.gathered.notified().await;
        self.inner.local_description().await.map(|description| description.sdp).unwrap_or_default()
    }

    /// Waits until it says that the peer does not answer.
    pub async fn lost(&self) {
        self.signals.lost.notified().await;
    }

    /// Ends it.
    pub async fn close(&self) {
        // One that is over already is closed.
        let _ = self.inner.close().await;
    }
}

/// What a connection tells of itself.
#[derive(Default)]
struct Signals {
    /// All candidates are there.
    gathered: Notify,
    /// The peer does not answer any more, as ICE finds.
    lost: Notify,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Signals {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.gathered.notify_one();
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        use RTCPeerConnectionState::{Closed, Disconnected, Failed};
        if matches!(state, Disconnected | Failed | Closed) {
            self.lost.notify_one();
        }
    }
}

/// The next text that comes.
async fn text<S>(socket: &mut WebSocketStream<S>) -> Result<String, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text.to_string()),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.to_string()),
            None => return Err("the other side says nothing".to_owned()),
        }
    }
}

fn shown(error: impl std::fmt::Display) -> String {
    error.to_string()
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// [`TokioRuntime`], but for the buffers of its sockets.
#[derive(Debug)]
struct Buffered;

impl Runtime for Buffered {
    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let options = SockRef::from(&socket);
        // The system may give less, which is no reason to fail.
        let _ = options.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = options.set_send_buffer_size(SOCKET_BUFFER);
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn spawn(&self, future: Boxed<'static, ()>) -> Box<dyn JoinHandle> {
        TokioRuntime.spawn(future)
    }

    fn wrap_tcp_listener(&self, listener: TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        TokioRuntime.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(&'a self, address: SocketAddr) -> Boxed<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        TokioRuntime.connect_tcp(address)
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Boxed<'a, io::Result<Vec<SocketAddr>>> {
        TokioRuntime.resolve_host(host)
    }

    fn sleep(&self, duration: Duration) -> Boxed<'static, ()> {
        TokioRuntime.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        TokioRuntime.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        TokioRuntime.block_on(future);
    }

    fn yield_now(&self) -> Boxed<'static, ()> {
        TokioRuntime.yield_now()
    }

    fn name(&self) -> &'static str {
        "buffered"
    }
}
