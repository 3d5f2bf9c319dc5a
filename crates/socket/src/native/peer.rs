//! One attempt to connect with one peer: its peer connection, from the first order to its end.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use coplay_proto::{
    Lane,
    signal::{IceServer, Signal},
};
use rtc_ice::mdns::MulticastDnsMode;
use tokio::sync::{mpsc, watch};
use webrtc::{
    error::Result,
    peer_connection::{
        PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder,
        RTCIceCandidateInit, RTCIceConnectionState, RTCIceServer, RTCIceTransportPolicy, RTCPeerConnectionIceEvent,
        RTCPeerConnectionState, RTCSessionDescription, SettingEngineBuilder,
    },
};

use super::{
    engine::Report,
    external::External,
    inbox::Inbox,
    lanes::{self, Inlets, Lanes, RELIABLE_OUTSTANDING},
    path::{self, Signalled},
    ports::{Port, Ports},
    runtime::PeerRuntime,
};
use crate::{IceTransportPolicy, SocketConfig, switchboard::Attempt};

/// How often ICE checks each pair of candidates. By default 200 ms, which is what most of the time to connect was
/// spent on.
const ICE_CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// How long ICE waits for a better pair before it takes a reflexive one (by default 0.5 s; 1 s where the peer saw the
/// address, as with every browser, which hides its own behind mDNS names) or a relayed one (2 s).
const REFLEXIVE_WAIT: Duration = Duration::from_millis(200);
const RELAY_WAIT: Duration = Duration::from_secs(1);
/// Silence after which ICE calls a peer disconnected, and how long after that it gives up (by default 25 s). Longer than
/// the silence after which a link does.
const ICE_DISCONNECTED: Duration = Duration::from_secs(5);
const ICE_FAILED: Duration = Duration::from_secs(10);
/// How often ICE checks the chosen pair; each check measures the round trip.
const ICE_KEEP_ALIVE: Duration = Duration::from_secs(1);
/// How often [`crate::Path`] is brought up to date, and how often it is looked for until there is one.
const PATH_INTERVAL: Duration = Duration::from_secs(1);
const PATH_SEARCH: Duration = Duration::from_millis(100);

/// What the engine wants of an attempt. To stop it, the engine drops the sender.
pub(super) enum Order {
    Describe(Signal),
    Candidate(String),
}

/// What all attempts of a socket share.
pub(super) struct Shared {
    pub(super) config: SocketConfig,
    pub(super) inbox: Inbox,
    pub(super) reports: mpsc::Sender<(Attempt, Report)>,
    pub(super) ports: Arc<Ports>,
    /// Whether joining the mDNS group failed once.
    pub(super) no_mdns: AtomicBool,
}

/// Runs an attempt until it is stopped.
pub(super) async fn run(
    shared: Arc<Shared>,
    attempt: Attempt,
    ice_servers: Arc<[IceServer]>,
    offer: bool,
    inlets: Inlets,
    admitted: watch::Receiver<bool>,
    mut orders: mpsc::Receiver<Order>,
) {
    // Given back when the connection is closed.
    let port = match shared.ports.take().await {
        Ok(port) => port,
        Err(why) => return shared.report(attempt, Report::Failed(why)).await,
    };
    // Until it is known by which path, relays are tried, too.
    let relaying = Arc::new(AtomicBool::new(names_turn(&ice_servers)));
    let connection: Arc<dyn PeerConnection> = match build(&shared, attempt, &ice_servers, &port, &relaying).await {
        Ok(connection) => connection,
        Err(error) => return shared.report(attempt, Report::Failed(error.to_string())).await,
    };
    let traffic = inlets.traffic.clone();
    let signalled = Arc::new(Signalled::default());
    let mut lanes = None;
    // In a task of its own: if webrtc panics on what the peer sent, it costs this connection and no other.
    let obeying = {
        let (shared, connection, signalled) = (shared.clone(), connection.clone(), signalled.clone());
        tokio::spawn(async move {
            match lay(&shared, attempt, &*connection, inlets, &admitted).await {
                Ok(laid) => lanes = Some(laid),
                Err(error) => shared.report(attempt, Report::Failed(error.to_string())).await,
            }
            if offer && let Err(error) = make_offer(&shared, attempt, &*connection).await {
                shared.report(attempt, Report::Failed(error.to_string())).await;
            }
            while let Some(order) = orders.recv().await {
                obey(&shared, attempt, &*connection, &signalled, order).await;
            }
            if let Some(lanes) = lanes {
                lanes.stop().await;
            }
        })
    };
    tokio::pin!(obeying);
    let mut update = PATH_SEARCH;
    loop {
        tokio::select! {
            ended = &mut obeying => {
                if ended.is_err() {
                    let why = "WebRTC could not handle what the peer sent".into();
                    shared.report(attempt, Report::Refused(why)).await;
                }
                break;
            }
            () = tokio::time::sleep(update) => {
                if let Some((path, relayed)) = path::of(&*connection, &signalled).await {
                    relaying.store(relayed, Ordering::Relaxed);
                    if update == PATH_SEARCH {
                        shared.report(attempt, Report::Path(path.kind)).await;
                    }
                    traffic.set_path(path);
                    update = PATH_INTERVAL;
                }
            }
        }
    }
    // Without this, its driver and its sockets would live on.
    if let Err(error) = connection.close().await {
        tracing::debug!(peer = %attempt.peer, %error, "a peer connection did not close");
    }
}

impl Shared {
    pub(super) async fn report(&self, attempt: Attempt, report: Report) {
        let _ = self.reports.send((attempt, report)).await;
    }
}

async fn build(
    shared: &Arc<Shared>,
    attempt: Attempt,
    servers: &[IceServer],
    port: &Port,
    relaying: &Arc<AtomicBool>,
) -> Result<Arc<dyn PeerConnection>> {
    if !shared.no_mdns.load(Ordering::Relaxed) {
        // Looks up the names that browsers hide their addresses behind.
        match try_build(shared, attempt, servers, port, relaying, MulticastDnsMode::QueryOnly).await {
            Ok(connection) => return Ok(connection),
            // On hosts without a multicast route (a container, no network) webrtc's mDNS join fails, and the whole
            // connection with it. Browsers then learn our address from us, and we theirs from their checks.
            Err(error) => {
                tracing::debug!(%error, "mDNS does not work here: hidden addresses will not be looked up");
                shared.no_mdns.store(true, Ordering::Relaxed);
            }
        }
    }
    try_build(shared, attempt, servers, port, relaying, MulticastDnsMode::Disabled).await
}

async fn try_build(
    shared: &Arc<Shared>,
    attempt: Attempt,
    servers: &[IceServer],
    port: &Port,
    relaying: &Arc<AtomicBool>,
    mdns: MulticastDnsMode,
) -> Result<Arc<dyn PeerConnection>> {
    let config = &shared.config;
    let mut servers: Vec<_> = servers.iter().flat_map(usable).collect();
    if config.ice_transport_policy == IceTransportPolicy::Relay {
        servers.push(unasked());
    }
    let policy = match config.ice_transport_policy {
        IceTransportPolicy::All => RTCIceTransportPolicy::All,
        IceTransportPolicy::Relay => RTCIceTransportPolicy::Relay,
    };
    let checks = config.search_time().as_millis() / ICE_CHECK_INTERVAL.as_millis();
    let settings = SettingEngineBuilder::new()
        // As many checks as there is time for: a pair may work only once the peer's checks opened its NAT.
        .with_ice_connection_attempts(Some(ICE_CHECK_INTERVAL), Some(u16::try_from(checks).unwrap_or(u16::MAX).max(7)))
        .with_ice_timeouts(Some(ICE_DISCONNECTED), Some(ICE_FAILED), Some(ICE_KEEP_ALIVE))
        .with_srflx_acceptance_min_wait(Some(REFLEXIVE_WAIT))
        .with_prflx_acceptance_min_wait(Some(REFLEXIVE_WAIT))
        .with_relay_acceptance_min_wait(Some(RELAY_WAIT))
        .with_multicast_dns_mode(mdns)
        .with_include_loopback_candidate(true)
        .build();
    let connection = PeerConnectionBuilder::new()
        .with_configuration(
            RTCConfigurationBuilder::new().with_ice_servers(servers).with_ice_transport_policy(policy).build(),
        )
        .with_setting_engine(settings)
        .with_runtime(Arc::new(PeerRuntime::new(relaying.clone())))
        .with_handler(Arc::new(Callbacks {
            attempt,
            reports: shared.reports.clone(),
            external: Mutex::new(External::new(config.external_ips.clone())),
        }))
        .with_udp_addrs(port.addresses())
        .with_data_channel_send_buffer_limit(RELIABLE_OUTSTANDING)
        .build()
        .await?;
    Ok(Arc::new(connection))
}

fn names_turn(servers: &[IceServer]) -> bool {
    servers.iter().flat_map(|server| &server.urls).any(|url| url.starts_with("turn:"))
}

/// The URLs of a server that webrtc takes, each as a server: one that it does not take would fail the connection.
pub(super) fn usable(server: &IceServer) -> Vec<RTCIceServer> {
    let alone = |url: &String| RTCIceServer {
        urls: vec![url.clone()],
        username: server.username.clone().unwrap_or_default(),
        credential: server.credential.clone().unwrap_or_default(),
    };
    let (usable, others): (Vec<_>, Vec<_>) = server.urls.iter().map(alone).partition(|alone| alone.urls().is_ok());
    for other in others {
        tracing::warn!(url = ?other.urls, "left out an ICE server: its URL is wrong, or it lacks username and credential");
    }
    usable
}

/// A TURN server that is never asked: webrtc passes over those by TLS. But where only relayed paths are allowed, it refuses
/// to make a connection unless one is named; and then no offer is made, and the peer hears nothing.
fn unasked() -> RTCIceServer {
    RTCIceServer { urls: vec!["turns:unasked.invalid".into()], username: "none".into(), credential: "none".into() }
}

/// Lays the two data channels.
async fn lay(
    shared: &Shared,
    attempt: Attempt,
    connection: &dyn PeerConnection,
    inlets: Inlets,
    admitted: &watch::Receiver<bool>,
) -> Result<Lanes> {
    let (label, init) = lanes::channel(Lane::Unreliable);
    let unreliable = connection.create_data_channel(&label, Some(init)).await?;
    let (label, init) = lanes::channel(Lane::Reliable);
    let reliable = connection.create_data_channel(&label, Some(init)).await?;
    Ok(Lanes::serve(attempt, [unreliable, reliable], inlets, admitted, &shared.inbox, &shared.reports))
}

async fn make_offer(shared: &Shared, attempt: Attempt, connection: &dyn PeerConnection) -> Result<()> {
    let offer = connection.create_offer(None).await?;
    let sdp = offer.sdp.clone();
    connection.set_local_description(offer).await?;
    shared.report(attempt, Report::Described(Signal::Offer(sdp))).await;
    Ok(())
}

async fn obey(shared: &Shared, attempt: Attempt, connection: &dyn PeerConnection, signalled: &Signalled, order: Order) {
    match order {
        Order::Describe(description) => {
            if let Err(error) = describe(shared, attempt, connection, description).await {
                shared.report(attempt, Report::Refused(error.to_string())).await;
            }
        }
        Order::Candidate(json) => {
            // An empty or missing one says that there are no more, which webrtc does not need to know.
            let candidate = match serde_json::from_str::<Option<RTCIceCandidateInit>>(&json) {
                Ok(Some(candidate)) if !candidate.candidate.is_empty() => candidate,
                Ok(_) => return,
                Err(error) => return tracing::debug!(peer = %attempt.peer, %error, "passed over a candidate"),
            };
            signalled.note(&candidate.candidate);
            if let Err(error) = connection.add_ice_candidate(candidate).await {
                tracing::debug!(peer = %attempt.peer, %error, "passed over a candidate");
            }
        }
    }
}

async fn describe(
    shared: &Shared,
    attempt: Attempt,
    connection: &dyn PeerConnection,
    description: Signal,
) -> Result<()> {
    match description {
        Signal::Offer(sdp) => {
            connection.set_remote_description(RTCSessionDescription::offer(sdp)?).await?;
            let answer = connection.create_answer(None).await?;
            let sdp = answer.sdp.clone();
            connection.set_local_description(answer).await?;
            shared.report(attempt, Report::Described(Signal::Answer(sdp))).await;
        }
        Signal::Answer(sdp) => connection.set_remote_description(RTCSessionDescription::answer(sdp)?).await?,
        Signal::IceCandidate(_) => {}
    }
    Ok(())
}

/// What webrtc tells us.
struct Callbacks {
    attempt: Attempt,
    reports: mpsc::Sender<(Attempt, Report)>,
    external: Mutex<External>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Callbacks {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        // A socket that is bound to no interface in particular gives an address that nobody can reach.
        if matches!(event.candidate.address.as_str(), "0.0.0.0" | "::") {
            return;
        }
        let external = self.external.lock().unwrap_or_else(PoisonError::into_inner).candidates(&event.candidate);
        for candidate in std::iter::once(event.candidate).chain(external) {
            let json = candidate.to_json().ok().and_then(|init| serde_json::to_string(&init).ok());
            if let Some(json) = json {
                let _ = self.reports.send((self.attempt, Report::Candidate(json))).await;
            }
        }
    }

    async fn on_ice_connection_state_change(&self, state: RTCIceConnectionState) {
        if state == RTCIceConnectionState::Connected {
            let _ = self.reports.send((self.attempt, Report::Reached)).await;
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        if state == RTCPeerConnectionState::Failed {
            let why = "the peer does not answer ICE or DTLS any more".into();
            let _ = self.reports.send((self.attempt, Report::Failed(why))).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(urls: &[&str], credentials: Option<(&str, &str)>) -> IceServer {
        IceServer {
            urls: urls.iter().map(ToString::to_string).collect(),
            username: credentials.map(|(username, _)| username.into()),
            credential: credentials.map(|(_, credential)| credential.into()),
        }
    }

    /// The URLs that are taken of a server, each with its username and credential.
    fn taken(server: &IceServer) -> Vec<(String, String, String)> {
        let one = |mut server: RTCIceServer| (server.urls.remove(0), server.username, server.credential);
        usable(server).into_iter().map(one).collect()
    }

    #[test]
    fn every_url_that_webrtc_takes_is_a_server_with_its_credentials() {
        let urls = [
            "stun:stun.example.org",
            "stun:192.0.2.1:3478",
            "turn:turn.example.org:3478?transport=udp",
            "turn:[2001:db8::1]",
            "turns:turn.example.org:5349?transport=tcp",
        ];
        for credentials in [("name", "secret"), ("1700000000:00000001", "c2VjcmV0")] {
            let expected = urls.map(|url| (url.to_owned(), credentials.0.to_owned(), credentials.1.to_owned()));
            assert_eq!(taken(&server(&urls, Some(credentials))), expected);
        }
        let bare = taken(&server(&["stun:stun.example.org"], None));
        assert_eq!(bare, [("stun:stun.example.org".to_owned(), String::new(), String::new())]);
        assert_eq!(taken(&server(&[], Some(("name", "secret")))), []);
    }

    #[test]
    fn turn_without_a_username_and_credential_is_left_out_and_stun_beside_it_is_not() {
        let urls = ["turn:192.0.2.1", "stun:192.0.2.1", "turns:192.0.2.1"];
        for credentials in [None, Some(("name", "")), Some(("", "secret"))] {
            let taken = taken(&server(&urls, credentials));
            assert_eq!(taken.iter().map(|(url, ..)| url.as_str()).collect::<Vec<_>>(), ["stun:192.0.2.1"]);
        }
    }

    #[test]
    fn what_is_no_url_of_an_ice_server_is_left_out() {
        let not_taken = [
            "",
            ":",
            "nonsense",
            "stun",
            "stun:",
            "stun://192.0.2.1",
            "http:example.org",
            "https://example.org",
            "STUNS+x:192.0.2.1",
            "stun:192.0.2.1?transport=udp",
            "stun:192.0.2.1:65536",
            "turn:192.0.2.1?transport=pigeon",
            "turn:192.0.2.1?transport=udp&transport=tcp",
            "turn:192.0.2.1?x=udp",
            "turn:[2001:db8::1",
            "\u{0}\u{ffff}",
        ];
        for url in not_taken {
            assert_eq!(taken(&server(&[url], Some(("name", "secret")))), [], "{url:?}");
        }
        let among = [&not_taken[..], &["stun:192.0.2.1"]].concat();
        assert_eq!(taken(&server(&among, Some(("name", "secret")))).len(), 1);
    }
}
