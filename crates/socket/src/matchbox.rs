//! How is the connection to one peer made by `matchbox_socket`? As a room of two, whose signaling is our switchboard.
//!
//! A `WebRtcSocket` connects with everybody in its room and can get rid of nobody; so each attempt has one of its own, and
//! what it takes for a signaling server is a [`Line`] that ends here:
//!
//! ```text
//!   switchboard ──Describe, Candidate──▶ Link::tell ──▶ Line ──▶ WebRtcSocket
//!               ◀──News::Signal──────── Link::poll ◀── Line ◀──┘   │  ▲
//!   socket      ◀──News::Received─────────────────◀────channels────┘  │
//!               ──Link::send──▶───────────────────────────────────────┘
//! ```
//!
//! So signaling, rooms, who leads and who is given up when are the same as with our own connections, and what matchbox
//! does not do (`docs/MATCHBOX.md`) concerns one link at a time.

#[cfg(target_arch = "wasm32")]
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{
    collections::VecDeque,
    future::pending,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use coplay_proto::{
    Lane, PeerId,
    signal::{IceServer, Signal},
};
use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_util::StreamExt;
#[cfg(not(target_arch = "wasm32"))]
use matchbox_socket::CandidateType;
use matchbox_socket::{
    ChannelConfig, MessageLoopFuture, PeerEvent, PeerRequest, PeerSignal, PeerState, RtcIceServerConfig,
    SignalingError, Signaller, SignallerBuilder, WebRtcSocket, async_trait,
};

#[cfg(not(target_arch = "wasm32"))]
use crate::{Path, PathKind};

/// The most datagrams that are kept of a peer whose second channel is not open yet.
const MAX_EARLY: usize = 64;

/// One attempt to connect with a peer, and the connection that comes of it. Dropping it closes the connection on native;
/// in the browser matchbox leaves that to whoever holds the connection.
pub(crate) struct Link {
    peer: matchbox_socket::PeerId,
    socket: WebRtcSocket,
    message_loop: MessageLoopFuture,
    /// As many as the switchboard lets through: one description, 64 candidates.
    signals_in: UnboundedSender<PeerEvent>,
    /// As many as this machine has addresses, and a description.
    signals_out: UnboundedReceiver<PeerRequest>,
    stage: Stage,
    /// What came before both lanes were open.
    early: Vec<(Lane, Bytes)>,
    /// What the last turn of the message loop brought. Before it is taken there is no other turn.
    news: VecDeque<News>,
    /// Bytes that matchbox has been handed, and has not passed on to the browser.
    #[cfg(target_arch = "wasm32")]
    handed: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connecting,
    Open,
    Over,
}

/// What comes of a link.
#[derive(Debug, PartialEq)]
pub(crate) enum News {
    /// For the peer: our description, or a candidate.
    Signal(Signal),
    /// Both lanes are open.
    Open,
    /// A datagram came. Never before [`Self::Open`].
    Received(Lane, Bytes),
    /// The peer closed the connection, or it was lost: matchbox does not say which.
    Closed,
    /// There is no connection, or none any more.
    Failed(String),
}

impl Link {
    /// Begins, with an offer if that is ours to make. All URLs of `servers` are to be ones that this platform takes: of
    /// another, matchbox panics.
    pub(crate) fn open(peer: PeerId, servers: &[IceServer], offer: bool) -> Self {
        let (signals_in, events) = unbounded();
        let (requests, signals_out) = unbounded();
        let line = Line { events, requests };
        let (socket, message_loop) = WebRtcSocket::builder("the switchboard")
            .signaller_builder(Arc::new(OneLine(Mutex::new(Some(line)))))
            .signaling_keep_alive_interval(None)
            .ice_server(merged(servers))
            .add_channel(ChannelConfig::unreliable())
            .add_channel(ChannelConfig::reliable())
            .build();
        let peer = matchbox_socket::PeerId(peer.into());
        let link = Self {
            peer,
            socket,
            message_loop,
            signals_in,
            signals_out,
            stage: Stage::Connecting,
            early: Vec::new(),
            news: VecDeque::new(),
            #[cfg(target_arch = "wasm32")]
            handed: Arc::default(),
        };
        // Who we are in this room of two is of no interest to anybody.
        link.hear(PeerEvent::IdAssigned(matchbox_socket::PeerId(PeerId::from_u128(0).into())));
        if offer {
            link.hear(PeerEvent::NewPeer(peer));
        }
        link
    }

    /// Hands over a signal of the peer.
    pub(crate) fn tell(&self, signal: Signal) {
        let data = match signal {
            Signal::Offer(sdp) => PeerSignal::Offer(sdp),
            Signal::Answer(sdp) => PeerSignal::Answer(sdp),
            Signal::IceCandidate(json) => PeerSignal::IceCandidate(json),
        };
        self.hear(PeerEvent::Signal { sender: self.peer, data });
    }

    fn hear(&self, event: PeerEvent) {
        // It fails when the link is over.
        let _ = self.signals_in.unbounded_send(event);
    }

    /// Hands a datagram to matchbox, which passes it on when the link is polled. Nothing says what becomes of it then.
    pub(crate) fn send(&mut self, lane: Lane, bytes: Bytes) {
        #[cfg(target_arch = "wasm32")]
        let bytes = Counted::of(bytes, &self.handed);
        // It fails when the link is over.
        let _ = self.socket.channel_mut(index(lane)).try_send(bytes, self.peer);
    }

    /// How many bytes were handed to matchbox and not yet to the browser, which says how many wait there.
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn handed(&self) -> usize {
        self.handed.load(Ordering::Relaxed)
    }

    /// By what kinds of candidates the peer is reached; the browser itself says more. Known about a second after the link
    /// opened; matchbox tells no addresses, no round trip, and counts nothing.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn path(&self) -> Option<Path> {
        let pair = self.socket.candidate_pair(self.peer)?;
        let (local, remote) = (kind(pair.local), kind(pair.remote));
        Some(Path {
            kind: local.max(remote),
            local: format!("udp ? {local}"),
            remote: format!("udp ? {remote}"),
            rtt: None,
            bytes_sent: 0,
            bytes_received: 0,
        })
    }

    /// The next thing that happened. All of the link's work is done in here; after [`News::Closed`] and [`News::Failed`]
    /// there is none.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<News> {
        if let Some(news) = self.news.pop_front() {
            return Poll::Ready(news);
        }
        if self.stage == Stage::Over {
            return Poll::Pending;
        }
        let mut end = None;
        if let Poll::Ready(ended) = self.message_loop.as_mut().poll(cx) {
            let why = ended.err().map_or_else(|| "matchbox_socket has ended".to_owned(), |error| error.to_string());
            end = Some(News::Failed(why));
        }
        // An error says that the message loop has ended, which is known.
        for (_, state) in self.socket.try_update_peers().unwrap_or_default() {
            match state {
                PeerState::Connected => {
                    self.stage = Stage::Open;
                    self.news.push_back(News::Open);
                    let early = self.early.drain(..);
                    self.news.extend(early.map(|(lane, bytes)| News::Received(lane, bytes)));
                }
                PeerState::Disconnected => end = Some(News::Closed),
            }
        }
        end = self.gather(cx).or(end);
        if let Some(end) = end {
            self.stage = Stage::Over;
            self.news.push_back(end);
        }
        self.news.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    /// Takes what there is of signals and datagrams. Returns the end, if the peer is to blame for one.
    fn gather(&mut self, cx: &mut Context<'_>) -> Option<News> {
        while let Poll::Ready(Some(request)) = self.signals_out.poll_next_unpin(cx) {
            let PeerRequest::Signal { data, .. } = request else { continue };
            self.news.extend(signal(data).map(News::Signal));
        }
        for lane in [Lane::Unreliable, Lane::Reliable] {
            while let Poll::Ready(Some((_, bytes))) = self.socket.channel_mut(index(lane)).poll_next_unpin(cx) {
                if self.stage == Stage::Open {
                    self.news.push_back(News::Received(lane, bytes));
                } else if self.early.len() < MAX_EARLY {
                    self.early.push((lane, bytes));
                } else if lane == Lane::Reliable {
                    return Some(News::Failed("the peer sends before it is connected".into()));
                }
            }
        }
        None
    }
}

/// A signal of ours, for the peer. `null` says that there are no more candidates, which nobody needs to know.
fn signal(signal: PeerSignal) -> Option<Signal> {
    match signal {
        PeerSignal::Offer(sdp) => Some(Signal::Offer(sdp)),
        PeerSignal::Answer(sdp) => Some(Signal::Answer(sdp)),
        PeerSignal::IceCandidate(json) if json == "null" => None,
        PeerSignal::IceCandidate(json) => Some(Signal::IceCandidate(json)),
    }
}

/// The channel of a lane: the same as with our own connections.
const fn index(lane: Lane) -> usize {
    match lane {
        Lane::Unreliable => 0,
        Lane::Reliable => 1,
    }
}

#[cfg(not(target_arch = "wasm32"))]
const fn kind(candidate: CandidateType) -> PathKind {
    match candidate {
        CandidateType::Host => PathKind::Host,
        CandidateType::ServerReflexive => PathKind::ServerReflexive,
        CandidateType::PeerReflexive => PathKind::PeerReflexive,
        CandidateType::Relay => PathKind::Relay,
    }
}

/// All servers as the one that matchbox takes, with one username and credential: those of the first TURN server. TURN
/// servers with others are left out.
fn merged(servers: &[IceServer]) -> RtcIceServerConfig {
    let login = |server: &IceServer| server.username.clone().zip(server.credential.clone());
    let is_turn = |url: &str| url.starts_with("turn");
    let first = servers.iter().filter(|server| server.urls.iter().any(|url| is_turn(url))).find_map(login);
    let mut urls = Vec::new();
    for server in servers {
        let same = login(server) == first;
        let (taken, left): (Vec<_>, Vec<_>) = server.urls.iter().cloned().partition(|url| same || !is_turn(url));
        urls.extend(taken);
        if !left.is_empty() {
            tracing::warn!(urls = ?left, "left out TURN servers: matchbox takes one username and credential for all");
        }
    }
    let (username, credential) = first.unzip();
    RtcIceServerConfig { urls, username, credential }
}

/// A datagram, counted as handed over until matchbox drops it.
#[cfg(target_arch = "wasm32")]
struct Counted {
    bytes: Bytes,
    handed: Arc<AtomicUsize>,
}

#[cfg(target_arch = "wasm32")]
impl Counted {
    fn of(bytes: Bytes, handed: &Arc<AtomicUsize>) -> Bytes {
        handed.fetch_add(bytes.len(), Ordering::Relaxed);
        Bytes::from_owner(Self { bytes, handed: handed.clone() })
    }
}

#[cfg(target_arch = "wasm32")]
impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(target_arch = "wasm32")]
impl Drop for Counted {
    fn drop(&mut self) {
        self.handed.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

/// What matchbox takes for its connection to a signaling server.
#[derive(Debug)]
struct Line {
    events: UnboundedReceiver<PeerEvent>,
    requests: UnboundedSender<PeerRequest>,
}

#[cfg_attr(not(target_arch = "wasm32"), async_trait::async_trait)]
#[cfg_attr(target_arch = "wasm32", async_trait::async_trait(?Send))]
impl Signaller for Line {
    async fn send(&mut self, request: PeerRequest) -> Result<(), SignalingError> {
        self.requests.unbounded_send(request).map_err(|_| SignalingError::StreamExhausted)
    }

    async fn next_message(&mut self) -> Result<PeerEvent, SignalingError> {
        match self.events.next().await {
            Some(event) => Ok(event),
            // The link is being dropped. An end of signaling would be news to matchbox.
            None => pending().await,
        }
    }
}

/// The line, to be taken once.
#[derive(Debug)]
struct OneLine(Mutex<Option<Line>>);

#[cfg_attr(not(target_arch = "wasm32"), async_trait::async_trait)]
#[cfg_attr(target_arch = "wasm32", async_trait::async_trait(?Send))]
impl SignallerBuilder for OneLine {
    async fn new_signaller(&self, _attempts: Option<u16>, _url: String) -> Result<Box<dyn Signaller>, SignalingError> {
        let line = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match line {
            Some(line) => Ok(Box::new(line)),
            None => Err(SignalingError::UserImplementationError("there is one line".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(urls: &[&str], login: Option<(&str, &str)>) -> IceServer {
        IceServer {
            urls: urls.iter().map(ToString::to_string).collect(),
            username: login.map(|(username, _)| username.into()),
            credential: login.map(|(_, credential)| credential.into()),
        }
    }

    #[test]
    fn all_servers_become_one_with_the_first_login() {
        let servers = [
            server(&["stun:a"], None),
            server(&["turn:b", "turn:b?transport=tcp"], Some(("one", "secret"))),
            server(&["turn:c", "stun:c"], Some(("other", "secret"))),
            server(&["turns:d"], Some(("one", "secret"))),
            server(&["turn:e"], None),
        ];
        let RtcIceServerConfig { urls, username, credential } = merged(&servers);
        assert_eq!(urls, ["stun:a", "turn:b", "turn:b?transport=tcp", "stun:c", "turns:d"]);
        assert_eq!((username.as_deref(), credential.as_deref()), (Some("one"), Some("secret")));
        let RtcIceServerConfig { urls, username, credential } = merged(&[server(&["stun:a"], None)]);
        assert_eq!((urls.len(), username, credential), (1, None, None));
        assert_eq!(merged(&[]).urls, Vec::<String>::new(), "not even matchbox's own");
    }

    #[test]
    fn the_end_of_candidates_is_not_passed_on() {
        assert_eq!(signal(PeerSignal::IceCandidate("null".into())), None);
        let candidate = PeerSignal::IceCandidate("{}".into());
        assert_eq!(signal(candidate), Some(Signal::IceCandidate("{}".into())));
    }
}
