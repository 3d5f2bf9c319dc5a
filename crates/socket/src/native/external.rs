//! By which addresses do others reach this machine, besides those it has? Those that it is told of, where a NAT in between
//! passes the same ports on: webrtc 0.21 takes them (`with_nat_1to1_ips`), and does nothing with them.

use std::{collections::BTreeSet, net::IpAddr};

use webrtc::peer_connection::{RTCIceCandidate, RTCIceCandidateType};

/// The least of all priorities of reflexive candidates (RFC 8445, section 5.1.2.1), of component 1.
const PRIORITY: u32 = (100 << 24) + 255;

/// The external addresses, and what was said of them.
#[derive(Debug, Default)]
pub(super) struct External {
    ips: Vec<IpAddr>,
    told: BTreeSet<(IpAddr, u16)>,
}

impl External {
    pub(super) fn new(ips: Vec<IpAddr>) -> Self {
        Self { ips, told: BTreeSet::new() }
    }

    /// The candidates that follow from one of this machine's own, each once.
    pub(super) fn candidates(&mut self, host: &RTCIceCandidate) -> Vec<RTCIceCandidate> {
        let Ok(own) = host.address.parse::<IpAddr>() else { return Vec::new() };
        if host.typ != RTCIceCandidateType::Host || own.is_loopback() {
            return Vec::new();
        }
        let fit = self.ips.iter().copied().filter(|ip| ip.is_ipv4() == own.is_ipv4() && *ip != own);
        let fit: Vec<IpAddr> = fit.collect();
        let new = fit.into_iter().filter(|ip| self.told.insert((*ip, host.port)));
        new.map(|ip| RTCIceCandidate {
            foundation: format!("external{ip}").replace([':', '.'], ""),
            priority: PRIORITY,
            address: ip.to_string(),
            typ: RTCIceCandidateType::Srflx,
            related_address: host.address.clone(),
            related_port: host.port,
            ..host.clone()
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(address: &str, typ: RTCIceCandidateType) -> RTCIceCandidate {
        RTCIceCandidate { address: address.into(), port: 5000, component: 1, typ, ..RTCIceCandidate::default() }
    }

    #[test]
    fn an_address_of_this_machine_is_told_by_its_external_one_too() {
        let ips = ["198.51.100.7", "2001:db8::7"].map(|ip| ip.parse().expect("an address"));
        let mut external = External::new(ips.to_vec());
        let host = |address| candidate(address, RTCIceCandidateType::Host);
        let [told] = &external.candidates(&host("10.0.0.5"))[..] else { panic!("one of the same family") };
        assert_eq!((told.address.as_str(), told.port, told.typ), ("198.51.100.7", 5000, RTCIceCandidateType::Srflx));
        assert_eq!((told.related_address.as_str(), told.related_port), ("10.0.0.5", 5000));
        assert!(told.foundation.chars().all(|c| c.is_ascii_alphanumeric()) && told.foundation.len() <= 32);
        assert!(external.candidates(&host("10.0.0.6")).is_empty(), "known already");
        assert_eq!(external.candidates(&host("fd00::5"))[0].address, "2001:db8::7");
        assert!(external.candidates(&host("127.0.0.1")).is_empty(), "loopback is behind no NAT");
        assert!(external.candidates(&host("name.local")).is_empty());
        assert!(External::new(ips.to_vec()).candidates(&candidate("10.0.0.5", RTCIceCandidateType::Relay)).is_empty());
    }
}
