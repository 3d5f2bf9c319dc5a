//! To which addresses does a relay pass data on? Never into networks that only the server reaches (SSRF): whoever may
//! relay would reach them too.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
};

/// What only a machine in a cloud reaches, and asks for its own secrets.
const METADATA: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// IPv4 networks that are not of the internet (RFC 6890 and its registry), first address and length of the prefix.
const SPECIAL_V4: [(Ipv4Addr, u32); 12] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
];

/// IPv6 networks within `2000::/3` that are not of the internet, or carry an IPv4 address: IETF protocol assignments with
/// Teredo, documentation, 6to4.
const SPECIAL_V6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// The rules of one server.
#[derive(Debug)]
pub(crate) struct Rules {
    /// Whether private addresses, and this machine's, are relayed to as well.
    pub(crate) allow_private: bool,
    /// Every address of this machine.
    pub(crate) own: Vec<IpAddr>,
    /// The addresses and ports of its relays, which are all that is reached of it.
    pub(crate) relays: Vec<IpAddr>,
    pub(crate) ports: RangeInclusive<u16>,
}

impl Rules {
    /// Whether data is passed on to and from `peer`.
    pub(crate) fn permit(&self, peer: SocketAddr) -> bool {
        self.is_relay(peer) || self.permit_beyond(peer.ip())
    }

    /// Whether there may be a port of `ip` that data is passed on to.
    pub(crate) fn permit_some(&self, ip: IpAddr) -> bool {
        self.relays.contains(&ip) || self.permit_beyond(ip)
    }

    /// Whether a relay of this server has this address: two peers that both need one meet here.
    pub(crate) fn is_relay(&self, peer: SocketAddr) -> bool {
        self.relays.contains(&peer.ip()) && self.ports.contains(&peer.port())
    }

    fn permit_beyond(&self, ip: IpAddr) -> bool {
        if is_never(ip) {
            return false;
        }
        self.allow_private || !is_special(ip) && !self.own.contains(&ip)
    }
}

/// What is relayed to under no circumstances: no host in particular, many at once, or an IPv4 address in disguise.
fn is_never(ip: IpAddr) -> bool {
    METADATA.contains(&ip)
        || match ip {
            // 0.0.0.0/8 reaches the machine itself on some systems; 224.0.0.0/3 are groups, reserved, and everyone.
            IpAddr::V4(ip) => matches!(ip.octets(), [0 | 224..=255, ..]),
            // ::/8 has the unspecified address, and the mapped, compatible and translated (64:ff9b::/96) ones of IPv4.
            IpAddr::V6(ip) => ip.is_multicast() || ip.octets().starts_with(&[0]) && !ip.is_loopback(),
        }
}

fn is_special(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => SPECIAL_V4.iter().any(|(net, bits)| (ip.to_bits() ^ net.to_bits()) >> (32 - bits) == 0),
        // Of IPv6, 2000::/3 is all that is given out.
        IpAddr::V6(ip) => {
            ip.segments().first().is_none_or(|first| first >> 13 != 1)
                || SPECIAL_V6.iter().any(|(net, bits)| (ip.to_bits() ^ net.to_bits()) >> (128 - bits) == 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Section by section: this host, loopback, RFC 1918, shared (CGNAT), link-local, metadata, protocol assignments,
    /// documentation, 6to4 relays, benchmarks, multicast, reserved, broadcast; for IPv6 unspecified, loopback, mapped,
    /// compatible, translated, discard, Teredo, ORCHID, documentation, 6to4, unique local, link-local, site-local,
    /// multicast.
    const DENIED: &[&str] = &[
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "127.255.255.254",
        "10.0.0.1",
        "10.255.255.255",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "192.168.255.255",
        "100.64.0.1",
        "100.127.255.255",
        "169.254.0.1",
        "169.254.169.254",
        "100.100.100.200",
        "192.0.0.1",
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "192.88.99.1",
        "198.18.0.1",
        "198.19.255.255",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::808:808",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:20::1",
        "2001:db8::1",
        "3fff::1",
        "2002:7f00:1::",
        "fc00::1",
        "fd00:ec2::254",
        "fdff::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "5f00::1",
        "4000::1",
    ];

    const ALLOWED: &[&str] = &[
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.1",
        "100.63.255.255",
        "100.128.0.1",
        "126.1.1.1",
        "128.0.0.1",
        "169.253.1.1",
        "172.15.255.255",
        "172.32.0.1",
        "192.0.1.1",
        "192.167.1.1",
        "192.169.1.1",
        "198.17.255.255",
        "198.20.0.1",
        "223.255.255.255",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2003::1",
        "2606:4700::1",
        "3ffe::1",
    ];

    fn rules(allow_private: bool) -> Rules {
        let own = ["198.20.7.7", "10.0.0.5"].map(|ip| ip.parse().unwrap()).to_vec();
        let relays = vec!["198.20.7.7".parse().unwrap()];
        Rules { allow_private, own, relays, ports: 61_000..=61_999 }
    }

    fn at(ip: &str, port: u16) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), port)
    }

    #[test]
    fn nothing_passes_into_networks_that_are_not_of_the_internet() {
        for ip in DENIED {
            assert!(!rules(false).permit(at(ip, 5000)) && !rules(false).permit_some(ip.parse().unwrap()), "{ip}");
        }
        for ip in ALLOWED {
            assert!(rules(false).permit(at(ip, 5000)) && rules(false).permit_some(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn of_the_server_itself_nothing_is_reached_but_its_relays() {
        let rules = rules(false);
        for port in [0, 22, 80, 3536, 60_999, 62_000] {
            assert!(!rules.permit(at("198.20.7.7", port)), "{port}");
        }
        assert!(rules.permit(at("198.20.7.7", 61_000)) && rules.permit(at("198.20.7.7", 61_999)));
        assert!(rules.permit_some("198.20.7.7".parse().unwrap()), "for a permission has no port");
        assert!(!rules.permit(at("10.0.0.5", 61_000)) && !rules.permit_some("10.0.0.5".parse().unwrap()));
    }

    #[test]
    fn private_addresses_are_relayed_to_where_that_is_asked_for_but_no_nonsense() {
        let rules = rules(true);
        for ip in ["127.0.0.1", "10.0.0.5", "192.168.1.1", "100.64.0.1", "169.254.1.1", "fd00::1", "fe80::1", "::1"] {
            assert!(rules.permit(at(ip, 5000)), "{ip}");
        }
        let never = ["0.0.0.0", "224.0.0.1", "255.255.255.255", "169.254.169.254", "::", "ff02::1", "::ffff:10.0.0.1"];
        for ip in never.into_iter().chain(["64:ff9b::a00:1", "fd00:ec2::254"]) {
            assert!(!rules.permit(at(ip, 5000)), "{ip}");
        }
    }
}
