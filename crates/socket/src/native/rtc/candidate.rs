//! How is an address told to the peer? By a candidate line (RFC 8839, section 5.1) in the JSON of an `RTCIceCandidateInit`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use rtc_ice::candidate::{Candidate, unmarshal_candidate};
use serde_json::{Value, json};

use crate::PathKind;

/// The type preferences of RFC 8445, section 5.1.2.2.
const HOST: u32 = 126;
const REFLEXIVE: u32 = 100;
const RELAYED: u32 = 0;

/// An address of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::native) struct Local {
    pub(in crate::native) kind: PathKind,
    pub(in crate::native) address: SocketAddr,
    /// The socket behind it: another than the address if it is seen by others alone.
    pub(in crate::native) base: SocketAddr,
    /// Which of several it is, the best first.
    pub(in crate::native) rank: u16,
}

impl Local {
    /// RFC 8445, section 5.1.2.1. What belongs to loopback is the last resort.
    pub(super) fn priority(&self) -> u32 {
        let preference = match self.kind {
            PathKind::ServerReflexive | PathKind::PeerReflexive => REFLEXIVE,
            PathKind::Relay => RELAYED,
            _ => HOST,
        };
        let local = if self.address.ip().is_loopback() { 0 } else { u32::from(u16::MAX - self.rank) };
        (preference << 24) + (local << 8) + 255
    }

    /// The same for all that have the same kind and socket.
    pub(super) fn foundation(&self) -> String {
        format!("{}{}", self.kind as u8 + 1, self.rank)
    }

    /// As the peer is told of it; `mid` names the part of the description that it is for.
    pub(in crate::native) fn json(&self, mid: &str, ufrag: &str) -> String {
        let Self { kind, address, base, .. } = self;
        let kind = match kind {
            PathKind::ServerReflexive | PathKind::PeerReflexive => "srflx",
            PathKind::Relay => "relay",
            _ => "host",
        };
        // What a socket behind a NAT or relay has for an address is nobody's business.
        let related = match (kind, base.is_ipv4()) {
            ("host", _) => "",
            (_, true) => " raddr 0.0.0.0 rport 0",
            (_, false) => " raddr :: rport 0",
        };
        let line = format!(
            "candidate:{} 1 udp {} {} {} typ {kind}{related}",
            self.foundation(),
            self.priority(),
            address.ip(),
            address.port()
        );
        json!({ "candidate": line, "sdpMid": mid, "sdpMLineIndex": 0, "usernameFragment": ufrag }).to_string()
    }
}

/// An address of the peer.
#[derive(Clone, Debug)]
pub(in crate::native) enum Remote {
    Known(Candidate),
    /// Hidden behind a name, as browsers do (mDNS), which is to be looked up.
    Hidden {
        name: String,
        candidate: Candidate,
    },
}

impl Remote {
    /// Reads what the peer told. `None` for what is no use: the word that there are no more, TCP, nobody's address.
    pub(in crate::native) fn read(json: &str) -> Option<Self> {
        let init: Value = serde_json::from_str(json).ok()?;
        Self::read_line(init.get("candidate")?.as_str()?)
    }

    /// The same for the line alone.
    pub(in crate::native) fn read_line(line: &str) -> Option<Self> {
        let line = line.strip_prefix("a=").unwrap_or(line);
        let line = line.strip_prefix("candidate:").unwrap_or(line);
        let mut words = line.split_ascii_whitespace();
        let (component, transport) = (words.nth(1)?, words.next()?);
        if component != "1" || !transport.eq_ignore_ascii_case("udp") {
            return None;
        }
        let candidate = unmarshal_candidate(line).ok()?;
        if candidate.port() == 0 {
            return None;
        }
        if candidate.address().ends_with(".local") {
            let name = candidate.address().to_owned();
            return is_name(&name).then_some(Self::Hidden { name, candidate });
        }
        is_address(candidate.addr().ip()).then_some(Self::Known(candidate))
    }
}

/// Whether a peer can be there at all.
pub(super) fn is_address(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !(ip.is_unspecified() || ip.is_multicast() || broadcast)
}

/// One label before `.local`, as browsers make them.
fn is_name(name: &str) -> bool {
    let label = name.strip_suffix(".local").unwrap_or_default();
    (1..=63).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// The peer's candidates, as signaling brought them. There are as many as the switchboard lets through.
///
/// When a peer's check arrives before its candidate does, as over a fast network, ICE takes its address for one that
/// only it has seen, and never learns better.
#[derive(Debug, Default)]
pub(super) struct Signalled(BTreeMap<SocketAddr, PathKind>);

impl Signalled {
    pub(super) fn note(&mut self, candidate: &Candidate) {
        let kind = kind(candidate);
        // Where no NAT is in between, STUN sees the very address that the machine has.
        self.0.entry(candidate.addr()).and_modify(|known| *known = kind.min(*known)).or_insert(kind);
    }

    pub(super) fn kind(&self, remote: &Candidate) -> PathKind {
        match kind(remote) {
            PathKind::PeerReflexive => self.0.get(&remote.addr()).copied().unwrap_or(PathKind::PeerReflexive),
            kind => kind,
        }
    }
}

pub(super) fn kind(candidate: &Candidate) -> PathKind {
    use rtc_ice::candidate::CandidateType as Type;
    match candidate.candidate_type() {
        Type::ServerReflexive => PathKind::ServerReflexive,
        Type::PeerReflexive => PathKind::PeerReflexive,
        Type::Relay => PathKind::Relay,
        _ => PathKind::Host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<Remote> {
        Remote::read(&json!({ "candidate": line }).to_string())
    }

    fn known(line: &str) -> Candidate {
        match read(line) {
            Some(Remote::Known(candidate)) => candidate,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn what_one_side_tells_the_other_reads() {
        let address: SocketAddr = "[2001:db8::7]:5000".parse().expect("an address");
        for kind in [PathKind::Host, PathKind::ServerReflexive, PathKind::Relay] {
            let local = Local { kind, address, base: "[fd00::1]:5000".parse().expect("an address"), rank: 3 };
            let told = local.json("0", "abcd");
            let Some(Remote::Known(candidate)) = Remote::read(&told) else { panic!("{told}") };
            assert_eq!(
                (candidate.addr(), super::kind(&candidate), candidate.priority()),
                (address, kind, local.priority())
            );
        }
    }

    #[test]
    fn what_is_no_use_is_passed_over() {
        for line in [
            "",
            "candidate:1 1 tcp 1 192.0.2.1 9 typ host tcptype active",
            "candidate:1 2 udp 1 192.0.2.1 9 typ host",
            "candidate:1 1 udp 1 0.0.0.0 9 typ host",
            "candidate:1 1 udp 1 224.0.0.1 9 typ host",
            "candidate:1 1 udp 1 255.255.255.255 9 typ host",
            "candidate:1 1 udp 1 192.0.2.1 0 typ host",
            "candidate:1 1 udp 1 a.b.local 9 typ host",
            "candidate:1 1 udp 1 example.org 9 typ host",
            "candidate:1 1 udp 1 192.0.2.1 9 typ wormhole",
            "candidate:1 1 udp 1 192.0.2.1 9 typ srflx raddr",
            "\u{0}\u{ffff} \u{0} udp",
        ] {
            assert!(read(line).is_none(), "{line:?}");
        }
        for json in ["", "null", "[]", "{}", "{\"candidate\":1}", "{\"candidate\":null}"] {
            assert!(Remote::read(json).is_none(), "{json:?}");
        }
        let name = "0a1b2c3d-1234-4321-abcd-0123456789ab.local";
        let hidden = read(&format!("candidate:1 1 UDP 1 {name} 9 typ host"));
        assert!(matches!(hidden, Some(Remote::Hidden { name: read, .. }) if read == name));
    }

    #[test]
    fn an_address_without_nat_is_the_machines_own_whatever_stun_says_of_it() {
        for kinds in [["host", "srflx"], ["srflx", "host"]] {
            let mut signalled = Signalled::default();
            for kind in kinds {
                signalled.note(&known(&format!("candidate:1 1 udp 1 198.51.100.7 5000 typ {kind}")));
            }
            signalled.note(&known("candidate:1 1 udp 1 198.51.100.7 5001 typ srflx raddr 0.0.0.0 rport 0"));
            let seen = |port| {
                signalled
                    .kind(&known(&format!("candidate:1 1 udp 1 198.51.100.7 {port} typ prflx raddr 0.0.0.0 rport 0")))
            };
            assert_eq!([seen(5000), seen(5001)], [PathKind::Host, PathKind::ServerReflexive]);
            assert_eq!(seen(5002), PathKind::PeerReflexive);
        }
    }
}
