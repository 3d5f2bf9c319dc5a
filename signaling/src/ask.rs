//! What does a peer ask for, by the URL of its WebSocket?

use axum::{extract::Query, http::Uri};
use coplay_proto::{
    Topology,
    signal::{
        SignalError,
        lobby::{Credentials, Listing, MAX_MATCH, QuickMatch, Ticket},
        path, query,
    },
};
use percent_encoding::percent_decode_str;

use crate::wire::malformed;

/// The longest name of a room, in bytes.
pub const MAX_ROOM_NAME: usize = 64;

/// What a peer asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ask {
    /// The room's name; `None` asks for a new room.
    pub(crate) room: Option<String>,
    /// The size of its groups.
    pub(crate) next: Option<u32>,
    /// The topology, if the peer insists on one.
    pub(crate) topology: Option<Topology>,
    /// How many the room is to take, if the peer makes it.
    pub(crate) max: Option<u32>,
    /// Whether the room must be there.
    pub(crate) existing: bool,
    /// What it says about the room, if it makes it.
    pub(crate) listing: Listing,
    /// What it knows, and must not be in a URL.
    pub(crate) credentials: Credentials,
}

/// Where a URL leads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Where {
    Room(Ask),
    /// The public list.
    Lobbies,
    /// The queue for a match.
    Match(QuickMatch),
}

impl Where {
    /// Reads a URL as [`Ask::read`] does. What is no room is for peers with the subprotocol.
    pub(crate) fn read(uri: &Uri, coplay: bool, room_peers: u32) -> Result<Self, SignalError> {
        match uri.path() {
            path::LOBBIES if coplay => Ok(Self::Lobbies),
            path::MATCH if coplay => quick_match(uri, room_peers).map(Self::Match),
            _ => Ask::read(uri, coplay, room_peers).map(Self::Room),
        }
    }
}

fn quick_match(uri: &Uri, room_peers: u32) -> Result<QuickMatch, SignalError> {
    let mut size = None;
    let mut topology = None;
    let mut listing = Listing::default();
    for (name, value) in pairs(uri)? {
        match name.as_str() {
            query::SIZE => size = Some(count(query::SIZE, &value, room_peers.min(MAX_MATCH))?),
            query::TOPOLOGY => topology = Some(self::topology(&value)?),
            query::GAME => listing.game = value,
            query::VERSION => listing.version = value,
            _ => (),
        }
    }
    listing.check().map_err(malformed)?;
    let Some(size @ 2..) = size else { return Err(malformed("size is how many are to play: 2 or more")) };
    let Listing { game, version, .. } = listing;
    Ok(QuickMatch { game, version, size, topology: topology.unwrap_or_default() })
}

/// The ticket that a URL shows.
pub(crate) fn ticket(uri: &Uri) -> Result<Option<Ticket>, SignalError> {
    let shown = pairs(uri)?.into_iter().rfind(|(name, _)| name == query::TICKET);
    Ok(shown.map(|(_, ticket)| ticket.into()))
}

impl Ask {
    /// Reads a URL's path and query. A peer without the subprotocol who names no room is in the room named "", as in
    /// `matchbox_server`. A group has at most `room_peers`.
    pub(crate) fn read(uri: &Uri, coplay: bool, room_peers: u32) -> Result<Self, SignalError> {
        let mut ask = Self { room: room(uri.path())?, ..Self::default() };
        for (name, value) in pairs(uri)? {
            match name.as_str() {
                query::NEXT => ask.next = Some(count(query::NEXT, &value, room_peers)?),
                query::MAX => ask.max = Some(count(query::MAX, &value, u32::MAX)?),
                query::EXISTING => {
                    ask.existing = match value.as_str() {
                        "1" => true,
                        "0" => false,
                        _ => return Err(malformed("existing is 1 (join only a room that is there) or 0")),
                    }
                }
                query::TOPOLOGY => ask.topology = Some(topology(&value)?),
                query::PUBLIC => ask.listing.public = value == "1",
                query::GAME => ask.listing.game = value,
                query::VERSION => ask.listing.version = value,
                _ => {
                    if let Some(key) = name.strip_prefix(query::META) {
                        ask.listing.metadata.set(key, value).map_err(malformed)?;
                    }
                }
            }
        }
        ask.listing.check().map_err(malformed)?;
        if ask.next.is_some() && ask.listing.public {
            return Err(malformed("a room of groups (next) is not in the public list: leave one of the two out"));
        }
        if ask.next.is_some() && ask.existing {
            return Err(malformed("next meets whoever comes, existing only those who are there: ask for one of them"));
        }
        if ask.room.is_none() {
            if !coplay {
                ask.room = Some(String::new());
            } else if ask.next.is_some() || ask.existing {
                return Err(malformed("next and existing need a room: ws://HOST/ROOM?..."));
            }
        }
        Ok(ask)
    }
}

/// The room that a path names.
fn room(path: &str) -> Result<Option<String>, SignalError> {
    let name: Vec<u8> = percent_decode_str(path.trim_start_matches('/')).collect();
    let plain = |c: &u8| c.is_ascii_alphanumeric() || b"-_.~:@+".contains(c);
    match String::from_utf8(name) {
        Ok(name) if name.is_empty() => Ok(None),
        Ok(name) if name.len() <= MAX_ROOM_NAME && name.bytes().all(|c| plain(&c)) => Ok(Some(name)),
        _ => Err(malformed(format!(
            "the name of a room has 1 to {MAX_ROOM_NAME} of these: A-Z a-z 0-9 - _ . ~ : @ +, and follows the host: \
             ws://HOST/ROOM"
        ))),
    }
}

fn pairs(uri: &Uri) -> Result<Vec<(String, String)>, SignalError> {
    match Query::try_from_uri(uri) {
        Ok(Query(pairs)) => Ok(pairs),
        Err(_) => Err(malformed("the query of the URL is not of the form name=value&name=value")),
    }
}

fn topology(value: &str) -> Result<Topology, SignalError> {
    match value {
        "host" => Ok(Topology::Host),
        "mesh" => Ok(Topology::Mesh),
        _ => Err(malformed("topology is host or mesh")),
    }
}

fn count(name: &str, value: &str, most: u32) -> Result<u32, SignalError> {
    match value.parse() {
        Ok(count) if (1..=most).contains(&count) => Ok(count),
        _ if most == u32::MAX => Err(malformed(format!("{name} is how many peers: 1 or more"))),
        _ => Err(malformed(format!("{name} is how many peers: 1 to {most}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<Ask, SignalError> {
        Ask::read(&url.parse().unwrap(), true, 64)
    }

    #[test]
    fn a_url_says_what_a_peer_wants() {
        let room = Some("bumper-cars".to_owned());
        assert_eq!(read("/bumper-cars"), Ok(Ask { room: room.clone(), ..Ask::default() }));
        assert_eq!(read("/bumper%2Dcars?unknown=1"), Ok(Ask { room: room.clone(), ..Ask::default() }));
        let host = Ask { room: room.clone(), topology: Some(Topology::Host), max: Some(4), ..Ask::default() };
        assert_eq!(read("/bumper-cars?topology=host&max=4"), Ok(host));
        assert_eq!(read("/bumper-cars?next=2"), Ok(Ask { room: room.clone(), next: Some(2), ..Ask::default() }));
        assert_eq!(read("/bumper-cars?existing=1"), Ok(Ask { room, existing: true, ..Ask::default() }));
        assert_eq!(read("/"), Ok(Ask::default()));
        let stock = Ask::read(&"/?next=2".parse().unwrap(), false, 64);
        assert_eq!(stock, Ok(Ask { room: Some(String::new()), next: Some(2), ..Ask::default() }));
    }

    #[test]
    fn a_url_says_what_a_room_is_about_and_what_is_no_room() {
        let ask = read("/r?public=1&game=arena&version=0.1&meta.map=a%20hill&meta.mode=duel").unwrap();
        assert!(ask.listing.public);
        assert_eq!((ask.listing.game.as_str(), ask.listing.version.as_str()), ("arena", "0.1"));
        assert!(ask.listing.metadata.iter().eq([("map", "a hill"), ("mode", "duel")]));
        let place = |url: &str, coplay| Where::read(&url.parse().unwrap(), coplay, 64);
        assert_eq!(place("/-/lobbies", true), Ok(Where::Lobbies));
        let quick = QuickMatch { game: "a".into(), version: "1".into(), size: 4, topology: Topology::Host };
        assert_eq!(place(&quick.url(""), true), Ok(Where::Match(quick)));
        for url in ["/-/lobbies", "/-/match?size=2", "/-/other"] {
            assert!(place(url, false).is_err(), "{url}: no room has such a name");
        }
        for url in ["/r?ticket=t", "/-/lobbies?ticket=t", "/-/match?size=2&ticket=t", "/-/match?ticket=x&ticket=t"] {
            assert_eq!(ticket(&url.parse().unwrap()), Ok(Some("t".into())), "{url}");
        }
        assert_eq!(ticket(&"/r?next=2".parse().unwrap()), Ok(None));
        for url in ["/-/other", "/-/match", "/-/match?size=1", "/-/match?size=65", "/-/match?size=2&topology=x"] {
            assert!(place(url, true).is_err(), "{url}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let long = format!("/{}", "x".repeat(MAX_ROOM_NAME + 1));
        for url in [
            "/r?next=0",
            "/r?next=",
            "/r?next=-1",
            "/r?next=two",
            "/r?next=65",
            "/r?next=99999999999",
            "/r?max=0",
            "/r?max=x",
            "/r?existing=yes",
            "/r?topology=star",
            "/r?next=2&existing=1",
            "/r?next=2&public=1",
            "/r?meta.=x",
            "/r?meta.a%20b=x",
            "/r?meta.a=%00",
            &format!("/r?game={}", "x".repeat(65)),
            &format!("/r?version={}", "x".repeat(33)),
            "/?next=2",
            "/?existing=1",
            "/a/b",
            "/a%2Fb",
            "/a%00",
            "/%ff",
            "/a%20b",
            &long,
        ] {
            assert!(matches!(read(url), Err(SignalError::Malformed { .. })), "{url}");
        }
    }
}
