//! Which STUN and TURN servers is a peer told of, and with which credentials?

use std::{net::IpAddr, time::SystemTime};

use axum::http::uri::Authority;
use base64::{Engine, prelude::BASE64_STANDARD};
use coplay_proto::{PeerId, signal::IceServer};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use uuid::Uuid;

use crate::{Secret, StartError, Turn, turn::Relays};

/// The longest host name taken from a request, in bytes (RFC 1035, section 2.3.4).
const MAX_HOST: usize = 253;

/// The ICE servers of a signaling server.
#[derive(Debug)]
pub(crate) struct IceServers {
    stun_port: Option<u16>,
    fixed: Vec<IceServer>,
    turn: Option<Turn>,
    relays: Option<Relays>,
}

impl IceServers {
    pub(crate) fn new(stun_port: Option<u16>, fixed: Vec<IceServer>, turn: Option<Turn>) -> Result<Self, StartError> {
        for server in &fixed {
            let named = server.username.is_some() && server.credential.is_some();
            for url in &server.urls {
                if !(is_stun(url) || is_turn(url) && named) {
                    return Err(StartError::IceServer { url: url.clone() });
                }
            }
        }
        if let Some(turn) = &turn {
            if let Some(url) = turn.urls.iter().find(|url| !is_turn(url)) {
                return Err(StartError::TurnUrl { url: url.clone() });
            }
            if turn.urls.is_empty() || turn.secret.expose().is_empty() {
                return Err(StartError::TurnSecret);
            }
        }
        Ok(Self { stun_port, fixed, turn, relays: None })
    }

    /// The same, with the embedded TURN server.
    pub(crate) fn with_relays(self, relays: Option<Relays>) -> Self {
        Self { relays, ..self }
    }

    /// The embedded TURN server.
    pub(crate) fn relays(&self) -> Option<&Relays> {
        self.relays.as_ref()
    }

    /// Whether two peers that cannot reach each other have a server to meet at.
    pub(crate) fn can_relay(&self) -> bool {
        self.turn.is_some()
            || self.relays.is_some()
            || self.fixed.iter().flat_map(|server| &server.urls).any(|url| is_turn(url))
    }

    /// What `peer` is told, who reached this server as `host` (its `Host` header) at `now`.
    pub(crate) fn for_peer(&self, peer: PeerId, host: Option<&str>, now: SystemTime) -> Vec<IceServer> {
        let embedded = self
            .stun_port
            .zip(host.and_then(name_of).filter(|name| !is_local(name)))
            .map(|(port, name)| IceServer { urls: vec![format!("stun:{name}:{port}")], ..IceServer::default() });
        let turn = self.turn.as_ref().map(|turn| credentials(turn, peer, now));
        let relays = self.relays.as_ref().and_then(|relays| {
            let (secret, ttl) = relays.signing()?;
            let urls = relays.urls(host.and_then(name_of).as_deref());
            Some(credentials(&Turn { urls, secret: secret.clone(), ttl }, peer, now)).filter(|ice| !ice.urls.is_empty())
        });
        embedded.into_iter().chain(self.fixed.iter().cloned()).chain(turn).chain(relays).collect()
    }
}

/// Credentials that coturn and its like check without having heard of the peer (draft-uberti-behave-turn-rest-00):
/// the name says until when they hold, the password signs the name.
fn credentials(turn: &Turn, peer: PeerId, now: SystemTime) -> IceServer {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let username = format!("{}:{}", since.saturating_add(turn.ttl).as_secs(), Uuid::from(peer));
    let credential = password(&turn.secret, &username);
    IceServer { urls: turn.urls.clone(), username: Some(username), credential }
}

/// The password that goes with a name.
pub(crate) fn password(secret: &Secret, username: &str) -> Option<String> {
    let mut signer = Hmac::<Sha1>::new_from_slice(secret.expose().as_bytes()).ok()?;
    signer.update(username.as_bytes());
    Some(BASE64_STANDARD.encode(signer.finalize().into_bytes()))
}

/// The host of a `Host` header.
fn name_of(host: &str) -> Option<String> {
    let authority: Authority = host.parse().ok()?;
    let name = authority.host();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':' | '[' | ']' | '_');
    (!name.is_empty() && name.len() <= MAX_HOST && name.chars().all(plain)).then(|| name.to_owned())
}

/// Whether a name is of the peer's own machine, where what it would learn of its address is what it knows.
fn is_local(name: &str) -> bool {
    match name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback() || address.is_unspecified(),
        Err(_) => name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost"),
    }
}

fn is_stun(url: &str) -> bool {
    has_scheme(url, &["stun:", "stuns:"])
}

fn is_turn(url: &str) -> bool {
    has_scheme(url, &["turn:", "turns:"])
}

/// Whether `url` has one of `schemes`, and something after it (RFC 7064, RFC 7065).
fn has_scheme(url: &str, schemes: &[&str]) -> bool {
    schemes.iter().any(|scheme| url.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PEER: PeerId = PeerId::from_u128(7);

    fn turn() -> Turn {
        Turn { urls: vec!["turn:t.example:3478".into()], secret: "north".into(), ttl: Duration::from_secs(600) }
    }

    #[test]
    fn the_embedded_stun_server_has_the_name_that_the_peer_came_by() {
        let ice = IceServers::new(Some(3536), Vec::new(), None).unwrap();
        let url = |host| ice.for_peer(PEER, host, SystemTime::UNIX_EPOCH).pop().map(|server| server.urls[0].clone());
        assert_eq!(url(Some("play.example.org")).as_deref(), Some("stun:play.example.org:3536"));
        assert_eq!(url(Some("192.168.0.7:443")).as_deref(), Some("stun:192.168.0.7:3536"));
        assert_eq!(url(Some("[fe80::1]:80")).as_deref(), Some("stun:[fe80::1]:3536"));
        for nothing in
            ["localhost:3536", "127.0.0.1", "[::1]:3536", "a.LOCALHOST", "0.0.0.0:1", "", "a b", "x/y", "%00"]
        {
            assert_eq!(url(Some(nothing)), None, "{nothing}");
        }
        assert_eq!(url(None), None);
    }

    #[test]
    fn turn_credentials_are_those_that_coturn_expects() {
        let ice = IceServers::new(None, Vec::new(), Some(turn())).unwrap();
        let server = ice.for_peer(PEER, None, SystemTime::UNIX_EPOCH + Duration::from_secs(1000)).pop().unwrap();
        assert_eq!(server.username.as_deref(), Some("1600:00000000-0000-0000-0000-000000000007"));
        // printf %s "$username" | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(server.credential.as_deref(), Some("Hsyy+M6ovZLMwTHWWs/UprGctEI="));
    }

    #[test]
    fn what_peers_could_not_use_is_refused_at_the_start() {
        let fixed = |url: &str| {
            let server = IceServer { urls: vec![url.into()], ..IceServer::default() };
            IceServers::new(None, vec![server], None)
        };
        assert!(fixed("stun:stun.example.org").is_ok());
        assert!(matches!(fixed("stun.example.org"), Err(StartError::IceServer { .. })));
        assert!(matches!(fixed("turn:turn.example.org"), Err(StartError::IceServer { .. })), "nobody may use it");
        let turn = |turn| IceServers::new(None, Vec::new(), Some(turn));
        assert!(matches!(turn(Turn { secret: "".into(), ..self::turn() }), Err(StartError::TurnSecret)));
        assert!(matches!(turn(Turn { urls: vec!["stun:x".into()], ..self::turn() }), Err(StartError::TurnUrl { .. })));
        assert_eq!(format!("{:?}", self::turn().secret), "Secret(..)");
    }
}
