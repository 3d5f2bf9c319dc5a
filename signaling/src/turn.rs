//! How do two peers play that cannot reach each other? Through the embedded TURN server (RFC 8656).
//!
//! ```text
//!   client ──UDP port of STUN──▶ guard ──what may be done──▶ allocations of the `turn` crate
//!     ▲                            │ Binding requests: answered here              │
//!     └────────── downlink ◀───────┴───────────────────────────── relay ◀─────────┘ ◀──▶ peer
//! ```
//!
//! `guard` says who may ask for what, `relay` what passes; `ledger`, `strangers` and `tokens` how much of it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use coplay_proto::PeerId;
use tokio::{net::UdpSocket, sync::Notify};
use uuid::Uuid;

use self::{
    counters::Counters,
    credentials::Revoked,
    downlink::Downlink,
    guard::{Guard, MAX_PACKET},
    ledger::{Ledger, Quotas},
    nonce::Nonces,
    relay::{Family, Harbour},
    rules::Rules,
    tokens::Refill,
};
use crate::{Secret, StartError};

pub use self::{
    counters::RelayStats,
    settings::{EmbeddedTurn, RelayRate},
};

mod counters;
mod credentials;
mod downlink;
mod guard;
mod ledger;
mod nonce;
mod relay;
mod rules;
mod settings;
mod strangers;
mod tokens;

/// What a client may send each second, however little it may relay: requests must get through.
const MIN_PACKETS: u32 = 64;
/// Waited after the socket reported an error, so that one that lasts does not take a whole core.
const AFTER_ERROR: Duration = Duration::from_millis(20);

/// The embedded TURN server of a signaling server that runs, to look at and to end what a peer relays.
#[derive(Clone, Debug)]
pub struct Relays(Arc<Shared>);

impl Relays {
    /// Ends every allocation of `peer` and has its credentials hold no more: for one that was kicked. One that just
    /// leaves keeps what it has until its credentials expire, because links outlive signaling.
    pub fn revoke(&self, peer: PeerId) {
        let now = SystemTime::now();
        let end = now.checked_add(self.0.ttl).unwrap_or(now);
        self.0.revoked.lock().unwrap_or_else(PoisonError::into_inner).add(peer, end, now);
        self.0.revocation.notify_one();
    }

    /// What was done so far.
    pub fn stats(&self) -> RelayStats {
        self.0.counters.read(self.0.ledger.count())
    }

    /// What peers are told: the URL of the server, for who reached signaling by the host name `host`.
    pub(crate) fn urls(&self, host: Option<&str>) -> Vec<String> {
        let port = self.0.port;
        let external = self.0.external_ips.iter().map(|ip| format!("turn:{}", SocketAddr::new(*ip, port)));
        let urls: Vec<_> = external.collect();
        match host {
            Some(host) if urls.is_empty() => vec![format!("turn:{host}:{port}")],
            _ => urls,
        }
    }

    /// What credentials are signed with, and how long they last.
    pub(crate) fn signing(&self) -> Option<(&Secret, Duration)> {
        Some((self.0.secrets.first()?, self.0.ttl))
    }
}

/// What a running server and those who look at it share.
#[derive(Debug)]
struct Shared {
    port: u16,
    external_ips: Vec<IpAddr>,
    secrets: Vec<Secret>,
    ttl: Duration,
    ledger: Arc<Ledger>,
    counters: Arc<Counters>,
    revoked: Mutex<Revoked>,
    revocation: Notify,
}

/// An embedded TURN server that has its socket, and serves nobody yet.
#[derive(Debug)]
pub(crate) struct TurnServer {
    shared: Arc<Shared>,
    rules: Arc<Rules>,
    families: [Option<Family>; 2],
    address: SocketAddr,
    rate: RelayRate,
}

impl TurnServer {
    /// One that listens at `address` (UDP).
    pub(crate) fn new(settings: EmbeddedTurn, address: SocketAddr) -> Result<Self, StartError> {
        let EmbeddedTurn { ports, external_ips, secrets, .. } = &settings;
        if *ports.start() == 0 || ports.is_empty() {
            return Err(StartError::TurnPorts { first: *ports.start(), last: *ports.end() });
        }
        let usable = |ip: &IpAddr| !ip.is_unspecified() && !ip.is_multicast();
        if let Some(ip) = external_ips.iter().find(|ip| !usable(ip)) {
            return Err(StartError::TurnAddress { ip: *ip });
        }
        if secrets.iter().any(|secret| secret.expose().is_empty()) {
            return Err(StartError::TurnSecret);
        }
        let families = families(address.ip(), external_ips);
        let relays: Vec<IpAddr> = families.iter().flatten().map(|family| family.external).collect();
        let mut own = interfaces();
        own.extend(relays.iter().chain([&address.ip()]));
        let rules = Rules { allow_private: settings.allow_private, own, relays, ports: ports.clone() };
        let drawn = || vec![Secret::from(format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()))];
        // What it relays, and as much again for requests and what is dropped.
        let twice = settings.rate.packets.saturating_mul(2).max(MIN_PACKETS);
        let packets = Refill { burst: twice, rate: twice };
        let quotas = Quotas {
            peer: settings.peer_allocations,
            address: settings.address_allocations,
            total: settings.allocations,
        };
        let shared = Shared {
            port: address.port(),
            external_ips: external_ips.clone(),
            secrets: if secrets.is_empty() { drawn() } else { secrets.clone() },
            ttl: settings.ttl,
            ledger: Ledger::new(quotas, packets),
            counters: Arc::default(),
            revoked: Mutex::default(),
            revocation: Notify::new(),
        };
        Ok(Self { shared: Arc::new(shared), rules: Arc::new(rules), families, address, rate: settings.rate })
    }

    pub(crate) fn relays(&self) -> Relays {
        Relays(self.shared.clone())
    }

    /// Where others reach relays, if that is only by a private network.
    pub(crate) fn private_address(&self) -> Option<IpAddr> {
        let public = Rules { allow_private: false, own: Vec::new(), relays: Vec::new(), ports: 1..=1 };
        let relays = self.families.iter().flatten().map(|family| family.external);
        relays.into_iter().find(|ip| !public.permit_some(*ip))
    }

    /// Serves STUN and TURN on `socket`, forever.
    pub(crate) async fn serve(self, socket: UdpSocket) {
        let Self { shared, rules, families, address, rate } = self;
        let harbour = Harbour::new(families, rules, shared.counters.clone(), rate);
        let key = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
        let Some(nonces) = Nonces::new(&key) else { return };
        // Until the runtime has heard once that the socket takes datagrams, it gives none to it.
        if let Err(error) = socket.writable().await {
            tracing::error!(%error, "the TURN socket does not work");
        }
        let downlink = Arc::new(Downlink::new(socket, address));
        let mut guard = Guard::new(shared.clone(), downlink.clone(), harbour, nonces);
        let mut buffer = [0; MAX_PACKET + 1];
        loop {
            tokio::select! {
                biased;
                () = shared.revocation.notified() => guard.end_revoked().await,
                received = downlink.receive(&mut buffer) => match received {
                    Ok((bytes, from)) => {
                        if let Some(packet) = buffer.get(..bytes) {
                            guard.take(packet, from).await;
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%error, "cannot read from the TURN socket");
                        tokio::time::sleep(AFTER_ERROR).await;
                    }
                },
            }
        }
    }
}

/// Where relays listen and are reached, IPv4 and IPv6, for a server that listens at `listen`.
fn families(listen: IpAddr, external: &[IpAddr]) -> [Option<Family>; 2] {
    let family = |any: IpAddr, loopback: IpAddr, elsewhere: &str| {
        let same = |ip: &IpAddr| ip.is_ipv4() == any.is_ipv4();
        let external = external.iter().copied().find(same);
        // A socket that listens at :: hears IPv4 as well.
        if listen.is_unspecified() && (same(&listen) || any.is_ipv4()) {
            let external =
                external.or_else(|| address_to(any, elsewhere)).or_else(|| any.is_ipv4().then_some(loopback))?;
            return Some(Family { bind: any, external, internal: loopback });
        }
        same(&listen).then(|| Family { bind: listen, external: external.unwrap_or(listen), internal: listen })
    };
    [
        family(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::LOCALHOST.into(), "192.0.2.1:9"),
        family(Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into(), "[2001:db8::1]:9"),
    ]
}

/// The address that this machine has for others, by its default route. Nothing is sent.
fn address_to(any: IpAddr, elsewhere: &str) -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind((any, 0)).ok()?;
    socket.connect(elsewhere).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Every address of this machine.
fn interfaces() -> Vec<IpAddr> {
    let interfaces = webrtc_util::ifaces::ifaces().unwrap_or_else(|error| {
        tracing::warn!(
            %error,
            "the addresses of this machine cannot be listed: TURN may relay to them where they are public; let the \
             service use AF_NETLINK sockets"
        );
        Vec::new()
    });
    interfaces.into_iter().filter_map(|interface| Some(interface.addr?.ip())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(settings: EmbeddedTurn, listen: &str) -> Result<TurnServer, StartError> {
        TurnServer::new(settings, listen.parse().unwrap())
    }

    #[test]
    fn relays_are_where_the_server_is_or_is_said_to_be() {
        let at = |listen: &str, external: &[&str]| {
            let external: Vec<IpAddr> = external.iter().map(|ip| ip.parse().unwrap()).collect();
            families(listen.parse().unwrap(), &external).map(|family| {
                family.map(|Family { bind, external, internal }| [bind, external, internal].map(|ip| ip.to_string()))
            })
        };
        let some = |texts: [&str; 3]| Some(texts.map(str::to_owned));
        assert_eq!(at("10.0.0.5", &[]), [some(["10.0.0.5"; 3]), None]);
        assert_eq!(at("10.0.0.5", &["8.8.8.8"]), [some(["10.0.0.5", "8.8.8.8", "10.0.0.5"]), None]);
        assert_eq!(at("0.0.0.0", &["8.8.8.8"]), [some(["0.0.0.0", "8.8.8.8", "127.0.0.1"]), None]);
        let both = [some(["0.0.0.0", "8.8.8.8", "127.0.0.1"]), some(["::", "2003::1", "::1"])];
        assert_eq!(at("::", &["2003::1", "8.8.8.8"]), both);
        assert_eq!(at("2003::1", &[]), [None, some(["2003::1"; 3])]);
        let [Some([bind, external, internal]), None] = at("0.0.0.0", &[]) else { panic!("no relays") };
        assert!(bind == "0.0.0.0" && external != bind && internal == "127.0.0.1", "{external}");
    }

    #[test]
    fn peers_are_told_the_address_they_reach() {
        let plain = started(EmbeddedTurn::default(), "127.0.0.1:3536").unwrap();
        assert_eq!(plain.relays().urls(Some("play.example.org")), ["turn:play.example.org:3536"]);
        assert!(plain.relays().urls(None).is_empty());
        assert_eq!(plain.private_address(), Some(Ipv4Addr::LOCALHOST.into()));
        let external_ips = vec!["8.8.8.8".parse().unwrap(), "2003::1".parse().unwrap()];
        let settings = EmbeddedTurn { external_ips, ..EmbeddedTurn::default() };
        let given = started(settings, "127.0.0.1:3536").unwrap();
        assert_eq!(given.relays().urls(Some("play.example.org")), ["turn:8.8.8.8:3536", "turn:[2003::1]:3536"]);
        assert_eq!(given.private_address(), None);
    }

    #[test]
    fn what_cannot_work_is_refused_at_the_start() {
        let settings = EmbeddedTurn::default;
        let refused = |settings| started(settings, "127.0.0.1:3536").unwrap_err();
        assert!(matches!(refused(EmbeddedTurn { ports: 0..=9, ..settings() }), StartError::TurnPorts { .. }));
        #[allow(clippy::reversed_empty_ranges, reason = "that is what is refused")]
        let backwards = EmbeddedTurn { ports: 9..=8, ..settings() };
        assert!(matches!(refused(backwards), StartError::TurnPorts { .. }));
        let nowhere = EmbeddedTurn { external_ips: vec![Ipv4Addr::UNSPECIFIED.into()], ..settings() };
        assert!(matches!(refused(nowhere), StartError::TurnAddress { .. }));
        assert!(matches!(refused(EmbeddedTurn { secrets: vec!["".into()], ..settings() }), StartError::TurnSecret));
        let [one, other] = [(); 2].map(|()| started(settings(), "127.0.0.1:3536").unwrap());
        assert_ne!(one.shared.secrets, other.shared.secrets, "each start draws another");
    }
}
