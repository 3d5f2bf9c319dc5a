//! By which path is a peer reached, and how long does it take?

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use webrtc::peer_connection::{
    PeerConnection, RTCIceCandidate, RTCIceCandidateType, RTCStatsReportEntry, StatsSelector,
};

use crate::{Path, PathKind};

/// The peer's candidates, as signaling brought them. There are as many as the switchboard lets through.
///
/// When a peer's check arrives before its candidate does, as over a fast network, ICE takes its address for one that
/// only it has seen, and never learns better.
#[derive(Default)]
pub(super) struct Signalled(Mutex<BTreeMap<(String, u16), PathKind>>);

impl Signalled {
    /// Notes a candidate line (RFC 8839, section 5.1).
    pub(super) fn note(&self, line: &str) {
        let mut words = line.split_ascii_whitespace().skip(4);
        let (Some(address), Some(Ok(port)), Some("typ"), Some(kind)) =
            (words.next(), words.next().map(str::parse), words.next(), words.next())
        else {
            return;
        };
        let kind = match kind {
            "host" => PathKind::Host,
            "srflx" => PathKind::ServerReflexive,
            "relay" => PathKind::Relay,
            _ => return,
        };
        // Where no NAT is in between, STUN sees the very address that the machine has.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry((address.to_owned(), port)).and_modify(|known| *known = kind.min(*known)).or_insert(kind);
    }

    fn kind(&self, remote: &RTCIceCandidate) -> PathKind {
        match kind(remote.typ) {
            PathKind::PeerReflexive => {
                let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                known.get(&(remote.address.clone(), remote.port)).copied().unwrap_or(PathKind::PeerReflexive)
            }
            kind => kind,
        }
    }
}

/// What ICE has chosen, and whether that goes by a TURN server of ours; `None` until it has.
pub(super) async fn of(connection: &dyn PeerConnection, signalled: &Signalled) -> Option<(Path, bool)> {
    let ice = connection.sctp().await?.transport().ice_transport();
    let pair = ice.get_selected_candidate_pair().await.ok()??;
    let (local, remote) = (pair.local(), pair.remote());
    let path = Path {
        kind: kind(local.typ).max(signalled.kind(remote)),
        local: text(local, kind(local.typ)),
        remote: text(remote, signalled.kind(remote)),
        rtt: rtt(connection, local, remote).await,
        bytes_sent: 0,
        bytes_received: 0,
    };
    Some((path, local.typ == RTCIceCandidateType::Relay))
}

/// The round trip of ICE's last answered check on this pair.
async fn rtt(connection: &dyn PeerConnection, local: &RTCIceCandidate, remote: &RTCIceCandidate) -> Option<Duration> {
    let report = connection.get_stats(Instant::now(), StatsSelector::None).await;
    let seconds = report.iter().find_map(|entry| match entry {
        RTCStatsReportEntry::IceCandidatePair(pair)
            if pair.local_candidate_id.ends_with(&local.id) && pair.remote_candidate_id.ends_with(&remote.id) =>
        {
            Some(pair.current_round_trip_time)
        }
        _ => None,
    })?;
    (seconds > 0.0).then(|| Duration::try_from_secs_f64(seconds).ok()).flatten()
}

fn kind(candidate: RTCIceCandidateType) -> PathKind {
    match candidate {
        RTCIceCandidateType::Srflx => PathKind::ServerReflexive,
        RTCIceCandidateType::Prflx => PathKind::PeerReflexive,
        RTCIceCandidateType::Relay => PathKind::Relay,
        _ => PathKind::Host,
    }
}

fn text(candidate: &RTCIceCandidate, kind: PathKind) -> String {
    let RTCIceCandidate { protocol, address, port, .. } = candidate;
    let address = if address.contains(':') { format!("[{address}]") } else { address.clone() };
    format!("{protocol} {address}:{port} {kind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_nat_is_the_machines_own_whatever_stun_says_of_it() {
        for kinds in [["host", "srflx"], ["srflx", "host"]] {
            let signalled = Signalled::default();
            for kind in kinds {
                signalled.note(&format!("candidate:1 1 udp 1 198.51.100.7 5000 typ {kind}"));
            }
            signalled.note("candidate:1 1 udp 1 198.51.100.7 5001 typ srflx raddr 0.0.0.0 rport 0");
            let seen = |port| {
                signalled.kind(&RTCIceCandidate {
                    address: "198.51.100.7".into(),
                    port,
                    typ: RTCIceCandidateType::Prflx,
                    ..RTCIceCandidate::default()
                })
            };
            assert_eq!([seen(5000), seen(5001)], [PathKind::Host, PathKind::ServerReflexive]);
            assert_eq!(seen(5002), PathKind::PeerReflexive);
        }
    }
}
