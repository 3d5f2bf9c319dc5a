//! What does a peer ask for, by the URL of its WebSocket?

use axum::{extract::Query, http::Uri};
use coplay_proto::{
    Topology,
    signal::{SignalError, query},
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
    /// The ticket it shows.
    pub(crate) ticket: Option<String>,
}

impl Ask {
    /// Reads a URL's path and query. A peer without the subprotocol who names no room is in the room named "", as in
    /// `matchbox_server`. A group has at most `room_peers`.
    pub(crate) fn read(uri: &Uri, coplay: bool, room_peers: u32) -> Result<Self, SignalError> {
        let mut ask = Self { room: room(uri.path())?, ..Self::default() };
        let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
            return Err(malformed("the query of the URL is not of the form name=value&name=value"));
        };
        for (name, value) in pairs {
            match name.as_str() {
                query::NEXT => ask.next = Some(count(query::NEXT, &value, room_peers)?),
                query::TICKET => ask.ticket = Some(value),
                query::MAX => ask.max = Some(count(query::MAX, &value, u32::MAX)?),
                query::EXISTING => {
                    ask.existing = match value.as_str() {
                        "1" => true,
                        "0" => false,
                        _ => return Err(malformed("existing is 1 (join only a room that is there) or 0")),
                    }
                }
                query::TOPOLOGY => {
                    ask.topology = match value.as_str() {
                        "host" => Some(Topology::Host),
                        "mesh" => Some(Topology::Mesh),
                        _ => return Err(malformed("topology is host or mesh")),
                    }
                }
                _ => (),
            }
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
