//! By which way do packets get to the peer? ICE (RFC 8445), by `rtc-ice`, at a pace of our own.
//!
//! Its agent checks all pairs of addresses at once, whenever it is woken. How often that is decides how soon there is a path
//! and how much is sent for it, so it is decided here: soon at first, and the more seldom the longer it takes and the more
//! pairs there are. It can send by a pair that has answered before one is nominated (section 12.1), and so saves a round trip.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rtc_ice::{
    Agent, AgentConfig, Event as Happened,
    candidate::{
        Candidate, CandidateConfig, candidate_host::CandidateHostConfig, candidate_pair::CandidatePairState,
        candidate_relay::CandidateRelayConfig,
    },
    mdns::MulticastDnsMode,
    state::ConnectionState,
};
use rtc_shared::{TaggedBytesMut, TransportContext, TransportProtocol, error::Error};
use sansio::Protocol;

use super::{
    candidate::{Local, Signalled, kind},
    dtls::Identity,
};
use crate::{Path, PathKind};

/// The most addresses of the peer that are used: what the switchboard lets through, and those that its checks came from.
const MAX_REMOTE: usize = 96;
/// The pace of checks while there is no path: at first, and from then on.
const PACES: [(Duration, Duration); 4] = [
    (Duration::ZERO, Duration::from_millis(10)),
    (Duration::from_millis(300), Duration::from_millis(20)),
    (Duration::from_secs(1), Duration::from_millis(50)),
    (Duration::from_secs(3), Duration::from_millis(150)),
];
/// The least time for each pair that is checked, so that many pairs are checked less often: 120 bytes each.
const PER_PAIR: Duration = Duration::from_millis(2);
/// The least time between two rounds, however many candidates come meanwhile.
const LEAST: Duration = Duration::from_millis(5);
/// The pace once there is a path, and how often the chosen pair is checked, which also measures the round trip.
const CALM: Duration = Duration::from_millis(500);
const KEEP_ALIVE: Duration = Duration::from_millis(900);
/// How long a pair that is less direct is not taken, though it answers: its better ones may answer yet.
const REFLEXIVE_WAIT: Duration = Duration::from_millis(100);
const RELAY_WAIT: Duration = Duration::from_secs(1);
/// Silence after which ICE calls a peer disconnected, and how long after that it gives up. Longer than the silence after
/// which a link does.
const DISCONNECTED: Duration = Duration::from_secs(5);
const FAILED: Duration = Duration::from_secs(10);

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// There is a path.
    Reached,
    /// There is one no more, and none was found again.
    Lost,
}

/// One side of it.
pub(super) struct Ice {
    agent: Agent,
    signalled: Signalled,
    controlling: bool,
    locals: Vec<Local>,
    /// When checks began.
    started: Option<Instant>,
    /// The last round of checks.
    last: Instant,
    /// Whether a pair is nominated.
    selected: bool,
    /// What a pair that is not nominated yet answered by, from here to there.
    answered: Option<(SocketAddr, SocketAddr)>,
}

impl Ice {
    pub(super) fn new(now: Instant, identity: &Identity, controlling: bool) -> Result<Self, Error> {
        let config = AgentConfig {
            disconnected_timeout: Some(DISCONNECTED),
            failed_timeout: Some(FAILED),
            keepalive_interval: Some(KEEP_ALIVE),
            // Below every pace above: `handle_timeout` decides.
            check_interval: Duration::from_millis(1),
            // There is a time for all, not a number: a pair may answer only once the peer's checks opened its NAT.
            max_binding_requests: Some(u16::MAX),
            is_controlling: controlling,
            multicast_dns_mode: MulticastDnsMode::Disabled,
            host_acceptance_min_wait: Some(Duration::ZERO),
            srflx_acceptance_min_wait: Some(REFLEXIVE_WAIT),
            prflx_acceptance_min_wait: Some(REFLEXIVE_WAIT),
            relay_acceptance_min_wait: Some(RELAY_WAIT),
            ..AgentConfig::default()
        };
        Ok(Self {
            agent: Agent::new(now, Arc::new(config), identity.crypto())?,
            signalled: Signalled::default(),
            controlling,
            locals: Vec::new(),
            started: None,
            last: now,
            selected: false,
            answered: None,
        })
    }

    /// Username fragment and password of this side.
    pub(super) fn credentials(&self) -> (&str, &str) {
        let credentials = self.agent.get_local_credentials();
        (&credentials.ufrag, &credentials.pwd)
    }

    /// Adds an address that packets can be sent from. One that only others see is no such.
    pub(super) fn add_local(&mut self, local: Local) {
        let base_config = CandidateConfig {
            network: "udp".into(),
            address: local.address.ip().to_string(),
            port: local.address.port(),
            component: 1,
            priority: local.priority(),
            foundation: local.foundation(),
            ..CandidateConfig::default()
        };
        let candidate = match local.kind {
            PathKind::Host => {
                CandidateHostConfig { base_config, ..CandidateHostConfig::default() }.new_candidate_host()
            }
            PathKind::Relay => {
                CandidateRelayConfig { base_config, ..CandidateRelayConfig::default() }.new_candidate_relay()
            }
            _ => return,
        };
        if candidate.and_then(|candidate| self.agent.add_local_candidate(candidate)).is_ok_and(|added| added) {
            self.locals.push(local);
        }
    }

    /// Adds an address of the peer. False if it is known already, or one too many.
    pub(super) fn add_remote(&mut self, candidate: Candidate) -> bool {
        self.signalled.note(&candidate);
        let remotes = self.agent.get_remote_candidates();
        if remotes.len() >= MAX_REMOTE || remotes.iter().any(|known| known.addr() == candidate.addr()) {
            return false;
        }
        self.agent.add_remote_candidate(candidate).is_ok_and(|added| added)
    }

    /// Begins, now that the peer's credentials are known.
    pub(super) fn start(&mut self, now: Instant, ufrag: String, password: String) -> Result<(), Error> {
        self.started = Some(now);
        self.agent.start_connectivity_checks(now, self.controlling, ufrag, password)
    }

    /// Takes in a packet of STUN.
    pub(super) fn handle_input(&mut self, now: Instant, here: SocketAddr, from: SocketAddr, bytes: &[u8]) {
        let remotes = self.agent.get_remote_candidates();
        if remotes.len() >= MAX_REMOTE && !remotes.iter().any(|known| known.addr() == from) {
            return;
        }
        // What cannot be used is nobody's, or an attack: it changes nothing.
        let _ = self.agent.handle_read(tagged(now, here, from, bytes));
        if self.started.is_some() && !self.selected && self.answered.is_none() {
            self.answered = self.answering(now);
        }
    }

    /// Whether a packet that is no STUN may be the peer's; then it is a sign of life.
    pub(super) fn is_peer(&mut self, now: Instant, here: SocketAddr, from: SocketAddr) -> bool {
        self.agent.is_valid_non_stun_traffic(now, context(here, from))
    }

    /// From where to where packets go, as far as is known.
    pub(super) fn route(&self) -> Option<(SocketAddr, SocketAddr)> {
        match self.agent.get_selected_candidate_pair() {
            Some((local, remote)) => Some((local.base_addr(), remote.addr())),
            None => self.answered,
        }
    }

    /// How the peer is reached, once a pair is chosen.
    pub(super) fn path(&self, now: Instant) -> Option<Path> {
        let (local, remote) = self.agent.get_selected_candidate_pair()?;
        let (here, there) = (kind(local), self.signalled.kind(remote));
        let text = |candidate: &Candidate, kind: PathKind| format!("udp {} {kind}", candidate.addr());
        Some(Path {
            kind: here.max(there),
            local: text(local, here),
            remote: text(remote, there),
            rtt: self.round_trip(now),
            bytes_sent: 0,
            bytes_received: 0,
        })
    }

    /// The round trip of the last check that was answered: of the chosen pair, or of the fastest.
    pub(super) fn round_trip(&self, now: Instant) -> Option<Duration> {
        let chosen = self.agent.get_selected_candidate_pair().map(|(local, remote)| (local.id(), remote.id()));
        let pairs = self.agent.get_candidate_pairs_stats(now);
        let of = pairs.iter().filter(|pair| {
            pair.state == CandidatePairState::Succeeded
                && chosen
                    .is_none_or(|(here, there)| pair.local_candidate_id == here && pair.remote_candidate_id == there)
        });
        let seconds =
            of.map(|pair| pair.current_round_trip_time).filter(|seconds| *seconds > 0.0).min_by(f64::total_cmp)?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    pub(super) fn poll_transmit(&mut self) -> Option<(SocketAddr, SocketAddr, BytesMut)> {
        let TaggedBytesMut { transport, message, .. } = self.agent.poll_write()?;
        Some((transport.local_addr, transport.peer_addr, message))
    }

    pub(super) fn poll_news(&mut self) -> Option<News> {
        while let Some(tagged) = self.agent.poll_event() {
            match tagged.event {
                Happened::ConnectionStateChange(ConnectionState::Connected) if !self.selected => {
                    self.selected = true;
                    return Some(News::Reached);
                }
                Happened::ConnectionStateChange(ConnectionState::Failed) => return Some(News::Lost),
                Happened::RoleChange(controlling) => self.controlling = controlling,
                _ => {}
            }
        }
        None
    }

    pub(super) fn poll_timeout(&mut self) -> Option<Instant> {
        let due = self.agent.poll_timeout()?;
        let wait = if due <= self.last { LEAST } else { self.pace() };
        Some(self.last + wait)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|due| due <= now) {
            let _ = self.agent.handle_timeout(now);
            self.last = now;
        }
    }

    fn pace(&self) -> Duration {
        if self.selected {
            return CALM;
        }
        let since = self.started.map_or(Duration::ZERO, |started| self.last.saturating_duration_since(started));
        let pace = PACES.iter().rev().find(|(from, _)| since >= *from).map_or(CALM, |(_, pace)| *pace);
        let pairs = self.locals.len() * self.agent.get_remote_candidates().len();
        pace.max(PER_PAIR * u32::try_from(pairs).unwrap_or(u32::MAX))
    }

    /// The best pair that has answered.
    fn answering(&self, now: Instant) -> Option<(SocketAddr, SocketAddr)> {
        let (locals, remotes) = (self.agent.get_local_candidates(), self.agent.get_remote_candidates());
        let pairs = self.agent.get_candidate_pairs_stats(now);
        let answered = pairs.iter().filter(|pair| pair.state == CandidatePairState::Succeeded).filter_map(|pair| {
            let local = locals.iter().find(|local| local.id() == pair.local_candidate_id)?;
            let remote = remotes.iter().find(|remote| remote.id() == pair.remote_candidate_id)?;
            Some((kind(local).max(self.signalled.kind(remote)), (local.base_addr(), remote.addr())))
        });
        answered.min_by_key(|(kind, _)| *kind).map(|(_, pair)| pair)
    }
}

fn context(here: SocketAddr, from: SocketAddr) -> TransportContext {
    TransportContext { local_addr: here, peer_addr: from, transport_protocol: TransportProtocol::UDP, ecn: None }
}

fn tagged(now: Instant, here: SocketAddr, from: SocketAddr, bytes: &[u8]) -> TaggedBytesMut {
    TaggedBytesMut { now, transport: context(here, from), message: BytesMut::from(bytes) }
}
