//! Which STUN and TURN servers are asked, and with which credentials? Those whose URLs can be used (RFC 7064, RFC 7065).

use coplay_proto::signal::IceServer;
use rtc_ice::url::{ProtoType, SchemeType, Url};

/// One URL of a server.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// As it was given.
    #[cfg_attr(not(feature = "matchbox"), allow(dead_code, reason = "matchbox reads URLs by itself"))]
    pub(super) url: String,
    pub(super) host: String,
    pub(super) port: u16,
    /// Name and password, if it is a TURN server.
    pub(super) relay: Option<(String, String)>,
    /// Whether it is spoken with by UDP, as all are that we ask.
    pub(super) udp: bool,
}

/// The URLs of a server that can be used, each as a server. Others are passed over: one may be for somebody else.
pub(super) fn usable(server: &IceServer) -> Vec<Server> {
    let name = server.username.clone().unwrap_or_default();
    let password = server.credential.clone().unwrap_or_default();
    let read = |url: &String| {
        let parsed = Url::parse_url(url).ok()?;
        let turn = matches!(parsed.scheme, SchemeType::Turn | SchemeType::Turns);
        // <https://www.w3.org/TR/webrtc/#set-the-configuration>, step 11.3.2.
        if turn && (name.is_empty() || password.is_empty()) {
            return None;
        }
        Some(Server {
            url: url.clone(),
            udp: !parsed.is_secure() && parsed.proto == ProtoType::Udp,
            host: parsed.host,
            port: parsed.port,
            relay: turn.then(|| (name.clone(), password.clone())),
        })
    };
    let mut usable = Vec::new();
    for url in &server.urls {
        match read(url) {
            Some(server) => usable.push(server),
            None => {
                tracing::warn!(url, "left out an ICE server: its URL is wrong, or it lacks username and credential");
            }
        }
    }
    usable
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(urls: &[&str], credentials: Option<(&str, &str)>) -> IceServer {
        IceServer {
            urls: urls.iter().map(ToString::to_string).collect(),
            username: credentials.map(|(username, _)| username.into()),
            credential: credentials.map(|(_, credential)| credential.into()),
        }
    }

    /// The URLs that are taken of a server, each with what it is asked with.
    fn taken(server: &IceServer) -> Vec<(String, Option<(String, String)>)> {
        usable(server).into_iter().map(|server| (server.url, server.relay)).collect()
    }

    #[test]
    fn every_url_that_can_be_used_is_a_server_with_its_credentials() {
        let urls = [
            "stun:stun.example.org",
            "stun:192.0.2.1:3478",
            "turn:turn.example.org:3478?transport=udp",
            "turn:[2001:db8::1]",
            "turns:turn.example.org:5349?transport=tcp",
        ];
        for credentials in [("name", "secret"), ("1700000000:00000001", "c2VjcmV0")] {
            let with = Some((credentials.0.to_owned(), credentials.1.to_owned()));
            let expected = urls.map(|url| (url.to_owned(), if url.starts_with("turn") { with.clone() } else { None }));
            assert_eq!(taken(&server(&urls, Some(credentials))), expected);
        }
        assert_eq!(usable(&server(&urls, Some(("name", "secret")))).iter().filter(|it| it.udp).count(), 4);
        let literal = &usable(&server(&["turn:[2001:db8::1]"], Some(("name", "secret"))))[0];
        assert_eq!((literal.host.as_str(), literal.port), ("2001:db8::1", 3478));
        assert_eq!(taken(&server(&[], Some(("name", "secret")))), []);
    }

    #[test]
    fn turn_without_a_username_and_credential_is_left_out_and_stun_beside_it_is_not() {
        let urls = ["turn:192.0.2.1", "stun:192.0.2.1", "turns:192.0.2.1"];
        for credentials in [None, Some(("name", "")), Some(("", "secret"))] {
            let taken = taken(&server(&urls, credentials));
            assert_eq!(taken.iter().map(|(url, ..)| url.as_str()).collect::<Vec<_>>(), ["stun:192.0.2.1"]);
        }
    }

    #[test]
    fn what_is_no_url_of_an_ice_server_is_left_out() {
        let not_taken = [
            "",
            ":",
            "nonsense",
            "stun",
            "stun:",
            "stun://192.0.2.1",
            "http:example.org",
            "https://example.org",
            "STUNS+x:192.0.2.1",
            "stun:192.0.2.1?transport=udp",
            "stun:192.0.2.1:65536",
            "turn:192.0.2.1?transport=pigeon",
            "turn:192.0.2.1?transport=udp&transport=tcp",
            "turn:192.0.2.1?x=udp",
            "turn:[2001:db8::1",
            "\u{0}\u{ffff}",
        ];
        for url in not_taken {
            assert_eq!(taken(&server(&[url], Some(("name", "secret")))), [], "{url:?}");
        }
        let among = [&not_taken[..], &["stun:192.0.2.1"]].concat();
        assert_eq!(taken(&server(&among, Some(("name", "secret")))).len(), 1);
    }
}
