//! By which pair of candidates is a peer reached? What `getStats` says of it.

use std::time::Duration;

use js_sys::{Map, Reflect};
use wasm_bindgen::{JsCast, JsValue};

use crate::{Path, PathKind};

/// The pair in use (webrtc-stats, sections 6.9 and 6.10).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pair {
    pub(super) kind: PathKind,
    pub(super) local: String,
    pub(super) remote: String,
    pub(super) rtt: Option<Duration>,
}

impl Pair {
    /// The pair that a report names as the one in use, if there is one yet.
    pub(super) fn of(report: &JsValue) -> Option<Self> {
        // An RTCStatsReport is a maplike: `get` and `values` are those of a Map.
        let report: &Map = report.unchecked_ref();
        let pair = selected(report)?;
        let local = report.get(&field(&pair, "localCandidateId"));
        let remote = report.get(&field(&pair, "remoteCandidateId"));
        let (local_kind, remote_kind) = (kind(&local)?, kind(&remote)?);
        Some(Self {
            kind: local_kind.max(remote_kind),
            local: describe(&local, local_kind),
            remote: describe(&remote, remote_kind),
            rtt: number(&pair, "currentRoundTripTime").and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        })
    }

    pub(super) fn path(&self, bytes_sent: u64, bytes_received: u64) -> Path {
        let Self { kind, local, remote, rtt } = self.clone();
        Path { kind, local, remote, rtt, bytes_sent, bytes_received }
    }
}

/// The transport names its pair; Firefox has no transports and marks the pair.
fn selected(report: &Map) -> Option<JsValue> {
    let mut marked = None;
    for stats in report.values() {
        let stats = stats.ok()?;
        match text(&stats, "type").as_deref() {
            Some("transport") => {
                let pair = report.get(&field(&stats, "selectedCandidatePairId"));
                if pair.is_object() {
                    return Some(pair);
                }
            }
            Some("candidate-pair") if field(&stats, "selected").is_truthy() => marked = Some(stats),
            _ => {}
        }
    }
    marked
}

fn kind(candidate: &JsValue) -> Option<PathKind> {
    Some(match text(candidate, "candidateType")?.as_str() {
        "host" => PathKind::Host,
        "srflx" => PathKind::ServerReflexive,
        "prflx" => PathKind::PeerReflexive,
        "relay" => PathKind::Relay,
        _ => return None,
    })
}

/// As in `udp 192.0.2.7:5000 host`.
fn describe(candidate: &JsValue, kind: PathKind) -> String {
    let protocol = text(candidate, "protocol").unwrap_or_else(|| "udp".into());
    // Browsers do not tell what they hide behind mDNS names.
    let address = text(candidate, "address").filter(|address| !address.is_empty()).unwrap_or_else(|| "hidden".into());
    let address = if address.contains(':') { format!("[{address}]") } else { address };
    let port = number(candidate, "port").unwrap_or(0.0);
    format!("{protocol} {address}:{port} {kind}")
}

fn field(stats: &JsValue, name: &str) -> JsValue {
    // It fails for what is not an object.
    Reflect::get(stats, &name.into()).unwrap_or(JsValue::UNDEFINED)
}

fn text(stats: &JsValue, name: &str) -> Option<String> {
    field(stats, name).as_string()
}

fn number(stats: &JsValue, name: &str) -> Option<f64> {
    field(stats, name).as_f64()
}
