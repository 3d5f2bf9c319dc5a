//! From which address does a request come? From the one that connected, or, if that is a proxy we trust, from the one
//! that it says.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

/// How many proxies are followed back, one behind the other.
const MAX_HOPS: usize = 16;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Which reverse proxies are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// Their addresses or networks, such as `10.0.0.0/8`. Default none: what they say is ignored.
    pub trusted: Vec<IpNet>,
    /// Where they say whom they forward for.
    pub header: ForwardedHeader,
}

/// The header in which a proxy says for whom it forwards a request. Only one is read: a proxy that sets the one passes
/// on the other as the client made it up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For: CLIENT, PROXY`, what nginx, Caddy and most others set.
    #[default]
    XForwardedFor,
    /// `Forwarded: for=CLIENT, for=PROXY` (RFC 7239).
    Forwarded,
}

/// Reads an address or a network, such as `127.0.0.1`, `10.0.0.0/8` or `fd00::/8`.
pub fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("{text:?} is no address or network, such as 127.0.0.1 or 10.0.0.0/8"))
}

impl Proxies {
    /// Whether this one is believed.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// Who sent a request that came over a connection from `from`. The last proxy wrote the last entry, so it is read
    /// backwards until an entry is no proxy of ours; everything before may be made up.
    pub(crate) fn client(&self, from: SocketAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = from.ip().to_canonical();
        let name = match self.header {
            ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
            ForwardedHeader::Forwarded => header::FORWARDED,
        };
        let lines: Vec<_> = headers.get_all(name).iter().filter_map(|line| line.to_str().ok()).collect();
        let entries = lines.iter().rev().flat_map(|line| line.rsplit(','));
        for entry in entries.take(MAX_HOPS) {
            if !self.trusts(client) {
                break;
            }
            let node = match self.header {
                ForwardedHeader::XForwardedFor => Some(entry),
                ForwardedHeader::Forwarded => entry.split(';').find_map(|pair| {
                    let (name, value) = pair.split_once('=')?;
                    name.trim().eq_ignore_ascii_case("for").then_some(value)
                }),
            };
            match node.and_then(address) {
                Some(address) => client = address.to_canonical(),
                // "unknown", or an obfuscated name: the proxy's own address has to do.
                None => break,
            }
        }
        client
    }
}

/// Whether somebody says that he forwards this request.
pub(crate) fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.contains_key(X_FORWARDED_FOR)
        || headers.contains_key(header::FORWARDED)
        || headers.contains_key(header::VIA)
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `"[2001:db8::1]:80"` (RFC 7239, section 6).
fn address(node: &str) -> Option<IpAddr> {
    let node = node.trim().trim_matches('"');
    if let Ok(address) = node.parse() {
        return Some(address);
    }
    if let Ok(address) = node.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    node.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(proxies: &Proxies, from: &str, name: &'static str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, line.parse().unwrap());
        }
        proxies.client(SocketAddr::new(from.parse().unwrap(), 1), &headers).to_string()
    }

    fn trusting(header: ForwardedHeader) -> Proxies {
        Proxies { trusted: ["10.0.0.0/8", "fd00::1"].map(|text| network(text).unwrap()).to_vec(), header }
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let proxies = trusting(ForwardedHeader::XForwardedFor);
        let who = |from, lines: &[&str]| client(&proxies, from, "x-forwarded-for", lines);
        assert_eq!(who("192.0.2.9", &["198.51.100.1"]), "192.0.2.9", "who is no proxy says what it likes");
        assert_eq!(who("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(who("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(who("::ffff:10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(who("fd00::1", &["2001:db8::7"]), "2001:db8::7");
        assert_eq!(
            who("10.0.0.1", &["6.6.6.6, 198.51.100.1"]),
            "198.51.100.1",
            "6.6.6.6 is the client's own invention"
        );
        assert_eq!(who("10.0.0.1", &["6.6.6.6", "198.51.100.1, 10.9.9.9"]), "198.51.100.1", "two proxies");
        assert_eq!(who("10.0.0.1", &["6.6.6.6, unknown"]), "10.0.0.1");
        assert_eq!(client(&proxies, "10.0.0.1", "forwarded", &["for=6.6.6.6"]), "10.0.0.1", "the other header");
        assert_eq!(client(&Proxies::default(), "10.0.0.1", "x-forwarded-for", &["6.6.6.6"]), "10.0.0.1");
    }

    #[test]
    fn forwarded_is_read_as_the_rfc_has_it() {
        let proxies = trusting(ForwardedHeader::Forwarded);
        let who = |line| client(&proxies, "10.0.0.1", "forwarded", &[line]);
        assert_eq!(who("for=192.0.2.43"), "192.0.2.43");
        assert_eq!(who("For=\"[2001:db8:cafe::17]:4711\""), "2001:db8:cafe::17");
        assert_eq!(who("for=6.6.6.6, for=192.0.2.60;proto=https;by=203.0.113.43"), "192.0.2.60");
        assert_eq!(who("for=_hidden"), "10.0.0.1");
        assert_eq!(who("proto=https"), "10.0.0.1");
    }

    #[test]
    fn a_network_is_an_address_or_a_range() {
        for text in ["127.0.0.1", "10.0.0.0/8", "fd00::/8", " ::1 "] {
            assert!(network(text).is_ok(), "{text}");
        }
        for text in ["", "localhost", "10.0.0.0/33", "10.0.0"] {
            assert!(network(text).unwrap_err().contains("10.0.0.0/8"), "{text}");
        }
    }
}
