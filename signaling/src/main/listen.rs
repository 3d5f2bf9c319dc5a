//! What may be written where an address to listen at is asked for? `PORT`, `HOST:PORT` and `ADDRESS:PORT`.

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};

/// Reads `PORT`, which is at all IPv4 addresses of this machine, or what [`named`] reads.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<u16>() {
        Ok(port) => Ok((Ipv4Addr::UNSPECIFIED, port).into()),
        Err(_) => read(text, "3536, localhost:3536, 0.0.0.0:3536 or [::]:3536"),
    }
}

/// Reads `HOST:PORT` or `ADDRESS:PORT`: for what is not to be at all addresses unless somebody says so.
pub(crate) fn named(text: &str) -> Result<SocketAddr, String> {
    read(text, "127.0.0.1:9090 (this machine only) or 0.0.0.0:9090 (all interfaces)")
}

fn read(text: &str, examples: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    // An IPv6 address has brackets before a port; those that do not parse are no names either.
    let Some((host, port)) = parts.filter(|(host, _)| !host.is_empty() && !host.contains([':', '[', '/'])) else {
        return Err(format!("write an address and a port, such as {examples}"));
    };
    let found: Vec<_> = (host, port)
        .to_socket_addrs()
        .map_err(|error| format!("{host} is not known ({error}): write an address and a port, such as {examples}"))?
        .collect();
    // A name such as localhost may have both. Who writes it as a URL is led to either.
    let best = found.iter().find(|address| address.is_ipv4()).or_else(|| found.first());
    best.copied().ok_or_else(|| format!("{host} has no address: write one and a port, such as {examples}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_a_name_and_an_address_are_understood() {
        for (text, read) in [
            ("3536", "0.0.0.0:3536"),
            ("0", "0.0.0.0:0"),
            ("localhost:3536", "127.0.0.1:3536"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[::1]:3536", "[::1]:3536"),
        ] {
            assert_eq!(address(text), Ok(read.parse().unwrap()), "{text}");
        }
        assert_eq!(named("localhost:9090"), Ok("127.0.0.1:9090".parse().unwrap()));
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for text in ["", "nowhere", ":3536", "70000", "localhost:70000", "::1:3536", "ws://localhost:3536", "a:b"] {
            let error = address(text).unwrap_err();
            assert!(error.contains("such as 3536, localhost:3536"), "{text}: {error}");
        }
        let error = named("9090").unwrap_err();
        assert!(error.contains("127.0.0.1:9090"), "a port alone would be for everyone: {error}");
    }
}
