//! What has a server done so far? Counters, and their text for Prometheus (exposition format 0.0.4).
//!
//! No label is made of what a stranger chose.

use std::{
    collections::BTreeMap,
    fmt::Write,
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use coplay_proto::signal::{FAILURES, Report, ReportedPath, SignalError};

use crate::{
    Limits, Occupancy, RelayStats,
    firewall::{Dropped, Kind},
    relay::Unrelayed,
};

/// Who may read the metrics, and where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetricsAccess {
    /// Who asks from this machine, at `/metrics` of the port of signaling, and is no proxy that forwards for another.
    #[default]
    Loopback,
    /// Everyone, at the same place.
    Public,
    /// Who reaches this address (TCP), at `/metrics`. Nobody elsewhere. Plain HTTP, whatever the other port speaks.
    At(SocketAddr),
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, amount: usize) {
        self.0.fetch_add(amount as u64, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One such number for each value of a label. The values are names in this program: there are few.
#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<BTreeMap<String, u64>>);

impl Counters {
    pub(crate) fn add(&self, value: &str, amount: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(value) {
            *count = count.saturating_add(amount);
        } else {
            counts.insert(value.to_owned(), amount);
        }
    }

    fn all(&self) -> Vec<(String, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(value, count)| (value.clone(), *count)).collect()
    }
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Peers let in, by dialect.
    pub(crate) joins: Counters,
    /// Groups of `?next=N` that filled, and quick matches.
    pub(crate) matches: Counter,
    /// Peers refused or thrown out, by the name of the error.
    refusals: Counters,
    /// Those closed otherwise, by close code.
    pub(crate) closes: Counters,
    signals: [Counter; 4],
    dropped: Counters,
    pub(crate) received_frames: Counter,
    pub(crate) received_bytes: Counter,
    pub(crate) sent_frames: Counter,
    pub(crate) sent_bytes: Counter,
    /// Bytes of games carried by WebSocket for peers that could not connect directly. TURN counts its own.
    pub(crate) relayed_bytes: Counter,
    /// Frames in them.
    pub(crate) relayed_frames: Counter,
    /// Pairs that began to relay by WebSocket.
    pub(crate) relay_pairs: Counter,
    unrelayed: Counters,
    /// Ends of connections, as those that speak our dialect report them: two for most pairs.
    paths: Counters,
    failures: Counters,
    /// Connections turned away before they asked anything, by why.
    pub(crate) connections_refused: Counters,
    pub(crate) accept_errors: Counter,
    /// TLS handshakes that came to nothing.
    pub(crate) tls_failures: Counter,
    /// Certificates read anew, by `ok` or `failed`.
    pub(crate) tls_reloads: Counters,
}

impl Metrics {
    pub(crate) fn refused(&self, error: &SignalError) {
        self.refusals.add(&name(error), 1);
    }

    pub(crate) fn signal(&self, kind: Kind) {
        let [offers, answers, candidates, opaque] = &self.signals;
        match kind {
            Kind::Offer => offers,
            Kind::Answer => answers,
            Kind::Candidate => candidates,
            Kind::Opaque => opaque,
        }
        .add(1);
    }

    pub(crate) fn dropped(&self, why: Dropped) {
        self.dropped.add(why.name(), 1);
    }

    /// Counts frames that were not relayed.
    pub(crate) fn unrelayed(&self, why: Unrelayed, frames: usize) {
        self.unrelayed.add(why.name(), frames as u64);
    }

    /// Counts what a client says of its connections.
    pub(crate) fn reported(&self, report: &Report) {
        match report {
            Report::Path(ReportedPath::Host) => self.paths.add("host", 1),
            Report::Path(ReportedPath::Srflx) => self.paths.add("srflx", 1),
            Report::Path(ReportedPath::Relay) => self.paths.add("relay", 1),
            Report::Path(ReportedPath::Websocket) => self.paths.add("websocket", 1),
            Report::Failed(code) => {
                let known = FAILURES.into_iter().find(|known| known == code);
                self.failures.add(known.unwrap_or("other"), 1);
            }
        }
    }

    /// All of it, how full the server is, and what its embedded TURN server did, if it has one.
    pub(crate) fn text(
        &self,
        occupancy: Occupancy,
        limits: &Limits,
        stopping: bool,
        turn: Option<RelayStats>,
    ) -> String {
        let mut text = Text::default();
        text.one("gauge", "rooms", "Rooms with somebody in them.", occupancy.rooms as u64);
        let peers = "Peers in rooms, menus and queues, and those who lost their WebSocket and may come back.";
        text.one("gauge", "peers", peers, occupancy.peers as u64);
        text.one("gauge", "rooms_max", "The limit of rooms.", limits.rooms.into());
        text.one("gauge", "peers_max", "The limit of peers.", limits.peers.into());
        text.one("gauge", "stopping", "1 while the server drains.", stopping.into());
        text.many("joins_total", "Peers let in, by dialect.", "dialect", &self.joins.all());
        text.one("counter", "matches_total", "Groups that filled, and quick matches.", self.matches.get());
        text.many("refusals_total", "Peers refused, by error.", "error", &self.refusals.all());
        text.many("closes_total", "WebSockets closed by the server, by code.", "code", &self.closes.all());
        let kinds = ["offer", "answer", "candidate", "opaque"].map(str::to_owned);
        let signals: Vec<_> = kinds.into_iter().zip(self.signals.iter().map(Counter::get)).collect();
        text.many("signals_total", "Signals passed on, by kind.", "kind", &signals);
        text.many("signals_dropped_total", "Signals not passed on, by why.", "why", &self.dropped.all());
        text.one("counter", "received_frames_total", "Frames from peers.", self.received_frames.get());
        text.one("counter", "received_bytes_total", "Bytes in them.", self.received_bytes.get());
        text.one("counter", "sent_frames_total", "Frames to peers.", self.sent_frames.get());
        text.one("counter", "sent_bytes_total", "Bytes in them.", self.sent_bytes.get());
        let mut relayed = vec![("websocket".to_owned(), self.relayed_bytes.get())];
        relayed.extend(turn.map(|turn| ("turn".to_owned(), turn.bytes_from_clients + turn.bytes_to_clients)));
        text.many("relayed_bytes_total", "Bytes of games relayed, by what.", "via", &relayed);
        let frames = self.relayed_frames.get();
        text.one("counter", "relayed_frames_total", "Frames of games relayed by WebSocket.", frames);
        text.many("relay_dropped_total", "Frames that were to be relayed, by why not.", "why", &self.unrelayed.all());
        text.one("counter", "relay_pairs_total", "Pairs relayed by WebSocket.", self.relay_pairs.get());
        let ends = "Ends of connections between peers, by path: each of the two reports its own, matchbox peers none.";
        text.many("connected_ends_total", ends, "path", &self.paths.all());
        let ends = "Ends of connections that failed, by code: each of the two reports its own, matchbox peers none.";
        text.many("failed_ends_total", ends, "code", &self.failures.all());
        let refused = self.connections_refused.all();
        text.many("connections_refused_total", "Connections closed at once, by why.", "why", &refused);
        text.one("counter", "accept_errors_total", "Connections not accepted.", self.accept_errors.get());
        text.one("counter", "tls_failures_total", "TLS handshakes that failed.", self.tls_failures.get());
        text.many("tls_reloads_total", "Certificates read anew.", "result", &self.tls_reloads.all());
        if let Some(turn) = turn {
            text.turn(&turn);
        }
        text.0
    }
}

/// The tag of an error as peers see it, `room_full` say.
fn name(error: &SignalError) -> String {
    match serde_json::to_value(error) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(serde_json::Value::Object(fields)) => fields.keys().next().cloned().unwrap_or_default(),
        _ => String::new(),
    }
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, kind: &str, name: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP coplay_{name} {help}\n# TYPE coplay_{name} {kind}");
    }

    fn one(&mut self, kind: &str, name: &str, help: &str, value: u64) {
        self.head(kind, name, help);
        let _ = writeln!(self.0, "coplay_{name} {value}");
    }

    /// What the embedded TURN server did.
    fn turn(&mut self, stats: &RelayStats) {
        let named = |values: &[(&str, u64)]| values.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        self.one("gauge", "turn_allocations", "Allocations of the embedded TURN server.", stats.allocations);
        self.one("counter", "turn_allocated_total", "Allocations made.", stats.allocated);
        let refused: Vec<_> = named(&[
            ("address", stats.refused_address),
            ("credentials", stats.refused_credentials),
            ("quota", stats.refused_quota),
        ]);
        self.many("turn_refused_total", "Requests and datagrams refused, by why.", "why", &refused);
        let dropped: Vec<_> = named(&[
            ("malformed", stats.dropped_malformed),
            ("rate", stats.dropped_rate),
            ("strangers", stats.dropped_strangers),
        ]);
        self.many("turn_dropped_total", "Packets dropped, by why.", "why", &dropped);
        self.one("counter", "turn_panics_total", "Packets that made the TURN library panic.", stats.panics);
    }

    fn many(&mut self, name: &str, help: &str, label: &str, values: &[(String, u64)]) {
        self.head("counter", name, help);
        for (value, count) in values {
            let _ = writeln!(self.0, "coplay_{name}{{{label}=\"{value}\"}} {count}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_counted_is_in_the_text() {
        let metrics = Metrics::default();
        metrics.refused(&SignalError::RoomFull { max: 2 });
        metrics.refused(&SignalError::TooMuch);
        metrics.signal(Kind::Answer);
        metrics.dropped(Dropped::Role);
        metrics.reported(&Report::Path(ReportedPath::Srflx));
        metrics.reported(&Report::Failed("no_answer".into()));
        let turn =
            RelayStats { bytes_from_clients: 1000, bytes_to_clients: 1, allocations: 3, ..RelayStats::default() };
        let text = metrics.text(Occupancy { rooms: 1, peers: 2 }, &Limits::default(), false, Some(turn));
        for line in [
            "coplay_rooms 1",
            "coplay_peers 2",
            "coplay_refusals_total{error=\"room_full\"} 1",
            "coplay_refusals_total{error=\"too_much\"} 1",
            "coplay_signals_total{kind=\"answer\"} 1",
            "coplay_signals_dropped_total{why=\"role\"} 1",
            "coplay_connected_ends_total{path=\"srflx\"} 1",
            "coplay_failed_ends_total{code=\"no_answer\"} 1",
            "coplay_relayed_bytes_total{via=\"turn\"} 1001",
            "coplay_turn_allocations 3",
            "# TYPE coplay_stopping gauge",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
        }
        let without = metrics.text(Occupancy::default(), &Limits::default(), false, None);
        assert!(!without.contains("turn"), "{without}");
    }

    #[test]
    fn what_peers_report_fills_no_place_of_what_is_known() {
        let metrics = Metrics::default();
        metrics.reported(&Report::Failed("x\"} 1\ncoplay_peers 9".into()));
        metrics.reported(&Report::Failed(String::new()));
        for code in 0..10_000 {
            metrics.reported(&Report::Failed(format!("c{code}")));
        }
        for code in FAILURES {
            metrics.reported(&Report::Failed(code.into()));
        }
        let mut expected: Vec<_> = FAILURES.into_iter().map(|code| (code.to_owned(), 1)).collect();
        expected.push(("other".to_owned(), 10_002));
        expected.sort();
        assert_eq!(metrics.failures.all(), expected);
    }
}
